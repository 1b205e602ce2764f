"""What a model makes of a text: what it expected at each place, and what it looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from npllm.layers import log_softmax_forward
from npllm.layers.arrays import Array
from npllm.models import LanguageModel
from npllm.ngram import NgramLanguageModel
from npllm.text import BytePairTokenizer, Tokenizer
from npllm.text.tokenizers import encode_whole
from npllm.training.evaluation import Evaluation, scored_characters

MOST_TOKENS = 256  # what a page can show, and a browser draw
_ALL_BUT_G = [0, 1, 3]  # of i, f, g, o: g is no gate but what passes them


@dataclass(frozen=True)
class Inspection:
    """A text of T tokens, and the predictions for its places 1 to T; the first has none.

    Attributes:
        model: what it is, in words.
        ids: (T,) of the tokens.
        tokens: their texts; a byte that is no UTF-8 by itself is a lone surrogate, as Python's
            "surrogateescape" has it.
        characters: how many characters the tokens but the first are.
        log_probabilities: (T - 1,) in nats: what the model gave each token but the first.
        ranks: (T - 1,) of these tokens among all, from 1; of equally likely ones the smaller id
            comes first.
        top_ids: (T, K) the likeliest tokens after each token, the likeliest first.
        top_tokens: their texts; empty where the tokenizer has no such id.
        top_log_probabilities: (T, K) of them, in nats.
        attention: of each layer (N, T, T): how much of each token (the last axis) a token takes, in
            each head. Empty of a model without attention.
        gates: of each layer (T, 3): the means of the input, forget and output gates over the
            layer's cells. Empty of a model that is no LSTM.
    """

    model: str
    ids: Array
    tokens: tuple[str, ...]
    characters: int
    log_probabilities: Array
    ranks: Array
    top_ids: Array
    top_tokens: tuple[tuple[str, ...], ...]
    top_log_probabilities: Array
    attention: tuple[Array, ...]
    gates: tuple[Array, ...]

    @property
    def nats(self) -> Array:
        """(T - 1,) the loss of each token but the first."""
        return np.maximum(-self.log_probabilities, 0.0)  # no -0.0

    @property
    def bits(self) -> Array:
        """(T - 1,) the same in bits: the surprisal."""
        return self.nats / math.log(2)

    @property
    def whole(self) -> Evaluation:
        """The measures of the text as a whole."""
        return Evaluation(float(self.nats.sum()), len(self.nats), self.characters)


def inspect(
    model: LanguageModel | NgramLanguageModel, tokenizer: Tokenizer, text: str, *, top: int = 10
) -> Inspection:
    """Read a text once, and return what the model expected and looked at.

    Args:
        model: reads the text from its beginning, without dropout.
        tokenizer: the model's.
        text: at least one token, at most ``MOST_TOKENS`` and the model's context.
        top: K, how many of the likeliest tokens are kept.

    Raises:
        ValueError: the text is empty, too long, or has characters that the vocabulary lacks; or the
            model's numbers are not finite.

    >>> from npllm.models import LSTMLanguageModel
    >>> from npllm.text import CharacterTokenizer
    >>> model = LSTMLanguageModel(vocab_size=3, embed_size=2, hidden_size=2)
    >>> model.parameters["fc.weight"] = model.parameters["fc.bias"] = 0  # equal scores
    >>> found = inspect(model, CharacterTokenizer("abn"), "banana")
    >>> round(found.whole.perplexity, 6), found.ranks.tolist()
    (3.0, [1, 3, 1, 3, 1])
    """
    ids = encode_whole(tokenizer, text)
    check_length(len(ids), model.context)
    with np.errstate(over="ignore", invalid="ignore"):  # it would show in the logits
        logits, cache = model.forward(ids[None])
    if not np.isfinite(logits).all():
        raise ValueError("the model's logits are not finite: its training has diverged")
    log_p, _ = log_softmax_forward(logits[0].astype(np.float64))  # (T, V)
    order = np.argsort(-log_p, axis=-1, kind="stable")  # (T, V)
    top_ids = order[:, :top]
    ranks = (order[:-1] == ids[1:, None]).argmax(axis=-1) + 1
    views = model.views(cache)
    return Inspection(
        model=_described(model),
        ids=ids,
        tokens=tuple(token_text(tokenizer, i) for i in ids),
        characters=scored_characters(tokenizer, ids),
        log_probabilities=log_p[np.arange(len(ids) - 1), ids[1:]],
        ranks=ranks,
        top_ids=top_ids,
        top_tokens=tuple(tuple(token_text(tokenizer, i) for i in row) for row in top_ids),
        top_log_probabilities=np.take_along_axis(log_p, top_ids, axis=-1),
        attention=tuple(weights[0] for weights in views.attention),
        gates=tuple(gates[0].mean(axis=-1)[:, _ALL_BUT_G] for gates in views.gates),
    )


def check_length(tokens: int, context: int | None) -> None:
    """Raise ValueError unless a text of so many tokens can be read and shown."""
    if tokens == 0:
        raise ValueError("the text must hold at least one token, got none")
    if context is not None and tokens > context:
        raise ValueError(
            f"the model has {context} positions, and the text {tokens} tokens: shorten it"
        )
    if tokens > MOST_TOKENS:
        raise ValueError(f"the page has room for {MOST_TOKENS} tokens, and the text has {tokens}")


def token_text(tokenizer: Tokenizer, i: int) -> str:
    """Return a token's text, empty where a model has more ids than its tokenizer."""
    if i >= len(tokenizer.vocabulary):
        return ""
    if isinstance(tokenizer, BytePairTokenizer):
        return tokenizer.token_bytes[i].decode("utf-8", "surrogateescape")
    return tokenizer.vocabulary[i]


def _described(model: LanguageModel | NgramLanguageModel) -> str:
    """Return a model's kind and size in words."""
    if isinstance(model, NgramLanguageModel):
        return f"{type(model).__name__}, {model.summary}"
    c, vector = model.config, model.parameters.vector
    words = [type(model).__name__, f"{vector.size:,} parameters", f"{c['num_layers']} layers"]
    if "heads" in c:
        words.append(f"{c['heads']} heads")
    return ", ".join([*words, f"vocabulary {c['vocab_size']:,}", str(vector.dtype)])
