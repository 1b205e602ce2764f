"""``npllm evaluate --written``: measures of what a model writes."""

import numpy as np
import pytest

from npllm.checkpoint import load_model
from npllm.generation import generate
from npllm.text import load_text
from npllm.training.written import variety

pytest_plugins = ["tiny_run"]


def test_variety_is_counted():
    ids = np.random.default_rng(0).integers(0, 6, 400)
    found = variety(ids)
    for n, share in enumerate(found.distinct, 1):
        grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
        assert share == len(set(grams)) / len(grams)
    among = sum(ids[i] in ids[max(0, i - 128) : i] for i in range(len(ids)))
    assert found.repeated == among / len(ids)
    assert variety(np.arange(9)) == ((1.0, 1.0, 1.0, 1.0), 0.0)
    far = np.concatenate([[7], np.arange(8, 135), [7]])  # 128 places apart, and 129
    assert variety(far).repeated == 1 / 129
    assert variety(np.insert(far, 1, 999)).repeated == 0
    with pytest.raises(ValueError, match="a text must have at least 4 tokens, got 3"):
        variety(np.arange(3))


def test_it_is_what_the_seed_writes(npllm, place):
    status, out, errors = npllm("evaluate", "run", "--data=text", "--written=50", "--seed=3")
    assert (status, errors) == (0, "")
    model, tokenizer = load_model("run")
    ids = tokenizer.encode(load_text("text"))
    drawn = np.array([*generate(model, ids[:1], 50, np.random.default_rng(3))])
    rows = [line.split() for line in out.split("\n\n")[1].splitlines()]
    assert rows[0] == ["tokens", "50", "written", "50", "of", "the", "text"]
    own, real = variety(drawn), variety(ids[1:51])
    for n, row in enumerate(rows[1:5]):
        assert row == [
            "distinct",
            f"{n + 1}-grams",
            f"{own.distinct[n]:.4f}",
            f"{real.distinct[n]:.4f}",
        ]
    assert rows[5] == ["repeated", "in", "128", f"{own.repeated:.4f}", f"{real.repeated:.4f}"]


def test_another_model_judges(npllm, place):
    status, out, _ = npllm("evaluate", "run", "--written=50", "--judge=run", "--threads=1")
    assert status == 0
    assert out.splitlines()[-1].endswith(", by run")


def test_a_judge_needs_something_to_judge(refused):
    assert "--judge scores what is written" in refused("evaluate", "run", "--judge=run")
    assert "must be an integer, 1 or more" in refused("evaluate", "run", "--written=0")
