"""A tiny run, and what the tests do to runs."""

import json

import pytest

from npllm.training.metrics import read_metrics

TEXT = "Zwölf Boxkämpfer jagen Viktor quer über den Sylter Deich. 😀\r\n" * 30
TINY = {
    "embed_size": 5,
    "hidden_size": 6,
    "layers": 2,
    "batch_size": 4,
    "length": 8,
    "held_out": 0.2,
    "steps": 12,
    "log_every": 3,
    "eval_every": 4,
    "checkpoint_every": 5,
    "threads": 1,
}


def left_behind(directory):
    """Every bit of a run that time does not change: its latest checkpoint and its metrics."""
    (latest,) = directory.glob("checkpoint-*")
    metrics = [
        {
            name: value
            for name, value in line.items()
            if name not in ("tokens_per_second", "seconds")
        }
        for line in read_metrics(directory)
    ]
    return {
        "metrics": metrics,
        "name": latest.name,
        **{path.name: path.read_bytes() for path in sorted(latest.iterdir())},
    }


TRANSFORMER = {
    # not for them: the defaults
    "embed_size": 256,
    "hidden_size": 256,
    "length": 64,
    "width": 8,
    "heads": 2,
    "context": 8,
}
KINDS = {
    "contiguous": {},
    "contiguous, dropout, two threads": {"dropout": 0.3, "threads": 2},
    "contiguous, dropout, parts": {"dropout": 0.3, "accumulate": 3},
    "shuffled": {"windows": "shuffled", "threads": 2},
    "shuffled, dropout": {"windows": "shuffled", "dropout": 0.3, "optimizer": "rmsprop"},
    "words": {"tokenizer": "word", "vocab_size": 50, "length": 3, "optimizer": "adamw"},
    "gpt, dropout, two threads": {**TRANSFORMER, "model": "gpt", "dropout": 0.3, "threads": 2},
    "llama, bpe": {
        **TRANSFORMER,
        "model": "llama",
        "kv_heads": 1,
        "context": 4,
        "tokenizer": "bpe",
        "vocab_size": 280,
        "tie_weights": True,
    },
    "tied, float64": {"tie_weights": True, "embed_size": 6, "dtype": "float64"},
    "momentum": {"optimizer": "sgd", "momentum": 0.9, "schedule": "step", "decay_every": 4},
}
kinds = pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)


def advance(run, step):
    """Train up to a step and leave the rest."""
    for taken in run.train():
        if taken.step == step:
            break
    assert run.step == step


def finish(run):
    list(run.train())
    return run.directory


def change_json(path, change):
    described = json.loads(path.read_text("utf-8"))
    change(described)
    path.write_text(json.dumps(described), "utf-8")
