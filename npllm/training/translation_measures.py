"""How good translations are: BLEU and chrF, by sacrebleu, and what they have to beat."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from npllm.extras import missing
from npllm.text.paired import Paired

GRAM = 3  # characters by whose overlap texts are near


def check_installed() -> None:
    """Raise ValueError unless sacrebleu is there."""
    if importlib.util.find_spec("sacrebleu") is None:
        raise missing("BLEU and chrF need sacrebleu", "sacrebleu", "translate")


def measured(found: Sequence[str], right: Sequence[str]) -> tuple[float, float]:
    """Return BLEU and chrF of translations.

    Papineni et al., "BLEU" (2002); Popovic, "chrF" (2015). Chinese references are cut in characters
    by sacrebleu's own rule, ``tokenize="zh"``.

    Args:
        found: the translations.
        right: what they should be.

    Raises:
        ImportError: sacrebleu is missing, see :func:`check_installed`.
    """
    import sacrebleu

    chinese = any("\u4e00" <= character <= "\u9fff" for text in right for character in text)
    bleu = sacrebleu.corpus_bleu(found, [right], tokenize="zh" if chinese else "13a")
    chrf = sacrebleu.corpus_chrf(found, [right])
    return float(bleu.score), float(chrf.score)


def nearest(known: Paired, texts: Sequence[str]) -> list[str]:
    """Return the translation of the pair whose source is nearest, for each text.

    Near is the cosine of the counts of three characters in a row.

    >>> nearest(Paired(["good day", "a cat"], ["guten Tag", "eine Katze"]), ["the cat", "day"])
    ['eine Katze', 'guten Tag']
    """
    places: dict[str, int] = {}
    one = _counts(known.sources, places, grow=True)
    other = _counts(texts, places, grow=False)
    one.resize(one.shape[0], len(places))
    other.resize(other.shape[0], len(places))
    best = []
    for start in range(0, other.shape[0], 256):
        best += (other[start : start + 256] @ one.T).toarray().argmax(axis=1).tolist()
    return [known.targets[i] for i in best]


def _counts(texts: Sequence[str], places: dict[str, int], *, grow: bool) -> sparse.csr_matrix:
    """Return the counts (N, G) of the grams of texts, each row of length 1."""
    rows, columns = [], []
    for n, text in enumerate(texts):
        padded = f" {text} "
        for i in range(len(padded) - GRAM + 1):
            gram = padded[i : i + GRAM]
            place = places.setdefault(gram, len(places)) if grow else places.get(gram)
            if place is not None:
                rows.append(n)
                columns.append(place)
    counts = sparse.csr_matrix(
        (np.ones(len(rows)), (rows, columns)), (len(texts), max(1, len(places)))
    )
    norms = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    return sparse.diags(1 / np.where(norms > 0, norms, 1)) @ counts
