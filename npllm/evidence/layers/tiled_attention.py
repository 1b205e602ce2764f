"""Evidence on attention a few scores at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from npllm import layers
from npllm.checking.pair import Forward
from npllm.evidence.case import Bound, Case, Generator, Lead, Variants
from npllm.evidence.layers.attention import attending
from npllm.evidence.mistake import Mistake
from npllm.evidence.source import Source
from npllm.layers.arrays import Array


def tiled_attention_arguments(source: Source, lead: Lead, n: int, m: int, **options: Any) -> Bound:
    """Attend from n queries to m keys, a few scores at a time."""
    attend = partial(layers.tiled_attention_forward, scores=5)
    return attending(attend, layers.tiled_attention_backward, source, lead, n, m, **options)


TILED_ATTENTION_VARIANTS: Variants = {
    "": {},
    "all": {
        "bias": True,
        "mask": True,
        "causal": True,
        "softcap": 0.8,
        "offset": 1,
        "window": 2,
    },
}


def tiled_attention_cases(rng: Generator) -> Iterator[Case]:
    """Attend a few scores at a time, with every option."""
    q, k, v = (rng.normal(size=size) for size in ((2, 3, 7, 3), (2, 1, 6, 3), (3, 6, 4)))
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
        attend: Forward = partial(layers.tiled_attention_forward, **options)

        def forward(
            q: Array, k: Array, v: Array, bias: Array | None = None, attend: Forward = attend
        ) -> tuple[object, object]:
            return attend(q, k, v, bias=bias, scores=26)

        yield Case(label, forward, layers.tiled_attention_backward, args)


_backward = layers.tiled_attention_backward
_again = "block = _block(cache, tile)"
_cuts = "((rows, everything), (keys, everything), (keys, everything), (rows, keys))"


TILED_ATTENTION_MISTAKES = [
    Mistake(
        "tiled_attention",
        "causal",
        "= for += where a block's gradients are added up",
        "Each query is in one block: dq is right; with one block and nothing shared all of it is.",
        "A key keeps only what the last block that saw it gave, of the last head that shares it.",
        _backward,
        "place += part",
        "place[...] = part",
        wild=True,
    ),
    Mistake(
        "tiled_attention",
        "causal",
        "the block's place forgotten where its weights are computed again",
        "The first block starts at 0, and short sequences have no other.",
        "Later blocks see fewer keys than in the forward: the first queries' gradients are right.",
        _backward,
        _again,
        "sight = cache.sight._replace(offset=cache.sight.offset - rows.start + keys.start)\n"
        "            block = _block(cache._replace(sight=sight), tile)",
        cause="slices",
    ),
    Mistake(
        "tiled_attention",
        "plain",
        "the last block dropped where it is not full",
        "Tq // size blocks: with sizes that are powers of two nothing is left over.",
        "Zero for the last query; keys and values lack its share.",
        _backward,
        "for tile in tiles:",
        "full = cache.tiles[0].rows.stop\n"
        "        for tile in (t for t in tiles if t.rows.stop - t.rows.start == full):",
        cause="zero",
    ),
    Mistake(
        "tiled_attention",
        "mask, softcap, scale",
        "the weights computed again with the default scale",
        "Right for everyone who keeps the default.",
        "All three gradients are wrong, since these are other weights, not a factor.",
        _backward,
        _again,
        "block = _block(cache._replace(scale=None), tile)",
    ),
    Mistake(
        "tiled_attention",
        "mask, softcap, scale",
        "the weights computed again without the mask",
        "A mask of ones changes nothing.",
        "The query that sees nothing gets a gradient, and hidden keys get one from it.",
        _backward,
        _again,
        "block = _block(cache._replace(sight=cache.sight._replace(mask=None)), tile)",
    ),
    Mistake(
        "tiled_attention",
        "window",
        "the weights computed again without the window",
        "The block's keys are cut to what the window reaches, so little is left for it to hide.",
        "dq is right where a query sees all keys of its block; the others see one too many.",
        _backward,
        _again,
        "block = _block(cache._replace(sight=cache.sight._replace(window=None)), tile)",
    ),
    Mistake(
        "tiled_attention",
        "bias of a head",
        "the weights computed again without the bias",
        "Attention then returns three gradients, and a zip that is not strict lets the fourth be.",
        "The bias's gradient is zero; the others are off.",
        _backward,
        _again,
        "block = _block(cache._replace(bias=None), tile)",
        cause="zero",
    ),
    Mistake(
        "tiled_attention",
        "causal, window",
        "a block's keys' gradients written from the first key on",
        "They have the shape of what the block sees, and without a window it starts at 0.",
        "dq and dv are right, dk is not: its last keys get nothing.",
        _backward,
        _cuts,
        "((rows, everything), (slice(keys.stop - keys.start), everything), "
        "(keys, everything), (rows, keys))",
    ),
    Mistake(
        "tiled_attention",
        "plain",
        "every block given the first block's share of dy",
        "A slice by the block's length has the block's shape.",
        "The gradients of the first block's queries are right, of the others not.",
        _backward,
        "dy[index][rows]",
        "dy[index][: rows.stop - rows.start]",
        cause="slices",
    ),
]
