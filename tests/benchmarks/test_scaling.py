"""What is predicted for many ranks follows from what is measured."""

import json
import math

import pytest

from benchmarks import scaling
from benchmarks.scaling import ASSUMED, Network, Parts, fitted, messages


def test_the_fit_finds_latency_and_bandwidth():
    a, b = 5e-6, 4e-10
    sizes = {str(n): 2 * messages(n) * a + 4 * n * b for n in scaling.SIZES}
    latency, per_byte, per_rank = fitted({"sizes": sizes, "asked": 1e-5})
    assert (latency, per_byte, per_rank) == (pytest.approx(a), pytest.approx(b), 1e-5)


def test_a_step_on_eight_ranks():
    # 2^20 numbers are one bucket: 2 * 3 messages, 7/4 of 4 MiB, 7 ranks to be asked
    network = Network(latency=1e-3, per_byte=1e-9, per_rank=1e-2)
    step, efficiency = Parts(compute=2.0, update=0.8, parameters=2**20).on(8, network)
    assert step == pytest.approx(2.0 + 0.1 + 6e-3 + 7 * 2**20 * 1e-9 + 7e-2)
    assert efficiency == pytest.approx(2.8 / step)


def test_more_buckets_are_more_messages():
    assert [messages(n) for n in (1, 2**20, 2**20 + 1, 2**24)] == [1, 1, 2, 16]


def test_the_report_has_a_row_a_model_and_network(tmp_path, capsys):
    own = {"compute": 1.0, "update": 0.1, "parameters": 10}
    models = dict.fromkeys(scaling.MODELS, own)
    exchanges = {"sizes": {"1024": 1e-5, "65536": 1e-4}, "buckets": {"1": 0.1}, "asked": 1e-5}
    file = tmp_path / "measured.json"
    file.write_text(json.dumps({"alone": models, "exchanges": exchanges, "pairs": models}))
    assert scaling.main([f"--measured={file}"]) == 0
    out = capsys.readouterr().out
    for name in scaling.MODELS:
        for network in ("as between two ranks here", *ASSUMED):
            rows = [line for line in out.splitlines() if f"| {name} | {network} |" in line]
            assert len(rows) == (1 if name == "lstm-default" else 2)
    assert math.isclose(fitted(exchanges).latency * 2 + 4096 * fitted(exchanges).per_byte, 1e-5)
