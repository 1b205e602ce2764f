"""What the models of the certificate see: texts, labels and pairs, ended as they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npllm.evidence.batches import draw_batch
from npllm.evidence.case import Batch, Configuration
from npllm.models import KINDS

SIZES = {"vocab_size": 7, "classes": 3, "source_size": 5}


def drawn(kind: str, **options: Any) -> Batch:
    configuration = Configuration("", SIZES, batch_size=4, steps=6, **options)
    return draw_batch(KINDS[kind], configuration, np.random.default_rng(0))


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("classifier")])
def test_texts_have_labels(kind: str, lengths: bool) -> None:
    batch = drawn(kind, lengths=lengths)
    ids, ends = batch.inputs
    assert ids.shape == (4, 6)
    assert batch.targets.shape == (4,)
    assert (batch.targets < 3).all()
    assert sorted(ends) == ([1, 3, 4, 6] if lengths else [6] * 4)


@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith("translator")])
def test_pairs_begin_and_end_with_the_mark(kind: str, lengths: bool) -> None:
    batch = drawn(kind, lengths=lengths)
    source, ends, ids = batch.inputs
    assert source.shape == (4, 7)
    assert ids.shape == batch.targets.shape == (4, 6)
    assert sorted(ends) == ([1, 3, 5, 7] if lengths else [7] * 4)
    words = []
    for row, goal in zip(ids, batch.targets, strict=True):
        end = int(np.flatnonzero(goal == 7)[0])
        words.append(end)
        assert row[0] == 7
        np.testing.assert_array_equal(row[1 : end + 1], goal[:end])  # what follows each id
        assert (goal[:end] < 7).all()
        assert (goal[end + 1 :] == -100).all()
        assert (row[end + 1 :] == 7).all()
    assert sorted(words) == ([0, 2, 3, 5] if lengths else [5] * 4)
    some = drawn(kind, lengths=lengths, ignored=0.5).targets
    assert (some == -100).sum() > (batch.targets == -100).sum()


def test_texts_have_targets() -> None:
    for ignored, lengths, most in ((0.0, False, 0), (0.0, True, 12), (0.5, False, 24)):
        batch = drawn("gpt", ignored=ignored, lengths=lengths)
        (ids,) = batch.inputs
        assert ids.shape == batch.targets.shape == (4, 6)
        hidden = int((batch.targets == -100).sum())
        assert hidden == most if ignored == 0 else 0 < hidden < most
