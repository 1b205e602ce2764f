"""KenLM's Python module, which reads ARPA files: the same scores, of what npllm writes."""

import math

import numpy as np
import pytest

from npllm.ngram import NgramLanguageModel
from npllm.ngram.arpa import write_arpa
from npllm.text import WhitespaceTokenizer, load_text

# KenLM keeps float32, and sums up to 5 of them, of up to some 10 each
CLOSE = 10 * 5 * float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def text():
    return load_text()[:60_000]


@pytest.mark.parametrize("smoothing", ["witten-bell", "kneser-ney"])
@pytest.mark.parametrize("order", [2, 3, 5])
def test_it_scores_as_npllm_does(oracle, tmp_path, text, smoothing, order):
    kenlm = oracle("kenlm")
    tokenizer = WhitespaceTokenizer.train(text[:40_000])
    ids = tokenizer.encode(text[:40_000])
    model = NgramLanguageModel.count(
        ids, len(tokenizer.vocabulary), order=order, smoothing=smoothing, end=0
    )
    write_arpa(tmp_path / "model.arpa", model, tokenizer.vocabulary)
    theirs = kenlm.Model(str(tmp_path / "model.arpa"))
    unknown = 0
    for line in text.splitlines():  # of which a third was not counted
        scores = list(theirs.full_scores(line, bos=True, eos=True))
        words = tokenizer.encode(f"\n{line}\n")
        log_p, _ = model.log_probabilities([words[:-1]], [words[1:]])
        assert log_p[0] / math.log(10) == pytest.approx([s[0] for s in scores], abs=CLOSE)
        assert [is_unknown for *_, is_unknown in scores] == [i == 1 for i in words[1:]]
        unknown += int((words == 1).sum())
    assert unknown > 100
