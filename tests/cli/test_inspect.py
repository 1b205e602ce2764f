"""``npllm inspect``: a page is written whole, or nothing is."""

from __future__ import annotations

import pytest

from npllm.checkpoint import load_model
from npllm.inspection import inspect, page

pytest_plugins = ["tiny_run"]

WORDS = "Zwölf Boxkämpfer 😀\r\n"


@pytest.mark.parametrize("named", [["run"], ["--model=run"], ["run/checkpoint-00000006"]])
def test_a_page_is_written(npllm, place, named):
    status, out, errors = npllm("inspect", *named, f"--text={WORDS}", "--out=page.html")
    assert (status, out, errors) == (0, "page.html\n", "")
    expected = page(inspect(*load_model("run"), WORDS), named[0].removeprefix("--model="))
    assert (place / "page.html").read_text("utf-8") == expected
    assert not list(place.glob("*.tmp"))


@pytest.mark.parametrize("model", ["gpt", "llama"])
def test_a_transformer_has_maps(npllm, place, tiny, model):
    sizes = ["--width=12", "--heads=2", "--layers=2", "--context=16"]
    of_lstm = ("--embed-size", "--hidden-size", "--length")
    own = [option for option in tiny if not option.startswith(of_lstm)]
    train = ("train", f"--model={model}", "--data=text", "--out=other", *own, *sizes)
    assert npllm(*train, "--sample=0")[0] == 0
    assert npllm("inspect", "other", "--text=Viktor", "--out=page.html")[0] == 0
    assert '{"layers": 2, "heads": 2, "steps": 6}' in (place / "page.html").read_text("utf-8")


def test_a_page_is_replaced(npllm, place):
    (place / "page.html").write_text("old")
    assert npllm("inspect", "run", "--text=Zwölf", "--out=page.html")[0] == 0
    assert (place / "page.html").read_text("utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("target", ["text", "missing", "page.html"])
def test_a_link_is_replaced_and_never_followed(npllm, place, link, target):
    before = (place / "text").read_bytes()
    link(place / "page.html", place / target)
    assert npllm("inspect", "run", "--text=Zwölf", "--out=page.html")[0] == 0
    assert (place / "page.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert not (place / "page.html").is_symlink()
    assert (place / "text").read_bytes() == before
    assert not (place / "missing").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--text=Z", "--out=page.html"), "name one model"),
        (("run", "--model=run", "--text=Z", "--out=page.html"), "name one model"),
        (("missing", "--text=Z", "--out=page.html"), "there is no missing: name a run"),
        (("run", "--out=page.html"), "the following arguments are required: --text"),
        (("run", "--text=Z"), "the following arguments are required: --out"),
        (("run", "--text=", "--out=page.html"), "--text is empty"),
        (("run", "--text=Q?", "--out=page.html"), "the vocabulary lacks 'Q', '?'"),
        (("run", "--text=" + "Z" * 257, "--out=page.html"), "room for 256 tokens"),
        (("run", "--text=Z", "--out=text"), "must name a file that ends in .html, got text"),
        (("run", "--text=Z", "--out=none/page.html"), "its folder does not exist"),
        (("run", "--text=Z", "--out=folder.html"), "is a folder, not a file to write"),
    ],
)
def test_bad_input_gets_one_line_and_no_page(refused, place, arguments, message):
    (place / "folder.html").mkdir()
    assert message in refused("inspect", *arguments)


def test_an_old_page_outlives_what_is_refused(refused, place):
    (place / "page.html").write_text("old")
    refused("inspect", "run", "--text=Q", "--out=page.html")  # which compares all files


@pytest.mark.slow
def test_a_public_model_makes_a_small_page(npllm, smollm2, tmp_path):
    text = "The capital of France is Paris, and that of Germany is Berlin. " * 5
    out = tmp_path / "page.html"
    assert npllm("inspect", "--model=smollm2", f"--text={text[:300]}", f"--out={out}")[0] == 0
    content = out.read_text("utf-8")
    assert '"layers": 30, "heads": 9, "steps": 6' in content
    assert len(content.encode()) < 3_000_000
