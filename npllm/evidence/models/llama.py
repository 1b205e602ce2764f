"""Evidence on Llama and its block."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any

import numpy as np

from npllm import layers
from npllm.evidence.case import Bound, Case, Configuration, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.models.trained import text_batch, trained
from npllm.evidence.models.transformer import HEAD, HIDDEN, block_parameters
from npllm.evidence.source import Source
from npllm.layers.arrays import Array
from npllm.layers.attention import Sight
from npllm.layers.multi_head_attention import KeysAndValues, Rotary
from npllm.models import Llama, llama
from npllm.models.llama import llama_block_backward, llama_block_forward
from npllm.models.transformer import BlockOptions, Transformer

_LLAMA = {
    "vocab_size": 11,
    "context": 7,
    "width": 5,
    "num_layers": 2,
    "heads": 6,
    "kv_heads": 2,
    "head_size": 4,
    "hidden_size": 7,
}


MODEL_CONFIGURATIONS = (
    Configuration("grouped queries", _LLAMA),
    Configuration("one sequence, one step", _LLAMA, batch_size=1, steps=1),
    Configuration("one key head", {**_LLAMA, "kv_heads": 1}),
    Configuration("heads of their own", {**_LLAMA, "kv_heads": 6}),
    Configuration("tied weights", {**_LLAMA, "tie_weights": True}),
    Configuration("sliding window", {**_LLAMA, "window": 2}),
    Configuration("interleaved pairs", {**_LLAMA, "interleaved": True}),
    Configuration("masked targets", _LLAMA, ignored=0.3),
    Configuration("rows of unequal length, dropout", {**_LLAMA, "dropout": 0.3}, lengths=True),
    Configuration(
        "small: two blocks, grouped, window, tied, dropout, masks, lengths",
        {
            "vocab_size": 5,
            "context": 4,
            "width": 3,
            "num_layers": 2,
            "heads": 4,
            "kv_heads": 2,
            "head_size": 2,
            "hidden_size": 3,
            "window": 2,
            "tie_weights": True,
            "dropout": 0.4,
        },
        steps=3,
        ignored=0.2,
        lengths=True,
        quick=True,
    ),
)


def model_cases(rng: Generator) -> Iterator[Case]:
    """Train Llama."""
    base: dict[str, Any] = {
        "vocab_size": 7,
        "context": 5,
        "width": 6,
        "num_layers": 1,
        "heads": 6,
        "kv_heads": 2,
    }
    base |= {"head_size": 2, "hidden_size": 5}
    two = base | {"num_layers": 2, "window": 2, "tie_weights": True, "dropout": 0.3}
    interleaved = base | {"interleaved": True, "kv_heads": 1}
    configurations = {
        "one block": base,
        "interleaved, one key head": interleaved,
        "two blocks, tied, window, dropout": two,
    }
    batch = text_batch(rng)
    for label, config in configurations.items():
        yield from trained(label, partial(Llama, **config), batch, rng)


MODEL_MISTAKES = [
    Mistake(
        "Llama",
        "one block",
        "a token that occurs more than once gets its last position's gradient",
        "The indexed += of NumPy adds once to each row, however often it is named.",
        "Rows of repeated ids are wrong, in the embedding alone.",
        HIDDEN,
        "embedding_backward(dx, cache.tokens, gradients[self.TOKENS])",
        "gradients[self.TOKENS][cache.tokens.ids] += dx",
        cause="repeated_ids",
    ),
    Mistake(
        "Llama",
        "one block",
        "the head's gradient added to the embedding, tied or not",
        "In GPT the two are one matrix.",
        "An untied head gets zero, and the embedding too much.",
        Transformer.backward,
        HEAD,
        "gradients[self.TOKENS] += dhead",
        cause="zero",
    ),
    Mistake(
        "Llama",
        "two blocks, tied, window, dropout",
        "every block given the last one's cache",
        "All blocks cache arrays of the same shapes.",
        "The last block is right, the first is not: one block would not show it.",
        HIDDEN,
        "cache.blocks[n]",
        "cache.blocks[-1]",
    ),
    Mistake(
        "Llama",
        "two blocks, tied, window, dropout",
        "a block's dx not handed down",
        "Every block then is given the last norm's, which has its shape.",
        "The last block and the norm are right, the first block and the tokens are not.",
        HIDDEN,
        "dx, own = self.block_backward",
        "_, own = self.block_backward",
    ),
    Mistake(
        "Llama",
        "interleaved, one key head",
        "each block's backward returns nothing for its norms",
        "A loop over the maps: norms are not what one thinks of as weights.",
        "Zero where it must not be, in two gains a block.",
        HIDDEN,
        "for name, gradient in own.items():",
        "for name, gradient in ((n, g) for n, g in own.items() if g.ndim == 2):",
        cause="zero",
    ),
    Mistake(
        "Llama",
        "two blocks, tied, window, dropout",
        "the blocks walked from the bottom",
        "reversed() forgotten: all blocks have one shape.",
        "With a single block there is no order; with two only the last norm is right.",
        HIDDEN,
        'reversed(range(self.config["num_layers"]))',
        'range(self.config["num_layers"])',
    ),
]


def llama_block_arguments(
    source: Source, lead: Lead, n: int, m: int, *, past: bool = False
) -> Bound:
    """Run a block of 2 m heads of width 2 that share m key heads, over n positions."""
    batch, start = prod(lead), 2 if past else 0
    like = Llama(1, n, 4 * m, 1, 2 * m, m, hidden_size=3)
    rotary = Rotary(*layers.rotary_table(np.arange(start, start + n), 2))
    kept = (source.normal(batch, m, 2, 2), source.normal(batch, m, 2, 2)) if past else None

    def forward(x: Array, p: dict[str, Array]) -> tuple[object, object]:
        return llama_block_forward(x, p, 2 * m, m, past=kept, options=BlockOptions(rotary))

    p = block_parameters(like, lambda shape: source.normal(*shape))
    return Bound(forward, llama_block_backward, (source.normal(batch, n, 4 * m), p))


LLAMA_BLOCK_VARIANTS: Variants = {"": {}, "past": {"past": True}}


def llama_block_cases(rng: Generator) -> Iterator[Case]:
    """Run one block, alone and after a past."""
    like = Llama(7, 9, 6, 1, 6, 2, hidden_size=5, head_size=4, dtype=np.float64)
    past = (rng.normal(size=(2, 2, 4, 4)), rng.normal(size=(2, 2, 4, 4)))
    for label, kept, options in (
        ("alone", None, BlockOptions()),
        ("dropout", None, BlockOptions(dropout=0.3)),
        ("past, window", past, BlockOptions(sight=Sight(causal=True, window=3))),
        ("mask", None, BlockOptions(sight=Sight(rng.random((2, 1, 5, 5)) < 0.7, causal=True))),
    ):
        p = block_parameters(like, lambda shape: rng.normal(size=shape) / 2)
        start = 0 if kept is None else 4
        table = layers.rotary_table(np.arange(start, start + 5), 4, 100.0)
        turned = options._replace(rotary=Rotary(*table))

        def forward(
            x: Array,
            p: dict[str, Array],
            kept: KeysAndValues | None = kept,
            options: BlockOptions = turned,
        ) -> tuple[object, object]:
            seeded = options._replace(rng=np.random.default_rng(5))
            return llama_block_forward(x, p, 6, 2, past=kept, options=seeded)

        yield Case(label, forward, llama_block_backward, (rng.normal(size=(2, 5, 6)), p))


_llama = llama.llama_block_backward
_norm_2 = 'dm, g["post_attention_layernorm.weight"] = rms_norm_backward(dn + dn_gate, norm_2)'


LLAMA_BLOCK_MISTAKES = [
    Mistake(
        "llama_block",
        "alone",
        "the gate's share of dx forgotten",
        "The up path's alone has the shape of the sum.",
        "The three maps of the mlp are right, everything below is not.",
        _llama,
        "rms_norm_backward(dn + dn_gate, norm_2)",
        "rms_norm_backward(dn, norm_2)",
    ),
    Mistake(
        "llama_block",
        "alone",
        "the values' share of dx forgotten",
        "Three maps read one input; two of them feel like self-attention.",
        "Only the first norm and dx are wrong.",
        _llama,
        "dn_q + dn_k + dn_v",
        "dn_q + dn_k",
    ),
    Mistake(
        "llama_block",
        "alone",
        "the residual path around attention forgotten",
        "dx = da has the shape of dx + da.",
        "Only dx is wrong: the last line of the backward.",
        _llama,
        "return dx + da, g",
        "return da, g",
    ),
    Mistake(
        "llama_block",
        "past, window",
        "the residual path around the mlp forgotten",
        "dx = dm has the shape of dx + dm.",
        "The mlp and its norm are right, attention and dx are not.",
        _llama,
        "dx = dx + dm",
        "dx = dm",
    ),
    Mistake(
        "llama_block",
        "alone",
        "the gradients of gate and up exchanged",
        "Both maps have one shape and one input.",
        "down_proj is right; gate_proj and up_proj each have what belongs to the other.",
        _llama,
        "dgate, dup = swiglu_backward",
        "dup, dgate = swiglu_backward",
        cause="swapped",
    ),
    Mistake(
        "llama_block",
        "alone",
        "the gradients of k and v exchanged",
        "Keys and values have one shape, and so have their maps.",
        "k_proj and v_proj each have what belongs to the other.",
        _llama,
        "dq, dk, dv = multi_head",
        "dq, dv, dk = multi_head",
        cause="swapped",
    ),
    Mistake(
        "llama_block",
        "alone",
        "the second norm's backward run once a path, its gain's gradient kept from the last",
        "dx adds up rightly, and the gain is assigned twice.",
        "Only that gain is wrong.",
        _llama,
        _norm_2,
        "dm, _ = rms_norm_backward(dn, norm_2)\n"
        '    dm_gate, g["post_attention_layernorm.weight"] = rms_norm_backward(dn_gate, norm_2)\n'
        "    dm = dm + dm_gate",
    ),
    Mistake(
        "llama_block",
        "dropout",
        "the dropout of attention's output forgotten",
        "dy and dx of dropout have one shape; public models have none.",
        "The mlp is right, attention's maps are wrong as soon as p > 0.",
        _llama,
        "da = dropout_backward(dx, dropped)",
        "da = dx",
    ),
    Mistake(
        "llama_block",
        "mask",
        "the second norm's cache used for the first",
        "Both norms cache arrays of one shape.",
        "Only dx and the first norm's gain are wrong: the last line but one of the backward.",
        _llama,
        "rms_norm_backward(dn_q + dn_k + dn_v, norm_1)",
        "rms_norm_backward(dn_q + dn_k + dn_v, norm_2)",
    ),
]
