"""``npllm compare``: models side by side on one text."""

import math

import pytest

from npllm.training import families
from npllm.training.evaluation import Evaluation
from npllm.training.families import Measured, table

pytest_plugins = ["tiny_run"]


@pytest.fixture
def counted(npllm, place):
    """A run of n-grams beside the tiny run of an LSTM."""
    arguments = ("--data=text", "--model=ngram", "--order=3", "--out=new", "--sample=0")
    assert npllm("train", *arguments)[0] == 0


def test_a_table_the_best_first(counted, npllm):
    status, out, errors = npllm("compare", "run", "new")
    assert (status, errors) == (0, "")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]
    assert rows[0] == [*families.HEADINGS]
    assert [row[:2] for row in rows[2:]] == [["new", "Ngram"], ["run", "LSTM"]]
    for name, row in zip(("new", "run"), rows[2:], strict=True):
        _, evaluated, _ = npllm("evaluate", name, "--threads=1")
        perplexity, bits = (line.split()[-1] for line in evaluated.splitlines()[-2:])
        assert f"{float(bits):.4f}" == row[3]
        assert f"{float(perplexity):,.3f}" == row[4]
        assert float(row[5]) >= 0


def test_a_picture(counted, npllm, place):
    pytest.importorskip("matplotlib")
    status, out, _ = npllm("compare", "run", "new", "--data=text", "--out=families.png")
    assert status == 0
    assert out.endswith("\nfamilies.png\n")
    assert (place / "families.png").read_bytes()[:4] == b"\x89PNG"


def test_what_cannot_be_compared(counted, npllm, refused, place):
    assert "there is no other" in refused("compare", "run", "other", "--data=text")
    assert "other holds no run" in refused("compare", "run", "other")
    (place / "rest").write_text("snowman \N{SNOWMAN}", encoding="utf-8")
    assert "run: the vocabulary lacks" in refused("compare", "run", "new", "--data=rest")
    npllm("train", "--data=text", "--model=ngram", "--held-out=0.5", "--out=half", "--sample=0")
    assert "new and half held out other texts" in refused("compare", "new", "half")


def test_what_is_not_known_is_a_dash():
    evaluation = Evaluation(nats=math.log(2) * 6, tokens=3, characters=6)
    unknown = Measured("public", "Llama", 1234, evaluation, 0.5, None, ())
    assert table([unknown])[-1] == "| public | Llama | 1,234 | 1.0000 | 4.000 | - | 0.50 | - |"
    with pytest.raises(ValueError, match="no model among them tells how long it was trained"):
        families.plot([unknown], "never.png")
