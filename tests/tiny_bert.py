"""A tiny BERT as transformers would write it, made by hand, and what it computes, by place."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from npllm.safetensors_file import save_weights

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s", "dog", "sat", "the", "."]
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 13,
    "max_position_embeddings": 9,
    "type_vocab_size": 2,
    "hidden_size": 6,
    "intermediate_size": 10,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {
        "idx": 2,
        "name": "2",
        "path": "2_Normalize",
        "type": "sentence_transformers.models.Normalize",
    },
]
POOLING = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def weights() -> dict[str, np.ndarray]:
    """Return random weights by transformers' names, none of them trivial."""
    rng = np.random.default_rng(7)
    E, F = 6, 10
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (13, E),
        "embeddings.position_embeddings.weight": (9, E),
        "embeddings.token_type_embeddings.weight": (2, E),
        "embeddings.LayerNorm.weight": (E,),
        "embeddings.LayerNorm.bias": (E,),
        "pooler.dense.weight": (E, E),
        "pooler.dense.bias": (E,),
    }
    for n in range(2):
        block = {
            **{f"attention.self.{part}": (E, E) for part in ("query", "key", "value")},
            "attention.output.dense": (E, E),
            "intermediate.dense": (F, E),
            "output.dense": (E, F),
        }
        for name, shape in block.items():
            shapes[f"encoder.layer.{n}.{name}.weight"] = shape
            shapes[f"encoder.layer.{n}.{name}.bias"] = shape[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{n}.{name}.weight"] = (E,)
            shapes[f"encoder.layer.{n}.{name}.bias"] = (E,)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def write(folder: Path, arrays: dict[str, np.ndarray] | None = None, **changes: Any) -> Path:
    """Write a model with its vocab.txt; ``changes`` are of the config."""
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(folder / "model.safetensors", weights() if arrays is None else arrays)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")
    return folder


def write_pooling(folder: Path, modules: object = MODULES, pooling: object = POOLING) -> Path:
    """Write what sentence-transformers says of a model."""
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


def computed(ids: list[int]) -> np.ndarray:
    """Return what the tiny model makes of one text, (T, E), as the paper's equations read."""
    w = weights()

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean()
        return centred / math.sqrt(centred.var() + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def gelu(x: float) -> float:
        return x * (1 + math.erf(x / math.sqrt(2))) / 2

    tables = [w[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position")]
    kind = w["embeddings.token_type_embeddings.weight"][0]
    xs = [
        norm(tables[0][i] + tables[1][t] + kind, "embeddings.LayerNorm") for t, i in enumerate(ids)
    ]
    for n in range(2):
        layer = f"encoder.layer.{n}"
        q, k, v = (
            [linear(x, f"{layer}.attention.self.{part}") for x in xs]
            for part in ("query", "key", "value")
        )
        halves = slice(0, 3), slice(3, 6)  # two heads
        after = []
        for t, x in enumerate(xs):
            heads = []
            for half in halves:
                scores = [math.exp(q[t][half] @ other[half] / math.sqrt(3)) for other in k]
                shares = [score / sum(scores) for score in scores]
                heads.append(sum(s * other[half] for s, other in zip(shares, v, strict=True)))
            a = linear(np.concatenate(heads), f"{layer}.attention.output.dense")
            x = norm(x + a, f"{layer}.attention.output.LayerNorm")
            inner = np.array([gelu(z) for z in linear(x, f"{layer}.intermediate.dense")])
            after.append(
                norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
            )
        xs = after
    return np.array(xs)
