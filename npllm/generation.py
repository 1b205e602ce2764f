"""Writing text: the next token drawn from the model's distribution, again and again.

One way for every model: a token is read once, and what the model keeps of it (an LSTM's state, a
Transformer's keys and values) is its state. Where a model has no more positions, it starts anew
from the latter half of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from npllm.layers import log_softmax_forward
from npllm.layers.arrays import Array
from npllm.models.language_model import Writer
from npllm.sampling import Sampling, check_logits
from npllm.text.tokenizers import Ids


def generate(
    model: Writer,
    prompt: Ids,
    tokens: int,
    rng: np.random.Generator,
    sampling: Sampling | None = None,
    *,
    stop: Collection[int] = (),
    cached: bool = True,
) -> Iterator[int]:
    """Yield token ids that continue a prompt, one at a time, as they are drawn.

    Args:
        model: is fed each token once; its state is carried along.
        prompt: (T,) at least one id.
        tokens: how many to draw at most.
        rng: draws them, one number a token.
        sampling: how; from the model's own distribution where None.
        stop: ids after which nothing follows; they are not yielded.
        cached: False feeds everything again for each token: the same tokens, for much more.

    Raises:
        ValueError: the prompt is empty or longer than the model's context, or ``tokens`` is
            negative.
    """
    rows = generate_batch(model, [prompt], tokens, [rng], sampling, stop=stop, cached=cached)
    return (token for (token,) in rows if token is not None)


def generate_batch(
    model: Writer,
    prompts: Sequence[Ids],
    tokens: int,
    rngs: Sequence[np.random.Generator],
    sampling: Sampling | None = None,
    *,
    stop: Collection[int] = (),
    cached: bool = True,
) -> Iterator[list[int | None]]:
    """Yield the next token of each prompt, None where it has ended; each row as if it were alone.

    Args:
        model: as for :func:`generate`, like the other arguments.
        prompts: of any lengths.
        tokens: how many to draw at most, for each.
        rngs: one for each prompt.
        sampling: see there.
        stop: see there.
        cached: see there.

    Raises:
        ValueError: there is no prompt, or an empty one, or one longer than the model's context;
            there is another number of Generators, or ``tokens`` is negative.
    """
    if len(prompts) == 0 or any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("prompt must hold at least one token, got none")
    if len(rngs) != len(prompts):
        raise ValueError(f"there must be a Generator for each prompt, got {len(rngs)}")
    if tokens < 0:
        raise ValueError(f"tokens must be 0 or more, got {tokens}")
    longest = max(map(len, prompts))
    if model.context is not None and longest > model.context:
        raise ValueError(
            f"the model has {model.context} positions, and the prompt {longest} tokens: shorten it"
        )
    return _generate(model, prompts, tokens, rngs, sampling or Sampling(), stop, cached)


def _generate(
    model: Writer,
    prompts: Sequence[Ids],
    tokens: int,
    rngs: Sequence[np.random.Generator],
    sampling: Sampling,
    stop: Collection[int],
    cached: bool,
) -> Iterator[list[int | None]]:
    history = [[int(token) for token in prompt] for prompt in prompts]
    reader = _Reader(model, cached)
    ended = [False] * len(history)
    for _ in range(tokens):
        logits = reader.read(history)
        drawn: list[int | None] = []
        for n, row in enumerate(history):
            token = None if ended[n] else sampling.draw(logits[n], rngs[n], row)
            if token is None or token in stop:
                ended[n], token = True, None
            drawn.append(token)
            row.append(row[-1] if token is None else token)  # a row that has ended marks time
        if all(ended):
            return
        yield drawn


class _Reader:
    """Feeds a model what it has not read, and begins anew where it has no more positions."""

    def __init__(self, model: Writer, cached: bool) -> None:
        self.model, self.cached = model, cached
        self.state: Any = None
        self.read_up_to: list[int] = []
        self.starts: list[int] = []

    def read(self, history: Sequence[list[int]]) -> Array:
        """Return the logits (B, V) after each row."""
        self.starts = self.starts or [0] * len(history)
        context = self.model.context
        longest = max(len(row) - start for row, start in zip(history, self.starts, strict=True))
        if context is not None and longest > context:
            kept, pairs = max(1, context // 2), zip(history, self.starts, strict=True)
            self.starts = [
                len(r) - kept if len(r) - start > context else start for r, start in pairs
            ]
            self.state = None
        if self.state is None or not self.cached:
            self.state, self.read_up_to = None, self.starts
        pairs = zip(history, self.read_up_to, strict=True)
        new = [row[start:] for row, start in pairs]
        lengths = np.array([len(row) for row in new])
        ids = np.zeros((len(new), lengths.max()), np.int64)
        for n, row in enumerate(new):
            ids[n, : len(row)] = row
        ragged = lengths if (lengths < ids.shape[1]).any() else None
        with np.errstate(over="ignore", invalid="ignore"):  # it would show in the logits
            logits, self.state = self.model.predict(ids, self.state, lengths=ragged, last=True)
        self.read_up_to = [len(row) for row in history]
        return logits[:, 0]


class Beam(NamedTuple):
    """A continuation, and how likely it is.

    Attributes:
        ids: the tokens drawn, without the stop token that ended them.
        log_probability: of them and of the stop token, in nats.
    """

    ids: list[int]
    log_probability: float


def beam_search(
    model: Writer,
    prompt: Ids,
    tokens: int,
    beams: int,
    *,
    stop: Collection[int] = (),
    length_penalty: float = 0.0,
    state: object = None,
) -> list[Beam]:
    """Return the likeliest continuations that a search of some width finds, the best first.

    At each step every beam is continued by every token, and the best are kept; a continuation by a
    stop token is finished. With as many beams as there are continuations nothing is missed.

    Args:
        model: predicts.
        prompt: (T,) at least one id.
        tokens: how many to choose at most.
        beams: how many continuations are kept.
        stop: ids that finish a continuation.
        length_penalty: a finished one is ranked by its log-probability over its length to this
            power (Wu et al., "Google's Neural Machine Translation System" (2016), section 7, in
            its simple form); 0 ranks by the probability itself.
        state: that the model begins with, of one row: a translator's is what it read.

    Raises:
        ValueError: the prompt is empty, ``beams`` is below 1, or the context of the model is too
            short for the prompt and the tokens.
    """
    if len(prompt) == 0:
        raise ValueError("prompt must hold at least one token, got none")
    if beams < 1 or tokens < 0:
        raise ValueError(f"beams must be 1 or more and tokens 0 or more, got {beams} and {tokens}")
    if model.context is not None and len(prompt) + tokens > model.context:
        raise ValueError(
            f"the model has {model.context} positions, too few for {len(prompt)} and {tokens} more"
            ": search fewer tokens, or from a shorter prompt"
        )

    def rank(beam: Beam) -> float:
        return beam.log_probability / max(len(beam.ids), 1) ** length_penalty

    finished: list[Beam] = []
    alive = [Beam([], 0.0)]
    ids: Any = np.asarray(prompt)[None]
    for _ in range(tokens):
        logits, state = model.predict(ids, state, last=True)
        check_logits(logits)
        log_p, _ = log_softmax_forward(logits[:, 0].astype(np.float64))  # (beams, V)
        totals = log_p + np.array([[beam.log_probability] for beam in alive])
        best = largest(totals, beams + beams * len(stop))
        rows: list[int] = []
        following: list[Beam] = []
        for row, token in zip(*np.unravel_index(best, totals.shape), strict=True):
            chosen = Beam([*alive[row].ids, int(token)], float(totals[row, token]))
            if int(token) in stop:
                finished.append(Beam(chosen.ids[:-1], chosen.log_probability))
            elif len(following) < beams and chosen.log_probability > -np.inf:
                following.append(chosen)
                rows.append(int(row))
        alive = following
        if not alive:
            break
        worst = sorted(map(rank, finished))[-beams:][:1]
        # what is alive only grows less likely, and is ranked by no more than all of the tokens
        hope = max(beam.log_probability for beam in alive) / max(tokens, 1) ** length_penalty
        if len(finished) >= beams and hope <= worst[0]:
            break
        state = model.rows_of_state(state, rows)
        ids = np.array([[beam.ids[-1]] for beam in alive])
    return sorted([*finished, *alive], key=rank, reverse=True)[:beams]


def largest(numbers: Array, most: int) -> Ids:
    """Return the flat places of the largest numbers, the first of equals first.

    What a stable sort finds, without sorting the rest.

    >>> largest(np.array([[1.0, 3.0], [3.0, 2.0]]), 3).tolist()
    [1, 2, 3]
    """
    flat = numbers.ravel()
    if most < flat.size:
        least = np.partition(flat, -most)[-most]
        places = np.flatnonzero(flat >= least)
    else:
        places = np.arange(flat.size)
    return places[np.argsort(-flat[places], kind="stable")[:most]]
