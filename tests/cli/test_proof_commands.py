"""The commands that prove and teach: certify, atlas, gradcheck of a file, plot gradcheck."""

import json
import sys

import pytest
from left_out import need

from npllm.cli import atlas as atlas_command
from npllm.cli import certify as certify_command
from npllm.evidence import MISTAKES, certificate
from npllm.models import LSTMLanguageModel

pytest_plugins = ["tiny_run"]

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def without_torch(monkeypatch):
    for module in (certificate, certify_command):
        monkeypatch.setattr(module, "has_torch", lambda: False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty directory, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def one_line(npllm, folder):
    """Run a command that must fail with one line and write nothing; return the line."""

    def run(*arguments):
        before = written(folder)
        status, _, errors = npllm(*arguments)
        assert status == 2
        (line,) = errors.splitlines()
        assert line.startswith("npllm")
        assert "error: " in line
        assert written(folder) == before
        return line

    return run


def written(folder):
    """Return what lies in a folder, but for what Python keeps of what it imports."""
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


# certify

TWO = ["lstm", "bag_classifier"]


@pytest.mark.parametrize(
    ("names", "count"),
    [
        pytest.param([], "8 configurations", marks=pytest.mark.slow),
        (TWO, "2 configurations"),
        (["lstm"], "1 configuration"),
    ],
)
@pytest.mark.usefixtures("without_torch")
def test_certify_proves_every_parameter(npllm, folder, names, count):
    status, out, errors = npllm("certify", *names, "--quick")
    assert (status, errors) == (0, "")
    for name in LSTMLanguageModel(5, 3, 3, num_layers=2, tie_weights=True).parameters.shapes:
        assert f"  {name} " in out
    assert "derivative of the gradients: symmetric" in out
    assert f"in {count}: all ok" in out
    assert "torch is not installed" in out
    assert "FAILED" not in out
    assert list(folder.iterdir()) == []


def test_certify_writes_json(npllm, folder, torch):
    status, out, _ = npllm("certify", "lstm", "--quick", "--seed=3", "--json", "proof.json")
    read = json.loads((folder / "proof.json").read_text("utf-8"))
    assert status == 0
    assert (read["passed"], read["failed"], read["seed"]) == (True, 0, 3)
    (section,) = read["sections"]
    assert read["parameters"] == len(section["rows"])
    assert read["elements"] == sum(row["elements"] for row in section["rows"])
    for method in ("complex_step", "torch"):
        worst = max(row[method] for row in section["rows"])
        assert read[method]["relative"] == worst < read["tolerance"]
        assert f"{worst:.1e}" in out


@pytest.mark.usefixtures("without_torch")
def test_certify_tells_a_wrong_model(npllm, folder):
    slip = next(m for m in MISTAKES if m.slip == "the biases of the LSTM not trained")
    with slip.applied():
        status, out, errors = npllm(
            "certify", "lstm", "bag_classifier", "--quick", "--json=proof.json"
        )
    assert (status, errors) == (1, "")
    assert out.count("FAILED") == 5  # four biases, and the summary
    assert "1 FAILED" in out
    read = json.loads((folder / "proof.json").read_text("utf-8"))
    assert (read["passed"], read["failed"], read["torch"]) == (False, 1, None)


@pytest.mark.usefixtures("without_torch")
def test_certify_tells_a_gradient_that_is_no_number(npllm, folder, monkeypatch):
    right = LSTMLanguageModel._add_gradients

    def spoiled(self, gradients, *args):
        right(self, gradients, *args)
        gradients["fc.bias"][0] = float("nan")

    monkeypatch.setattr(LSTMLanguageModel, "_add_gradients", spoiled)
    status, out, errors = npllm("certify", *TWO, "--quick", "--json=proof.json")
    assert (status, errors) == (1, "")
    assert "complex step nan" in out
    read = json.loads((folder / "proof.json").read_text("utf-8"))
    assert read["complex_step"] == {"relative": "nan", "ulps": "nan"}


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["perceptron"], "there is no perceptron; there are lstm"),
        (["lstm", "gpt\nx"], "there is no gpt x: did you mean gpt?"),
        (["--quick", "--json=missing/proof.json"], "missing/proof.json: its folder does not exist"),
        (["--seed=-1"], "--seed"),
        (["--json"], "--json"),
    ],
)
def test_certify_refuses(one_line, arguments, fragment):
    assert fragment in one_line("certify", *arguments)


@pytest.mark.usefixtures("without_torch")
def test_certify_cannot_write_to_a_folder(npllm, folder):
    (folder / "proof.json").mkdir()
    status, _, errors = npllm("certify", "lstm", "--quick", "--json=proof.json")
    assert status == 2
    assert len(errors.splitlines()) == 1


# atlas


def test_atlas_teaches_the_mistakes_of_a_layer(npllm):
    status, out, errors = npllm("atlas", "dropout")
    assert (status, errors) == (0, "")
    wanted = [mistake for mistake in MISTAKES if mistake.layer == "dropout"]
    for mistake in wanted:
        for text in (mistake.slip, mistake.why, mistake.giveaway, mistake.source.splitlines()[0]):
            assert text in out
    assert "PASSES" not in out
    assert f"{len(wanted)} mistakes: {len(wanted)} rejected" in out
    assert not any(m.slip in out for m in MISTAKES if m.layer == "lstm")


def test_atlas_without_a_name_is_the_table_alone(npllm, monkeypatch):
    few = [mistake for mistake in MISTAKES if mistake.layer in ("dropout", "tanh")]
    monkeypatch.setattr(atlas_command, "MISTAKES", few)
    status, out, errors = npllm("atlas")
    assert (status, errors) == (0, "")
    assert len(out.splitlines()) == 1 + len(few) + 2
    assert not any(mistake.why in out for mistake in few)


def test_atlas_tells_a_mistake_that_passes(npllm, monkeypatch):
    mistake = next(m for m in MISTAKES if m.layer == "dropout")
    none = type(mistake)(**{**vars(mistake), "replacement": mistake.source})
    monkeypatch.setattr(atlas_command, "MISTAKES", [none])
    status, out, errors = npllm("atlas", "dropout")
    assert (status, errors) == (1, "")
    assert "PASSES" in out
    assert "1 mistake: 0 rejected" in out


def test_atlas_refuses_what_it_has_not(one_line):
    assert "there is no perceptron; there are " in one_line("atlas", "perceptron", "dropout")


# gradcheck of a file

RIGHT = """
import numpy as np

def forward(x):
    return x * x, x

def backward(dy, x):
    return 2 * x * dy

def cases(rng):
    yield "square", forward, backward, (rng.normal(size=(3, 4)),)
"""
WRONG = RIGHT.replace("2 * x * dy", "x * dy * 2 / K").replace("import", "K = 6\nimport", 1)
SIZES = WRONG.replace("size=(3, 4)),)", 'size=(3, 4)),), {"sizes": {"heads": 6}}')
SHARED = RIGHT.replace("x * x, x", "x + 0, x").replace("2 * x * dy", "dy")


def test_gradcheck_of_a_file(npllm, folder):
    (folder / "mine.py").write_text(RIGHT)
    status, out, errors = npllm("gradcheck", "mine.py")
    assert (status, errors) == (0, "")
    assert "mine.py: square" in out
    assert "complex step" in out
    assert "1 argument in 1 case: all ok" in out


def test_gradcheck_of_a_wrong_file(npllm, folder):
    (folder / "mine.py").write_text(WRONG)
    status, out, errors = npllm("gradcheck", "mine.py")
    assert (status, errors) == (1, "")
    assert "it is 0.166667 times what it must be" in out
    assert "1 case FAILED" in out
    (folder / "sizes.py").write_text(SIZES)
    assert "1 / 6, and 6 is heads" in npllm("gradcheck", "sizes.py")[1]
    (folder / "shared.py").write_text(SHARED)
    assert npllm("gradcheck", "shared.py")[0] == 1
    options = '{"allow": ["aliased"], "dtype": "float32"}'
    (folder / "shared.py").write_text(SHARED.replace("3, 4)),)", f"3, 4)),), {options}"))
    status, out, _ = npllm("gradcheck", "shared.py")
    assert status == 0
    assert "what passes in float32" in out


def test_gradcheck_of_files_and_layers(npllm, folder):
    (folder / "mine.py").write_text(RIGHT)
    (folder / "yours.py").write_text(WRONG)
    status, out, _ = npllm("gradcheck", "mine.py", "tanh", "yours.py")
    assert status == 1
    assert "4 arguments in 4 cases: 1 case FAILED" in out


def test_gradcheck_by_other_methods(npllm, folder):
    (folder / "mine.py").write_text(RIGHT)
    status, out, _ = npllm("gradcheck", "mine.py", "--method=fourth", "--method=richardson")
    assert status == 0
    assert "worst errors: fourth order " in out
    assert ", Richardson " in out
    assert "complex step" not in out
    assert "central" not in out


@pytest.mark.parametrize(("text", "status"), [(RIGHT, 0), (WRONG, 1)])
def test_gradcheck_writes_json(npllm, folder, text, status):
    (folder / "mine.py").write_text(text)
    assert npllm("gradcheck", "mine.py", "tanh", "--json=report.json")[0] == status
    read = json.loads((folder / "report.json").read_text("utf-8"))
    assert [report["case"] for report in read][:2] == ["mine.py: square", "tanh: small"]
    assert [report["passed"] for report in read] == [not status, True, True]
    causes = read[0]["arguments"][0]["causes"]
    assert [cause["key"] for cause in causes] == ["scale"] * status


def test_gradcheck_of_a_file_that_imports_its_neighbour(npllm, folder):
    (folder / "deep").mkdir()
    (folder / "deep" / "neighbour_of_mine.py").write_text(RIGHT)
    (folder / "deep" / "mine.py").write_text("from neighbour_of_mine import cases")
    path = list(sys.path)
    try:
        assert npllm("gradcheck", "deep/mine.py")[0] == 0
    finally:
        sys.modules.pop("neighbour_of_mine", None)
    assert sys.path == path


@pytest.mark.parametrize("name", ["mine.txt", "folder"])
def test_gradcheck_of_what_is_no_file_of_python(one_line, folder, name):
    (folder / "mine.txt").write_text("")
    (folder / "folder").mkdir()
    assert f"{name} is no file of Python: its name must end in .py" in one_line("gradcheck", name)


def test_gradcheck_imports_beside_the_file_while_it_runs_too(npllm, folder, one_line):
    (folder / "neighbour_in_need.py").write_text(RIGHT.replace("x * x, x", "1 / 0"))
    text = (
        "def cases(rng):\n    import neighbour_in_need\n    yield from neighbour_in_need.cases(rng)"
    )
    (folder / "mine.py").write_text(text)
    try:
        assert "division by zero (neighbour_in_need.py, line 5)" in one_line("gradcheck", "mine.py")
    finally:
        sys.modules.pop("neighbour_in_need", None)


def test_gradcheck_goes_on_after_a_case_that_cannot_be_run(npllm, folder):
    (folder / "broken.py").write_text(RIGHT.replace("x * x, x", "1 / 0"))
    (folder / "mine.py").write_text(RIGHT)
    status, out, errors = npllm("gradcheck", "broken.py", "mine.py", "--json=report.json")
    assert (status, errors) == (1, "")
    assert "broken.py: square\n  ERROR: broken.py: square: ZeroDivisionError" in out
    assert "1 argument in 2 cases: 1 case could not be run, the others ok" in out
    read = json.loads((folder / "report.json").read_text("utf-8"))
    assert [report["passed"] for report in read] == [True, False]
    assert "ZeroDivisionError" in read[1]["error"]


@pytest.mark.parametrize("name", ["mine.py", "report", "report.txt"])
def test_json_goes_to_json_files_only(one_line, folder, name):
    (folder / "mine.py").write_text(RIGHT)
    assert "must name a file that ends in .json" in one_line("gradcheck", "mine.py", "--json", name)
    assert (folder / "mine.py").read_text() == RIGHT


FILES = {
    "no cases": ("x = 1", "must define cases(rng)"),
    "cases that is no function": ("cases = 3", "must define cases(rng)"),
    "no case": ("def cases(rng):\n    yield from ()", "its cases(rng) yields nothing to check"),
    "cases that returns a number": ("def cases(rng): return 5", "must define cases(rng)"),
    "cases that returns nothing": (
        "def cases(rng): pass",
        "mine.py must define cases(rng), yielding",
    ),
    "cases without rng": ("def cases(): yield 1", "TypeError: cases() takes 0 positional"),
    "a syntax error": ("def cases(rng:\n", "SyntaxError"),
    "an error at once": ("x = {}\nx['y']", "KeyError: 'y' (line 2)"),
    "an exit": ("import sys\nsys.exit(0)", "SystemExit: 0 (line 2)"),
    "an error in cases": ("def cases(rng):\n    yield 1 / 0", "ZeroDivisionError: division by zer"),
    "a number": ("def cases(rng):\n    yield 5", "it yields int"),
    "too few": ("def cases(rng):\n    yield 'a', 1, 2", "it yields a tuple of 3"),
    "too many": ("def cases(rng):\n    yield 1, 2, 3, 4, 5, 6", "it yields a tuple of 6"),
    "no functions": (
        "def cases(rng):\n    yield 'a', 1, 2, [rng.normal(size=3)]",
        "the forward of a must be a function, got int",
    ),
    "no options": (
        RIGHT.replace("3, 4)),)", "3, 4)),), 5"),
        "of square must be a dict of allow, d",
    ),
    "an unknown option": (RIGHT.replace("3, 4)),)", '3, 4)),), {"seed": 3}'), ", got seed"),
    "no arguments": ("def cases(rng):\n    yield 'a', len, len, None", "a: TypeError"),
    "no pair": (RIGHT.replace("x * x, x", "x * x"), "square: TypeError: forward must return the"),
    "an error in a forward": (RIGHT.replace("x * x, x", "1 / 0"), "by zero (line 5)"),
    "an error in a backward": (RIGHT.replace("2 * x * dy", "{}[1]"), "KeyError: 1 (line 8)"),
    "float32": (RIGHT.replace("3, 4)),", "3, 4)).astype('f4'),"), "x is float32, and gradcheck"),
    "a missing file": ("open('data.txt')", "data.txt"),
    "no text": ("\0", "null bytes"),
}


@pytest.mark.parametrize("name", FILES)
def test_gradcheck_of_a_file_that_makes_no_sense(one_line, folder, name):
    text, fragment = FILES[name]
    (folder / "mine.py").write_text(text)
    line = one_line("gradcheck", "mine.py")
    assert line.startswith("npllm: error: mine.py")
    assert fragment in line


def test_gradcheck_refuses(one_line, folder):
    assert one_line("gradcheck", "missing.py") == (
        "npllm: error: missing.py: No such file or directory"
    )
    (folder / "folder.py").mkdir()
    assert "folder.py: " in one_line("gradcheck", "folder.py")
    assert "--method" in one_line("gradcheck", "tanh", "--method=magic")
    assert "its folder does not exist" in one_line("gradcheck", "tanh", "--json=no/report.json")
    assert "there is no mine.txt" in one_line("gradcheck", "mine.txt")


# plot gradcheck


@pytest.mark.parametrize("out", ["v.PNG", None])
def test_plot_gradcheck_draws_the_v(npllm, folder, out):
    need("matplotlib")
    arguments = ["--layer=tanh", *([f"--out={out}"] if out else [])]
    status, printed, errors = npllm("plot", "gradcheck", *arguments)
    assert (status, errors) == (0, "")
    name = out or "gradcheck.png"
    assert printed.strip() == name
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes().startswith(PNG)
    assert (folder / name).stat().st_size > 5_000


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (
            ["gradcheck", "--layer=tanh", "--out=v.pdf"],
            "--out: must name a file that ends in .png, got v.pdf",
        ),
        (
            ["gradcheck", "--layer=tanh", "--out=v"],
            "--out: must name a file that ends in .png, got v",
        ),
        (["gradcheck", "--layer=perceptron"], "--layer"),
        (["run", "--layer=tanh"], "--layer goes with npllm plot gradcheck"),
        (["gradcheck", "--layer=tanh", "--out=missing/v.png"], "missing/v.png"),
        (["gradcheck", "--seed=-1"], "--seed"),
        (["gradchek"], "there is no gradchek: did you mean gradcheck?"),
        (
            ["missing"],
            "there is no missing; there are gradcheck, embeddings and the runs of npllm train",
        ),
        (["run", "--out="], "--out"),
    ],
)
def test_plot_gradcheck_refuses(one_line, arguments, fragment):
    need("matplotlib")
    assert fragment in one_line("plot", *arguments)


def test_plot_gradcheck_without_matplotlib_says_what_to_install(one_line, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install matplotlib" in one_line("plot", "gradcheck", "--layer=tanh")
