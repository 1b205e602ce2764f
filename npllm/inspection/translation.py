"""What a translator looked at, word by word, as a page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

import numpy as np

from npllm.inspection.measures import MOST_TOKENS, check_length, token_text
from npllm.inspection.page import beginning, visible
from npllm.layers import log_softmax_forward
from npllm.layers.arrays import Array
from npllm.models import AnyTranslator
from npllm.text.tokenizers import TrainedTokenizer
from npllm.training.translation import source_ids, translate


class TranslationInspection(NamedTuple):
    """A text, its translation, and what was looked at.

    Attributes:
        model: what it is, in a line.
        source: the tokens of the text.
        written: the tokens of the translation, and the end, which is empty.
        log_p: (T,) of each of these, given those before.
        attention: of each layer (N, T, S): how much of each of the source each of them took.
    """

    model: str
    source: list[str]
    written: list[str]
    log_p: Array
    attention: tuple[Array, ...]


def inspect_translation(
    model: AnyTranslator,
    source: TrainedTokenizer,
    target: TrainedTokenizer,
    text: str,
    tokens: int = MOST_TOKENS,
) -> TranslationInspection:
    """Translate a text, and return what the model looked at for each word.

    Args:
        model: translates.
        source: the tokenizer of texts.
        target: that of translations.
        text: to be translated.
        tokens: of the translation at most.

    Raises:
        ValueError: it is empty, or longer than the model has positions or a page has room.
    """
    ids = source_ids(source, text)
    check_length(len(ids), model.context)
    found = translate(model, ids, tokens=min(tokens, MOST_TOKENS))
    logits, cache = model.forward(ids[None], [len(ids)], [[model.mark, *found]])
    log_p, _ = log_softmax_forward(logits[0].astype(np.float64))
    written = [*found, model.mark]
    return TranslationInspection(
        f"{type(model).__name__}, {model.parameters.vector.size:,} parameters",
        [token_text(source, int(i)) for i in ids],
        [*(token_text(target, i) for i in found), ""],
        log_p[np.arange(len(written)), written],
        tuple(weights[0] for weights in model.views(cache).attention),
    )


def translation_page(found: TranslationInspection, name: str) -> str:
    """Return the page of a translation.

    Args:
        found: what is shown.
        name: of the model, as the user gave it.
    """
    parts = [
        *beginning(f"{name} translates", f"How <b>{escape(name)}</b> translates", found.model),
        '<section><h2>What it wrote</h2><p class="strip">',
        *(f'<span class="t">{visible(token)}</span>' for token in found.written[:-1]),
        "</p></section><section><h2>What it looked at</h2>",
        '<p class="hint">A row is a word that was written, how likely it was, and how much of its',
        "attention went to each word of the source; the last row is the end. Weights are percent.",
        "</p>",
    ]
    for number, layer in enumerate(found.attention):
        heads = len(layer)
        title = f"Layer {number}" if heads == 1 else f"Layer {number}, mean of {heads} heads"
        parts += [f"<h3>{title}</h3>", *_map(found, layer.mean(axis=0))]
        for head in range(heads if heads > 1 else 0):
            parts += [f"<details><summary>head {head}</summary>", *_map(found, layer[head])]
            parts.append("</details>")
    return "\n".join([*parts, "</section></main>", "</body></html>"]) + "\n"


def _map(found: TranslationInspection, weights: Array) -> Iterator[str]:
    """Yield a table: a row for each word written, a column for each of the source."""
    yield '<div class="wide"><table class="map"><tr><th>written<th>likely'
    yield "".join(f"<th>{visible(token)}" for token in found.source)
    for token, log_p, row in zip(found.written, found.log_p, weights, strict=True):
        shown = visible(token) if token else escape("the end")
        yield f"<tr><td>{shown}<td>{100 * np.exp(log_p):.0f}%"
        yield "".join(f'<td class="w" style="--w:{w:.3f}">{round(100 * w) or ""}' for w in row)
    yield "</table></div>"
