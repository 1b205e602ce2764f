"""A picture of words: their embeddings along the two principal axes."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from npllm.figures import escaped, fonts_for, new_figure, save_figure
from npllm.inspection.words import embedding_of, ids_of_word, principal_components
from npllm.models.language_model import LanguageModel
from npllm.text.tokenizers import Tokenizer

MOST = 80  # words that are shown where nobody names them


def usual_words(tokenizer: Tokenizer, size: int) -> list[str]:
    """Return the first words of a vocabulary: tokens of three letters or more, or of Chinese.

    Args:
        tokenizer: of the vocabulary.
        size: V.

    Raises:
        ValueError: there are fewer than three.
    """
    words: dict[str, None] = {}
    for i in range(size):
        word = tokenizer.decode([i]).strip()
        if word.isalpha() and (len(word) > 2 or not word.isascii()):
            words[word] = None
        if len(words) == MOST:
            break
    if len(words) < 3:
        raise ValueError("the vocabulary has no words, only characters: name some of these")
    return list(words)


def plot_embeddings(
    out: str | os.PathLike[str], model: LanguageModel, tokenizer: Tokenizer, words: Sequence[str]
) -> None:
    """Draw the embeddings of words as PNG.

    Args:
        out: the file, which is replaced.
        model: whose embeddings they are.
        tokenizer: of its vocabulary.
        words: three or more.

    Raises:
        OSError: the file cannot be written.
        ValueError: they are fewer, one is unknown, or matplotlib or a font is missing.
    """
    if len(words) < 3:
        raise ValueError(f"a picture needs three words or more, got {len(words)}")
    table = model.parameters[model.TOKENS]
    vectors = np.stack([embedding_of(table, ids_of_word(tokenizer, word)) for word in words])
    places, shares = principal_components(vectors)
    figure = new_figure(9, 7)
    axes = figure.subplots()
    axes.scatter(places[:, 0], places[:, 1], s=4, color="0.6")
    family = fonts_for(words)
    for word, (x, y) in zip(words, places, strict=True):
        axes.annotate(escaped(word), (x, y), fontsize=9, fontfamily=family)
    axes.set(
        xlabel=f"first axis, {shares[0]:.1%} of the variance",
        ylabel=f"second axis, {shares[1]:.1%}",
    )
    save_figure(figure, out)
