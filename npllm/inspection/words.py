"""Words as vectors: their neighbours, what a sentence makes of them, and a picture of them.

Section 2.3: a word's embedding is the same wherever it stands; what the layers above make of it
depends on the words around it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from npllm.layers.arrays import Array
from npllm.models.language_model import LanguageModel
from npllm.text.tokenizers import Ids, Tokenizer


class Neighbour(NamedTuple):
    """A token near to a vector.

    Attributes:
        id: of the token.
        cosine: of the angle between the two.
    """

    id: int
    cosine: float


def cosines(x: Array, y: Array) -> Array:
    """Return the cosine of the angle between x (..., E) and y (..., E); 0 where one is zero.

    >>> cosines(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([0.0, 2.0])).round(4).tolist()
    [0.0, 0.7071]
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return np.divide((x * y).sum(axis=-1), lengths, out=np.zeros(lengths.shape), where=lengths > 0)


def neighbours(
    table: Array, vector: Array, count: int = 10, leave_out: Collection[int] = ()
) -> list[Neighbour]:
    """Return the rows of a table whose direction is nearest to a vector's, the nearest first.

    Args:
        table: (V, E), the embeddings.
        vector: (E,).
        count: how many.
        leave_out: rows that are not asked, the word itself for one.

    >>> table = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> [n.id for n in neighbours(table, table[0], count=2, leave_out=[0])]
    [1, 2]
    """
    found = cosines(table, vector)
    order = [int(i) for i in np.argsort(-found, kind="stable") if i not in leave_out]
    return [Neighbour(i, float(found[i])) for i in order[:count]]


def principal_components(x: Array, count: int = 2) -> tuple[Array, Array]:
    """Return x (N, E) along its principal axes, (N, count), and their shares of the variance.

    With U S V^T = x - mean(x), the columns of U S: Pearson, "On lines and planes of closest fit"
    (1901). The sign of an axis is that which makes its largest coordinate positive.

    >>> line = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    >>> y, shares = principal_components(line)
    >>> y[:, 0].round(4).tolist(), shares.round(4).tolist()
    ([-2.2361, 0.0, 2.2361], [1.0, 0.0])
    """
    centred = np.asarray(x, np.float64) - np.mean(x, axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    y = (u * s)[:, :count]
    y = np.pad(y, ((0, 0), (0, max(0, count - y.shape[1]))))
    y = y * np.where(y[np.abs(y).argmax(axis=0), np.arange(y.shape[1])] < 0, -1.0, 1.0)
    shares = np.zeros(count)
    shares[: len(s)] = s[:count] ** 2
    return y, shares / max(float((s**2).sum()), np.finfo(np.float64).tiny)


def ids_of_word(tokenizer: Tokenizer, word: str) -> Ids:
    """Return the ids of a word: as it stands behind a space, where that is fewer tokens.

    Raises:
        ValueError: the word is empty, or is not in the vocabulary.
    """
    if not word.strip():
        raise ValueError("the word is empty")
    found: list[Ids] = []
    for text in (word, f" {word}"):
        try:
            found.append(tokenizer.encode(text))
        except ValueError:
            continue  # a vocabulary without spaces has no second form
    if not found or not len(found[0]):
        raise ValueError(f"the word {word!r:.80} is not in the vocabulary")
    return min(reversed(found), key=len)


def embedding_of(table: Array, ids: Ids) -> Array:
    """Return the embedding of a word: the mean of its tokens'."""
    mean: Array = table[ids].astype(np.float64).mean(axis=0)
    return mean


def place_of_word(tokenizer: Tokenizer, ids: Ids, text: str, word: str) -> int:
    """Return which token of a text ends a word, where it first stands by itself.

    Args:
        tokenizer: of the text.
        ids: of it.
        text: in which it stands.
        word: as it is written there.

    Raises:
        ValueError: it does not stand there.
    """
    whole = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)
    at = whole.start() if whole else text.find(word)
    if not word or at < 0:
        raise ValueError(f"the word {word!r:.80} does not stand in {text!r:.80}")
    end = at + len(word)
    for place in range(len(ids)):
        # a token may end within a character, which is another one until the next token
        if tokenizer.decode(ids[: place + 1].tolist())[:end] == text[:end]:
            return place
    return len(ids) - 1


def word_in_context(
    model: LanguageModel, tokenizer: Tokenizer, word: str, texts: Sequence[str]
) -> list[Array]:
    """Return what each layer makes of a word in each text, (N, E) a layer, the embedding first.

    It is the vector of the word's last token, which has seen all of the text up to it.

    Args:
        model: reads.
        tokenizer: of its vocabulary.
        word: stands in all of the texts.
        texts: N of them.

    Raises:
        ValueError: it stands not in one of them, or one is longer than the model has positions.
    """
    found: list[list[Array]] = []
    for text in texts:
        ids = tokenizer.encode(text)
        place = place_of_word(tokenizer, ids, text, word)
        found.append([layer[0, place] for layer in model.layers(ids[None])])
    return [np.stack(layer) for layer in zip(*found, strict=True)]


def agreement(layer: Array, labels: Sequence[str]) -> tuple[float, float, float]:
    """Return how well a layer tells the senses of a word apart.

    Args:
        layer: (N, E), the word in N texts.
        labels: the sense in each.

    Returns:
        The mean cosine of pairs of the same sense, that of pairs of different ones, and the share
        of texts whose nearest other has the same sense.

    Raises:
        ValueError: no two texts have the same sense, or no two have different ones.
    """
    same = np.array(labels)[:, None] == np.array(labels)
    other = ~np.eye(len(labels), dtype=bool)
    if not (same & other).any() or same.all():
        raise ValueError("two texts at least must have one label, and one another label")
    x = np.asarray(layer, np.float64)
    lengths = np.linalg.norm(x, axis=-1, keepdims=True)
    unit = np.divide(x, lengths, out=np.zeros(x.shape), where=lengths > 0)
    between = unit @ unit.T
    nearest = np.where(other, between, -np.inf).argmax(axis=1)
    hits = same[np.arange(len(labels)), nearest].mean()
    return float(between[same & other].mean()), float(between[~same].mean()), float(hits)
