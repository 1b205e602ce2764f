"""Cases of what Transformers are made of, and of GPT and Llama."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npllm import layers
from npllm.layers.arrays import Array
from npllm.models import GPT, Llama
from npllm.models.gpt import gpt_block_backward, gpt_block_forward
from npllm.models.llama import llama_block_backward, llama_block_forward
from npllm.proofs.case import Case, Generator


def layer_norm(rng: Generator) -> Iterator[Case]:
    """Normalize rows, with and without a gain and a bias."""
    x, weight, bias = rng.normal(size=(2, 3, 7)), rng.normal(size=7), rng.normal(size=7)
    pair = layers.layer_norm_forward, layers.layer_norm_backward
    yield Case("gain and bias", *pair, (x, weight, bias))
    yield Case("gain", *pair, (x, weight))
    yield Case("plain", *pair, (x,))
    large = lambda x, w, b: layers.layer_norm_forward(x, w, b, 0.5)  # noqa: E731
    yield Case("large epsilon", large, layers.layer_norm_backward, (x, weight, bias))


def rms_norm(rng: Generator) -> Iterator[Case]:
    """Normalize rows, with and without a gain."""
    x, weight = rng.normal(size=(2, 3, 7)), rng.normal(size=7)
    pair = layers.rms_norm_forward, layers.rms_norm_backward
    yield Case("gain", *pair, (x, weight))
    yield Case("plain", *pair, (x,))
    large = lambda x, w: layers.rms_norm_forward(x, w, 0.5)  # noqa: E731
    yield Case("large epsilon", large, layers.rms_norm_backward, (x, weight))


def rotary(rng: Generator) -> Iterator[Case]:
    """Turn both kinds of pairs, all features and some."""
    x = rng.normal(size=(2, 3, 5, 7))
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
    configurations: dict[str, tuple[Any, int, bool, Any]] = {
        "halves": (np.arange(5), 6, False, None),
        "interleaved": (np.arange(3, 8), 6, True, None),
        "some features": (np.arange(5), 4, False, None),
        "positions of each row": (rng.integers(9, size=(2, 1, 5)), 6, True, None),
        "yarn": (np.arange(5), 6, False, yarn),
    }
    for label, (positions, width, interleaved, scaling) in configurations.items():
        cos, sin = layers.rotary_table(positions, width, 100.0, scaling)

        def forward(
            x: Array, cos: Array = cos, sin: Array = sin, interleaved: bool = interleaved
        ) -> tuple[Array, Any]:
            return layers.rotary_forward(x, cos, sin, interleaved)

        yield Case(label, forward, layers.rotary_backward, (x,))


def swiglu(rng: Generator) -> Iterator[Case]:
    """Gate small and large numbers."""
    for label, scale in (("small", 1.0), ("large", 6.0)):
        args = (scale * rng.normal(size=(3, 5)), rng.normal(size=(3, 5)))
        yield Case(label, layers.swiglu_forward, layers.swiglu_backward, args)


def multi_head_attention(rng: Generator) -> Iterator[Case]:
    """Attend in heads of their own and in shared ones, after a past, turned and not."""
    heads, kv_heads, size = 6, 2, 4
    q, k, v = (rng.normal(size=(2, 3, n)) for n in (heads * size, kv_heads * size, kv_heads * 5))
    own = (q, rng.normal(size=q.shape), rng.normal(size=(2, 3, heads * 3)))
    across = (q, rng.normal(size=(2, 5, kv_heads * size)), rng.normal(size=(2, 5, kv_heads * 5)))
    past = (rng.normal(size=(2, kv_heads, 4, size)), rng.normal(size=(2, kv_heads, 4, 5)))
    turned = (*layers.rotary_table(np.arange(3), size, 100.0), False)
    later = (*layers.rotary_table(np.arange(4, 7), 2, 100.0), True)
    mask = rng.random((2, 1, 3, 3)) < 0.7
    one = {"kv_heads": kv_heads}
    configurations: dict[str, tuple[tuple[Array, ...], dict[str, Any]]] = {
        "own heads, causal": (own, {"causal": True}),
        "grouped, causal, rotary": ((q, k, v), {**one, "causal": True, "rotary": turned}),
        "multi-query": ((q, k[..., :size], v[..., :5]), {"kv_heads": 1}),
        "cross-attention": (across, one),
        "past, causal, interleaved rotary": (
            (q, k, v),
            {**one, "past": past, "causal": True, "rotary": later},
        ),
        "mask, dropout": ((q, k, v), {**one, "mask": mask, "dropout": 0.4}),
        "past, causal, window": ((q, k, v), {**one, "past": past, "causal": True, "window": 3}),
        "bias": ((q, k, v, rng.normal(size=(heads, 3, 3))), one),
        "tiled, past, causal, bias": (
            (q, k, v, rng.normal(size=(heads, 3, 7))),
            {**one, "past": past, "causal": True, "tiled": True},
        ),
    }
    for label, (args, options) in configurations.items():

        def forward(
            q: Array, k: Array, v: Array, bias: Array | None = None, options: Any = options
        ) -> tuple[Any, Any]:
            rng = np.random.default_rng(5)
            return layers.multi_head_attention_forward(
                q, k, v, heads, bias=bias, rng=rng, **options
            )

        yield Case(label, forward, layers.multi_head_attention_backward, args)


def tiled_attention(rng: Generator) -> Iterator[Case]:
    """Attend a few scores at a time, with every option."""
    q, k, v = (rng.normal(size=size) for size in ((2, 3, 7, 5), (2, 1, 6, 5), (3, 6, 4)))
    mask = rng.random((7, 6)) < 0.6
    mask[2] = False  # a query that sees nothing
    configurations: dict[str, tuple[tuple[Array, ...], dict[str, Any]]] = {
        "plain": ((q, k, v), {}),
        "causal": ((q, k, v), {"causal": True}),
        "causal, offset": ((q, k, v), {"causal": True, "offset": 2}),
        "causal, window": ((q, k, v), {"causal": True, "window": 2}),
        "window": ((q, k, v), {"window": 3}),
        "mask, softcap, scale": ((q, k, v), {"mask": mask, "softcap": 0.8, "scale": 0.7}),
        "bias of a head": ((q, k, v, rng.normal(size=(3, 7, 6))), {"causal": True}),
        "bias of a key": ((q, k, v, rng.normal(size=(2, 1, 1, 6))), {"mask": mask}),
    }
    for label, (args, options) in configurations.items():

        def forward(
            q: Array, k: Array, v: Array, bias: Array | None = None, options: Any = options
        ) -> tuple[Array, Any]:
            return layers.tiled_attention_forward(q, k, v, bias=bias, scores=13, **options)

        yield Case(label, forward, layers.tiled_attention_backward, args)


def linear_cross_entropy(rng: Generator) -> Iterator[Case]:
    """Score a few rows at a time."""
    x, weight, bias = rng.normal(size=(2, 4, 3)), rng.normal(size=(5, 3)), rng.normal(size=5)
    targets = np.array([[3, 0, 3, 1], [4, -100, 2, 3]])
    for label, logits in (("a row at a time", 1), ("three rows at a time", 15), ("at once", 999)):

        def forward(
            x: Array, weight: Array, bias: Array | None = None, logits: int = logits
        ) -> tuple[Array, Any]:
            return layers.linear_cross_entropy_forward(x, weight, targets, bias, logits=logits)

        backward = layers.linear_cross_entropy_backward
        yield Case(label, forward, backward, (x, weight, bias))
        if logits == 15:
            yield Case("no bias", forward, backward, (x, weight))


def gpt_block(rng: Generator) -> Iterator[Case]:
    """Run one block, alone and after a past."""
    like = GPT(7, 9, 6, 1, 3, dtype=np.float64)
    prefix = GPT.BLOCK.format(0)
    past = (rng.normal(size=(2, 3, 4, 2)), rng.normal(size=(2, 3, 4, 2)))
    for label, options in (
        ("alone", {}),
        ("dropout", {"dropout": 0.3}),
        ("past", {"past": past}),
        ("mask", {"mask": rng.random((2, 1, 5, 5)) < 0.7}),
    ):
        p = _block_parameters(like, prefix, rng)

        def forward(x: Array, p: dict[str, Array], options: Any = options) -> tuple[Any, Any]:
            return gpt_block_forward(x, p, 3, rng=np.random.default_rng(5), **options)

        yield Case(label, forward, gpt_block_backward, (rng.normal(size=(2, 5, 6)), p))


def llama_block(rng: Generator) -> Iterator[Case]:
    """Run one block, alone and after a past."""
    like = Llama(7, 9, 6, 1, 6, 2, hidden_size=5, head_size=4, dtype=np.float64)
    prefix = Llama.BLOCK.format(0)
    past = (rng.normal(size=(2, 2, 4, 4)), rng.normal(size=(2, 2, 4, 4)))
    for label, options in (
        ("alone", {}),
        ("dropout", {"dropout": 0.3}),
        ("past, window", {"past": past, "window": 3}),
        ("mask", {"mask": rng.random((2, 1, 5, 5)) < 0.7}),
    ):
        p = _block_parameters(like, prefix, rng)
        start = 4 if "past" in options else 0
        table = (*layers.rotary_table(np.arange(start, start + 5), 4, 100.0), False)

        def forward(
            x: Array, p: dict[str, Array], options: Any = options, table: Any = table
        ) -> tuple[Any, Any]:
            return llama_block_forward(x, p, 6, 2, table, rng=np.random.default_rng(5), **options)

        yield Case(label, forward, llama_block_backward, (rng.normal(size=(2, 5, 6)), p))


def _block_parameters(like: GPT | Llama, prefix: str, rng: Generator) -> dict[str, Array]:
    names = (name for name in like.parameters.shapes if name.startswith(prefix))
    return {n[len(prefix) :]: rng.normal(size=like.parameters.shapes[n]) / 2 for n in names}


def gpt(rng: Generator) -> Iterator[Case]:
    """Train GPT."""
    base = {"vocab_size": 7, "context": 5, "width": 6, "num_layers": 1, "heads": 3}
    two = base | {"num_layers": 2, "dropout": 0.3}
    yield from _model(GPT, {"one block": base, "two blocks, dropout": two}, rng)


def llama(rng: Generator) -> Iterator[Case]:
    """Train Llama."""
    base = {"vocab_size": 7, "context": 5, "width": 6, "num_layers": 1, "heads": 6, "kv_heads": 2}
    base |= {"head_size": 2, "hidden_size": 5}
    two = base | {"num_layers": 2, "window": 2, "tie_weights": True, "dropout": 0.3}
    interleaved = base | {"interleaved": True, "kv_heads": 1}
    yield from _model(
        Llama,
        {
            "one block": base,
            "interleaved, one key head": interleaved,
            "two blocks, tied, window, dropout": two,
        },
        rng,
    )


def _model(
    build: Callable[..., Any], configurations: dict[str, dict[str, Any]], rng: Generator
) -> Iterator[Case]:
    """Yield the loss of a model over its parameters, both ways that it is computed."""
    ids, targets = rng.integers(7, size=(3, 5)), rng.integers(7, size=(3, 5))
    targets[1, 2] = -100
    for label, config in configurations.items():
        like = build(**config, dtype=np.float64)
        parameters = {n: rng.normal(size=s) / 2 for n, s in like.parameters.shapes.items()}

        def forward(
            ids: Array, parameters: dict[str, Array], config: Any = config
        ) -> tuple[Array, Any]:
            (dtype,) = {a.dtype for a in parameters.values()}
            model = build(**config, dtype=dtype)
            model.parameters.load(parameters)
            logits, cache = model.forward(ids, None, np.random.default_rng(5))
            loss, loss_cache = layers.cross_entropy_forward(logits, targets, reduction="sum")
            return loss, (model, cache, loss_cache, ids)

        def backward(dloss: Array, cache: Any) -> dict[str, Array]:
            model, model_cache, loss_cache, _ = cache
            gradients = model.backward(
                layers.cross_entropy_backward(dloss, loss_cache), model_cache
            )
            return {name: gradients[name] for name in gradients.shapes}

        def at_once(dloss: Array, cache: Any) -> dict[str, Array]:
            model, _, _, ids = cache
            found = model.loss_and_gradients(ids, targets, None, np.random.default_rng(5))
            return {name: dloss * found.gradients[name] for name in found.gradients.shapes}

        yield Case(label, forward, backward, (ids, parameters))
        yield Case(f"{label}, loss and gradients at once", forward, at_once, (ids, parameters))
