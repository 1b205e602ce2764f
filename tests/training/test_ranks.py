"""Ranks of MPI: they take the steps of one process, however many they are, and end together."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from left_out import need
from test_workers import build, draw, trained
from tiny import TEXT

from npllm.optim import SGD
from npllm.training import Run
from npllm.training.description import load_options
from npllm.training.metrics import read_metrics
from npllm.training.ranks import launched, run
from npllm.training.workers import Workers

HERE = Path(__file__).parent
NAMES = ["PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"]
NAMES += ["MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "SLURM_NTASKS", "PMIX_RANK"]
RUN = ["--embed-size=5", "--hidden-size=6", "--batch-size=5", "--length=8", "--dropout=0.3"]
RUN += ["--eval-every=4", "--log-every=1", "--checkpoint-every=5", "--dtype=float64", "--sample=0"]


@pytest.fixture(scope="module")
def mpiexec():
    """Start a Python command on some ranks."""
    need("mpi4py")
    program = shutil.which("mpiexec", path=sysconfig.get_path("scripts")) or shutil.which("mpiexec")
    if program is None:
        pytest.skip("mpiexec is missing: pip install mpich")
    path = os.pathsep.join([str(HERE), str(HERE.parent), str(HERE.parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}

    def start(ranks, *arguments):
        return subprocess.Popen(
            [program, "-n", str(ranks), sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
        )

    return start


@pytest.fixture
def train(mpiexec):
    """Train on some ranks, to the end; on one process where there is one."""

    def run(ranks, *options):
        process = mpiexec(ranks, "-m", "npllm", "train", *options)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out

    return run


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text"
    path.write_text(TEXT, "utf-8")
    return path


def numbers(directory):
    """Return what a run leaves behind, as numbers."""
    lines = read_metrics(directory)
    names = ("train_loss", "gradient_norm", "val_loss")
    (latest,) = directory.glob("checkpoint-*")
    run = Run.resume(directory)
    vectors = [run.model.parameters.vector, *run._optimizer.state.values(), *(run._state or ())]
    return (
        np.array([[line[name] or 0 for name in names] for line in lines]),
        [np.array(vector) for vector in vectors],
        latest.name,
    )


@pytest.mark.parametrize("ranks", [2, 3, 6])
def test_ranks_take_the_steps_of_one_process(mpiexec, tmp_path, ranks):
    """Six ranks for five rows: one has nothing to do but its slice of the update."""
    seen = []
    for n in range(2):
        out = tmp_path / f"{n}.npz"
        process = mpiexec(ranks, HERE / "on_ranks.py", "steps", out)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        with np.load(out) as arrays:
            seen.append(dict(arrays))
    for kind in ("lstm", "gpt", "llama"):
        told, vectors, drawn, steps = trained(kind, 1)
        for parts in (1, 2):
            name = f"{kind}.{parts}"
            np.testing.assert_allclose(seen[0][f"{name}.told"], told, rtol=1e-12)
            assert seen[0][f"{name}.rest"].tolist() == [drawn, steps]
            for n, vector in enumerate(vectors):
                np.testing.assert_allclose(seen[0][f"{name}.{n}"], vector, rtol=0, atol=1e-11)
    model = build()
    alone = Workers(model, SGD(model.parameters, 0.1))
    alone.differentiate(*draw())
    np.testing.assert_allclose(seen[0]["gradients"], alone.gradients.vector, rtol=1e-12, atol=1e-15)
    # the same number of ranks, the same bits
    for name, array in seen[0].items():
        assert array.tobytes() == seen[1][name].tobytes(), name


def test_a_run_goes_on_with_another_number_of_ranks(train, text, tmp_path):
    out = train(2, f"--out={tmp_path / 'ranks'}", f"--data={text}", *RUN, "--steps=7")
    assert ", 2 ranks\n" in out
    assert out.count("validation loss") == 2  # rank 0 alone reports
    assert load_options(tmp_path / "ranks")[0].threads is None
    run = Run.resume(tmp_path / "ranks", threads=1)
    list(Run.create(tmp_path / "one", run.options).train())
    for directory, ranks in ((tmp_path / "ranks", 3), (tmp_path / "one", 1)):
        train(ranks, f"--resume={directory}", "--steps=12", "--sample=0")
    lines, vectors, name = numbers(tmp_path / "ranks")
    expected_lines, expected_vectors, expected_name = numbers(tmp_path / "one")
    assert name == expected_name == "checkpoint-00000012"
    np.testing.assert_allclose(lines, expected_lines, rtol=1e-12)
    for vector, expected in zip(vectors, expected_vectors, strict=True):
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-10)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes are not killed by a signal")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_all_and_the_run_goes_on(mpiexec, train, text, tmp_path, rank):
    directory = tmp_path / "run"
    words = [f"--out={directory}", f"--data={text}", *RUN, "--steps=20"]
    process = mpiexec(3, HERE / "on_ranks.py", "killed", rank, *words)
    process.communicate(timeout=120)
    assert process.returncode != 0
    found = {path.name for path in directory.iterdir()}
    (checkpoint,) = (name for name in found if name.startswith("checkpoint-"))
    assert checkpoint in ("checkpoint-00000005", "checkpoint-00000010")
    assert found == {checkpoint, "run.json", "run.lock", "metrics.jsonl"}
    train(2, f"--resume={directory}", "--sample=0")
    list(Run.create(tmp_path / "whole", Run.resume(directory).options).train())
    np.testing.assert_allclose(numbers(directory)[0], numbers(tmp_path / "whole")[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("failure", "ArithmeticError: two lines"),
        ("unread", "ArithmeticError: two lines"),
        ("unmade", "TypeError: LSTMLanguageModel.__init__() "),
    ],
)
def test_an_error_of_a_rank_ends_all(mpiexec, call, error):
    process = mpiexec(3, HERE / "on_ranks.py", call, "unused")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    # mpiexec may put the lines of two ranks behind one another
    pattern = r"npllm: error: rank (\d): (.*?): go on from the last checkpoint"
    told = re.findall(pattern, err)
    assert told
    assert len({rank for rank, _ in told}) == len(told)  # one a rank at most
    assert all(words.startswith(error) for _, words in told)
    assert "Traceback" not in err


def test_an_error_of_rank_0_that_nobody_expects_ends_all(mpiexec):
    process = mpiexec(3, HERE / "on_ranks.py", "raised", "unused")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.rstrip().endswith("ArithmeticError: of rank 0")


def test_ranks_are_one_team_at_a_time(mpiexec):
    process = mpiexec(3, HERE / "on_ranks.py", "two_teams", "unused")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["train", "--data=/nowhere"], "/nowhere: No such file or directory"),
        (["train", "--threads=2"], "--threads must be 1 where ranks share the batch, got 2"),
        (["evaluate", "run"], "npllm evaluate has no use for ranks: leave out mpiexec"),
    ],
)
def test_one_line_says_what_was_wrong(mpiexec, words, error):
    process = mpiexec(2, "-m", "npllm", *words)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err == f"npllm: error: {error}\n"


def test_ranks_without_mpi_are_told_what_to_install(mpiexec, tmp_path):
    """Rank 1 has none; the other would wait for it."""
    (tmp_path / "mpi4py.py").write_text("raise ImportError('there is none')\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "if os.environ['PMI_RANK'] == '1': sys.path.insert(0, os.path.dirname(__file__))\n"
        "else: sys.path.pop(0)\n"
        "from npllm.cli import main\n"
        "sys.exit(main(['train']))\n"
    )
    process = mpiexec(2, script)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    told = (
        "npllm: error: rank 1: 2 ranks were started, and mpi4py, which joins them, cannot be "
        "imported (there is none), or is of another MPI than the mpiexec: pip install '.[mpi]' in "
        "npllm's checkout, or pip install mpi4py mpich\n"
    )
    assert told in err


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (1, 0)),
        ({"PMI_SIZE": "4", "PMI_RANK": "3"}, (4, 3)),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, (2, 1)),
        ({"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "0"}, (2, 0)),
        ({"SLURM_NTASKS": "8"}, (1, 0)),  # a job, but not one of its ranks
        ({"SLURM_NTASKS": "8", "PMIX_RANK": "7"}, (8, 7)),
        ({"PMI_SIZE": "many", "PMI_RANK": "0"}, (1, 0)),
    ],
)
def test_the_environment_says_how_many_ranks_there_are(monkeypatch, environment, expected):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected
    if expected[0] == 1:
        assert run(lambda world: 7 if world is None else 0) == 7
