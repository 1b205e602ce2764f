"""The n-gram language model: a word depends on the few before it, and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array, check_ids
from npllm.models.language_model import Views, last_tokens
from npllm.ngram.counts import NONE, UNSEEN, Integers, count, find
from npllm.ngram.smoothing import SMOOTHINGS, Table, smooth


class NgramLanguageModel:
    """p(w_t | w_1 ... w_(t-1)) = p(w_t | w_(t-n+1) ... w_(t-1)), section 2.1's Markov assumption.

    It predicts and scores as every model does; its state is the last n - 1 words. What has not been
    seen after a history is as likely as after the shorter one, times the history's weight b.

    Args:
        tables: the n-grams of each order from 1, see :func:`npllm.ngram.smoothing.smooth`. The
            first has a row for each word, and for the mark of a beginning the last.
        smoothing: by which they were made; "arpa" where they were read.
        end: the word that ends a sentence, after which the next one begins; None where the text is
            one sentence.

    Attributes:
        config: what it is, for JSON.
        tables: as given.
        end: as given.
        hands_on: whether what is left goes to the shorter history, and not at once to the uniform
            distribution.

    >>> model = NgramLanguageModel.count([0, 1, 0, 1, 0], 2, order=2, smoothing="witten-bell")
    >>> log_p, _ = model.predict([[0]])
    >>> np.exp(log_p[0, 0]).round(12).tolist()  # after 0 came 1, twice: (2 + p(1)) / (2 + 1)
    [0.190476190476, 0.809523809524]
    """

    context = None  # it reads on without end

    def __init__(
        self, tables: Sequence[Table], smoothing: str = "arpa", end: int | None = None
    ) -> None:
        self.tables, self.end = list(tables), end
        self._mark = len(tables[0].codes) - 1
        self.hands_on = smoothing != "add-k"
        self.config: dict[str, Any] = {
            "vocab_size": self._mark,
            "order": len(tables),
            "smoothing": smoothing,
            "end": end,
        }

    @classmethod
    def count(
        cls,
        ids: npt.ArrayLike,
        vocab_size: int,
        *,
        order: int,
        smoothing: str = "kneser-ney",
        k: float = 1.0,
        end: int | None = None,
    ) -> NgramLanguageModel:
        """Return the model of a text.

        Args:
            ids: (T,) its words.
            vocab_size: V.
            order: n, how many words an n-gram has at most.
            smoothing: "add-k", "witten-bell" or "kneser-ney", the modified one.
            k: what add-k adds.
            end: the word that ends a sentence, where the text has such.

        Raises:
            ValueError: a number is out of its range, or the text has no word.
        """
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        if not (k > 0 and math.isfinite(2 * k * vocab_size)):  # twice: counts are added to it
            raise ValueError(f"k must be positive and finite, times the vocabulary too, got {k}")
        text = check_ids(ids, vocab_size).astype(np.int64)
        if not text.size:
            raise ValueError("a text must have at least one word to be counted, got none")
        beginnings = [0] if end is None else [0, *(np.flatnonzero(text[:-1] == end) + 1)]
        marked = np.insert(text, beginnings, vocab_size)
        grams = count(marked, vocab_size + 1, order)
        return cls(smooth(grams, vocab_size + 1, smoothing, k), smoothing, end)

    @classmethod
    def load(cls, config: Mapping[str, Any], arrays: Mapping[str, Array]) -> NgramLanguageModel:
        """Return the model of a config and arrays that were saved.

        Raises:
            KeyError: an array is missing.
            ValueError: they are not those of a model.
        """
        longest, smoothing, end = config["order"], config["smoothing"], config["end"]
        histories, words = 1, config["vocab_size"] + 1
        known = type(longest) is int and longest > 0 and smoothing in (*SMOOTHINGS, "arpa")
        if not known or (end is not None and end not in range(words - 1)):
            raise ValueError(f"its config is {dict(config)}")
        tables = [
            Table(*(arrays[f"{order}.{name}"] for name in Table._fields))
            for order in range(1, longest + 1)
        ]
        for order, (codes, log_p, log_b) in enumerate(tables, 1):
            size = len(codes)
            shapes = {codes.shape, log_p.shape, log_b.shape}
            if shapes != {(size,)} or (order == 1 and size != words):
                raise ValueError(f"its {order}-grams have the shapes {sorted(shapes)}")
            inside = codes[0] >= 0 and codes[-1] < histories * words if size else True
            if not inside or not (codes[1:] > codes[:-1]).all():
                raise ValueError(f"the codes of its {order}-grams are not in order")
            if not (log_p <= 0).all() or not (log_b < np.inf).all():
                raise ValueError(f"its {order}-grams have logarithms of no probabilities")
            histories = size
        return cls(tables, smoothing, end)

    @property
    def arrays(self) -> dict[str, Array]:
        """What :meth:`load` makes the same model of."""
        return {
            f"{order}.{name}": array
            for order, table in enumerate(self.tables, 1)
            for name, array in table._asdict().items()
        }

    @property
    def order(self) -> int:
        """n, how many words an n-gram has at most."""
        return len(self.tables)

    @property
    def summary(self) -> str:
        """What it is, in words."""
        of = self.config["smoothing"]
        return f"{self.size:,} n-grams to order {self.order}, {of}, vocabulary {self._mark:,}"

    @property
    def size(self) -> int:
        """How many n-grams it has, of all orders."""
        return sum(len(table.codes) for table in self.tables)

    def initial_state(self, batch: int) -> Integers:
        """Return the state (B, n - 1) before a text: nothing, or the end of another sentence."""
        state = np.full((batch, self.order - 1), NONE)
        if self.end is not None:
            state[:, -1:] = self.end
        return state

    def rows_of_state(self, state: Integers, rows: npt.ArrayLike | slice) -> Integers:
        """Return the state of some of the batch's rows, in any order, repeated or not."""
        kept: Integers = state[rows if isinstance(rows, slice) else np.asarray(rows)]
        return kept

    def predict(
        self,
        ids: npt.ArrayLike,
        state: Integers | None = None,
        *,
        lengths: npt.ArrayLike | None = None,
        last: bool = False,
    ) -> tuple[Array, Integers]:
        """Return log p (B, T, V), or (B, 1, V) after each row's last word, and the last words.

        Args:
            ids: (B, T).
            state: what an earlier call returned; that before a text where None.
            lengths: (B,) how many words of each row are real; all where None.
            last: whether only what follows the last word is asked for.

        Raises:
            ValueError: an id is not in [0, V), or a row has no word.
        """
        words, histories = self._read(ids, state)
        steps = words.shape[1] - (self.order - 1)
        ends = np.broadcast_to(last_tokens(steps, lengths), len(words))[:, None]  # (B, 1)
        places = ends if last else np.broadcast_to(np.arange(steps), (len(words), steps))
        asked = [np.take_along_axis(history, places, axis=1) for history in histories]
        log_p = np.empty((*places.shape, self._mark))
        for place in np.ndindex(*places.shape):
            log_p[place] = self._distribution([int(history[place]) for history in asked])
        after = ends + 1 + np.arange(self.order - 1)
        return log_p, np.take_along_axis(words, after, axis=1)

    def forward(self, ids: npt.ArrayLike, state: Integers | None = None) -> tuple[Array, None]:
        """Return log p (B, T, V), and nothing for a backward, which there is not."""
        return self.predict(ids, state)[0], None

    def views(self, _: None) -> Views:
        """Return what there is to see of a forward: nothing but its result."""
        return Views()

    def score(
        self, ids: npt.ArrayLike, targets: npt.ArrayLike, state: Integers | None = None
    ) -> tuple[float, Integers]:
        """Return the summed -log p of the targets but those that are -100, and the last words.

        Args:
            ids: (B, T).
            targets: (B, T), what follows each.
            state: as for :meth:`predict`.
        """
        counted = np.asarray(targets) != -100
        log_p, after = self.log_probabilities(ids, np.where(counted, targets, 0), state)
        return -float(log_p[counted].sum()), after

    def log_probabilities(
        self, ids: npt.ArrayLike, targets: npt.ArrayLike, state: Integers | None = None
    ) -> tuple[Array, Integers]:
        """Return log p (B, T) of each target, and the last words.

        Args:
            ids: (B, T).
            targets: (B, T), what follows each.
            state: as for :meth:`predict`.
        """
        words, histories = self._read(ids, state)
        log_p = self._log_p(histories, check_ids(targets, self._mark, "targets").astype(np.int64))
        return log_p, words[:, words.shape[1] - (self.order - 1) :]

    def _read(self, ids: npt.ArrayLike, state: Integers | None) -> tuple[Integers, list[Integers]]:
        """Return the state with the ids behind it, and the ranks of the histories after each id.

        The histories are of 1 to n - 1 words, UNSEEN in the text that was counted, or NONE where
        the sentence has not so many.
        """
        read = check_ids(ids, self._mark).astype(np.int64)
        before = self.initial_state(len(read)) if state is None else state
        words = np.concatenate([before, read], axis=1)
        seen = words if self.end is None else np.where(words == self.end, self._mark, words)
        histories = [seen]  # of no use to an order of 1
        for table in self.tables[1:-1]:
            prefixes = np.full(seen.shape, NONE)
            prefixes[:, 1:] = histories[-1][:, :-1]
            prefixes[seen == self._mark] = NONE  # where a sentence begins
            histories.append(find(table.codes, self._mark + 1, prefixes, seen))
        return words, [history[:, self.order - 1 :] for history in histories]

    def _log_p(self, histories: list[Integers], words: Integers) -> Array:
        """Return log p of words (B, T) after their histories."""
        log_p = self.tables[0].log_p[words]
        for shorter, table, history in zip(self.tables, self.tables[1:], histories, strict=False):
            lower = log_p.copy() if self.hands_on else np.full(log_p.shape, -math.log(self._mark))
            seen = history >= 0
            lower[seen] += shorter.log_b[history[seen]]
            ranks = find(table.codes, self._mark + 1, history, words)
            counted = ranks >= 0
            lower[counted] = table.log_p[ranks[counted]]
            log_p = np.where(history == NONE, log_p, lower)
        return log_p

    def _distribution(self, histories: list[int]) -> Array:
        """Return log p (V,) of every word after the n - 1 histories of a place."""
        log_p = self.tables[0].log_p[:-1]
        for shorter, table, history in zip(self.tables, self.tables[1:], histories, strict=False):
            if history == NONE:
                break
            log_p = log_p.copy() if self.hands_on else np.full(self._mark, -math.log(self._mark))
            if history != UNSEEN:
                log_p += shorter.log_b[history]
                words = self._mark + 1
                begin, end = np.searchsorted(table.codes, [history * words, (history + 1) * words])
                log_p[table.codes[begin:end] % words] = table.log_p[begin:end]
        return log_p
