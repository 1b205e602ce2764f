"""Evidence on GPT and its block."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import prod
from typing import Any

import numpy as np

from npllm.evidence.case import Bound, Case, Configuration, Generator, Lead, Variants
from npllm.evidence.mistake import Mistake
from npllm.evidence.models.trained import text_batch, trained
from npllm.evidence.models.transformer import HEAD, HIDDEN, block_parameters
from npllm.evidence.source import Source
from npllm.layers.arrays import Array
from npllm.layers.attention import Sight
from npllm.layers.multi_head_attention import KeysAndValues
from npllm.models import GPT, gpt
from npllm.models.gpt import gpt_block_backward, gpt_block_forward
from npllm.models.transformer import BlockOptions, Transformer

_GPT = {"vocab_size": 11, "context": 7, "width": 6, "num_layers": 2, "heads": 3}


MODEL_CONFIGURATIONS = (
    Configuration("two blocks", _GPT),
    Configuration("one sequence, one step", _GPT, batch_size=1, steps=1),
    Configuration("one head, one block", {**_GPT, "heads": 1, "num_layers": 1}),
    Configuration("masked targets", _GPT, ignored=0.3),
    Configuration("rows of unequal length", _GPT, lengths=True),
    Configuration("dropout", {**_GPT, "dropout": 0.3}),
    Configuration(
        "small: two blocks, dropout, masks, lengths",
        {
            "vocab_size": 5,
            "context": 4,
            "width": 4,
            "num_layers": 2,
            "heads": 2,
            "dropout": 0.4,
        },
        steps=3,
        ignored=0.2,
        lengths=True,
        quick=True,
    ),
)


def model_cases(rng: Generator) -> Iterator[Case]:
    """Train GPT."""
    base: dict[str, Any] = {"vocab_size": 7, "context": 5, "width": 6, "num_layers": 1, "heads": 3}
    two = base | {"width": 4, "num_layers": 2, "heads": 2, "dropout": 0.3}
    batch = text_batch(rng)
    for label, config in {"one block": base, "two blocks, dropout": two}.items():
        yield from trained(label, partial(GPT, **config), batch, rng)


MODEL_MISTAKES = [
    Mistake(
        "GPT",
        "one block",
        "a position's gradient from the first sequence only",
        "A slice has the shape that the sum over the batch would have.",
        "Only the positions are wrong; right for a batch of one.",
        HIDDEN,
        "dx.sum(axis=0) if",
        "dx[0] if",
    ),
    Mistake(
        "GPT",
        "one block",
        "a position's gradient averaged over the batch",
        "mean(axis=0) and sum(axis=0) have one shape.",
        "Off by exactly the size of the batch.",
        HIDDEN,
        "dx.sum(axis=0) if",
        "dx.mean(axis=0) if",
        cause="scale",
    ),
    Mistake(
        "GPT",
        "one block",
        "a tied matrix keeps the head's share only",
        "= for +=: the last writer wins.",
        "Only the tied matrix is wrong, in the rows of words that were read.",
        Transformer.backward,
        HEAD,
        "gradients[self.HEAD] = dhead",
    ),
    Mistake(
        "GPT",
        "one block, loss and gradients at once",
        "a tied matrix keeps the embedding's share only",
        "The head is not in the list of parameters, so nobody asks for its gradient.",
        "Only the tied matrix is wrong.",
        Transformer.loss_and_gradients,
        "onto=[gradients[self.HEAD]]",
        "onto=[gradients[self.HEAD] * (self.HEAD in gradients.shapes)]",
    ),
    Mistake(
        "GPT",
        "one block",
        "the last norm not trained",
        "A loop over the blocks, and the norm stands behind them.",
        "Zero where it must not be.",
        HIDDEN,
        "gradients[name] += gradient",
        "pass",
        cause="zero",
    ),
    Mistake(
        "GPT",
        "one block",
        "the last norm's backward passed by on the way to the blocks",
        "Its dx has the shape of what comes in.",
        "The last norm is right, all below is not; the tied matrix is half right.",
        HIDDEN,
        "dx, *dnorm = self.norm_backward(dh, cache.norm)",
        "dx, dnorm = dh, self.norm_backward(dh, cache.norm)[1:]",
    ),
    Mistake(
        "GPT",
        "one block",
        "gradients kept from call to call",
        "The framework's habit, without its zero_grad.",
        "A second backward returns the sum of both.",
        HIDDEN,
        "gradients = self.parameters.zeros_like()",
        'gradients = self.__dict__.setdefault("kept", self.parameters.zeros_like())',
        cause="accumulated",
    ),
    Mistake(
        "GPT",
        "two blocks, dropout",
        "the dropout of the embedding forgotten on the way back",
        "dy and dx of dropout have one shape; at p = 0 they are equal.",
        "The blocks are right, tokens and positions are not.",
        HIDDEN,
        "dx = dropout_backward(dx, cache.dropout)",
        "pass",
    ),
    Mistake(
        "GPT",
        "one block, loss and gradients at once",
        "the gradients of the mean beside the sum of the losses",
        "Adam does not feel a constant factor.",
        "Off by exactly the number of tokens: shards of a batch no longer add up.",
        Transformer.loss_and_gradients,
        "gradients = self.hidden_backward(dh, cache, gradients)",
        "gradients = self.hidden_backward(dh, cache, gradients)\n"
        "    gradients.vector /= np.count_nonzero(targets != -100)",
        cause="scale",
    ),
]


def gpt_block_arguments(source: Source, lead: Lead, n: int, m: int, *, past: bool = False) -> Bound:
    """Run a block of m heads of width 2 over n positions."""
    batch = prod(lead)
    like = GPT(1, n, 2 * m, 1, m)
    kept = (source.normal(batch, m, 2, 2), source.normal(batch, m, 2, 2)) if past else None

    def forward(x: Array, p: dict[str, Array]) -> tuple[object, object]:
        return gpt_block_forward(x, p, m, past=kept)

    p = block_parameters(like, lambda shape: source.normal(*shape))
    return Bound(forward, gpt_block_backward, (source.normal(batch, n, 2 * m), p))


GPT_BLOCK_VARIANTS: Variants = {"": {}, "past": {"past": True}}


def gpt_block_cases(rng: Generator) -> Iterator[Case]:
    """Run one block, alone and after a past."""
    like = GPT(7, 9, 6, 1, 3, dtype=np.float64)
    past = (rng.normal(size=(2, 3, 4, 2)), rng.normal(size=(2, 3, 4, 2)))
    for label, kept, options in (
        ("alone", None, BlockOptions()),
        ("dropout", None, BlockOptions(dropout=0.3)),
        ("past", past, BlockOptions()),
        ("mask", None, BlockOptions(sight=Sight(rng.random((2, 1, 5, 5)) < 0.7, causal=True))),
    ):
        p = block_parameters(like, lambda shape: rng.normal(size=shape) / 2)

        def forward(
            x: Array,
            p: dict[str, Array],
            kept: KeysAndValues | None = kept,
            options: BlockOptions = options,
        ) -> tuple[object, object]:
            seeded = options._replace(rng=np.random.default_rng(5))
            return gpt_block_forward(x, p, 3, past=kept, options=seeded)

        yield Case(label, forward, gpt_block_backward, (rng.normal(size=(2, 5, 6)), p))


_gpt = gpt.gpt_block_backward
_ln_2 = 'dm, g["ln_2.weight"], g["ln_2.bias"] = layer_norm_backward(dm, ln_2)\n    dx = dx + dm'


GPT_BLOCK_MISTAKES = [
    Mistake(
        "gpt_block",
        "alone",
        "the residual path around attention forgotten",
        "dx = da has the shape of dx + da.",
        "The block's own parameters are right; dx, and so everything below, is not.",
        _gpt,
        "return dx + da, {",
        "return da, {",
    ),
    Mistake(
        "gpt_block",
        "alone",
        "the residual path around the mlp forgotten",
        "dx = dm has the shape of dx + dm.",
        "The mlp's parameters are right, attention's and dx are not.",
        _gpt,
        "dx = dx + dm",
        "dx = dm",
    ),
    Mistake(
        "gpt_block",
        "alone",
        "the residual added in place",
        "It saves an array, and the numbers are right.",
        "dx is the caller's dy.",
        _gpt,
        "dx = dx + dm",
        "dx += dm",
        cause="mutated_dy",
    ),
    Mistake(
        "gpt_block",
        "alone",
        "the norm's backward applied to the sum of both paths",
        "It is the order of 2017, norm(x + f(x)); since GPT-2 it is x + f(norm(x)).",
        "The second norm's own gradients are wrong too; the mlp's are right.",
        _gpt,
        _ln_2,
        'dx, g["ln_2.weight"], g["ln_2.bias"] = layer_norm_backward(dx + dm, ln_2)',
    ),
    Mistake(
        "gpt_block",
        "alone",
        "the first half given what came in, without what came through the second",
        "dy is at hand under the name it came by.",
        "The mlp's parameters are right, attention's are not.",
        _gpt,
        "da = dropout_backward(dx, dropped)",
        "da = dropout_backward(dy[0], dropped)",
    ),
    Mistake(
        "gpt_block",
        "alone",
        "a weight transposed back only where the shapes differ",
        "The others complain if they are not; a square one does not.",
        "The one square matrix is transposed: give it another width, where that can be.",
        _gpt,
        "d.T if d.ndim == 2 else d",
        "d.T if d.ndim == 2 and d.shape[0] != d.shape[1] else d",
        cause="transposed",
    ),
    Mistake(
        "gpt_block",
        "alone",
        "the weights reshaped back instead of transposed",
        "(O, I) and (I, O) hold as many numbers.",
        "All four matrices are wrong; the biases, the norms and dx are right.",
        _gpt,
        "d.T if d.ndim == 2 else d",
        "d.reshape(d.shape[::-1]) if d.ndim == 2 else d",
        cause="transposed",
    ),
    Mistake(
        "gpt_block",
        "dropout",
        "the dropout of the mlp forgotten",
        "dy and dx of dropout have one shape; at p = 0 they are equal.",
        "The mlp's parameters are wrong as soon as p > 0, and all that come after in the backward.",
        _gpt,
        "dm = dropout_backward(dx, mlp_dropped)",
        "dm = dx",
    ),
    Mistake(
        "gpt_block",
        "dropout",
        "attention's dropout mask used for the mlp too",
        "Both masks have one shape, and each keeps as many.",
        "All of the block is wrong, the mlp too; at p = 0 it is right.",
        _gpt,
        "dropout_backward(dx, mlp_dropped)",
        "dropout_backward(dx, dropped)",
    ),
    Mistake(
        "gpt_block",
        "alone",
        "the gradients of k and v exchanged where they are joined",
        "All three have one shape.",
        "The middle and the last third of c_attn's columns are exchanged, the first is right.",
        _gpt,
        "np.concatenate(multi_head_attention_backward((da, dkept), attention), axis=-1)",
        "np.concatenate(\n        [multi_head_attention_backward((da, dkept), attention)[i] "
        "for i in (0, 2, 1)], axis=-1\n    )",
    ),
    Mistake(
        "gpt_block",
        "alone",
        "the gradients of the two norms' gains exchanged",
        "Both are (E,), and their names differ by a digit.",
        "Each is what belongs to the other.",
        _gpt,
        "g.items()",
        '(g | {"ln_1.weight": g["ln_2.weight"], "ln_2.weight": g["ln_1.weight"]}).items()',
        cause="swapped",
    ),
    Mistake(
        "gpt_block",
        "alone",
        "the first norm's cache used for the second",
        "Both norms cache arrays of one shape.",
        "The second norm's bias, which needs no cache, is right; its gain and all below are not.",
        _gpt,
        "layer_norm_backward(dm, ln_2)",
        "layer_norm_backward(dm, ln_1)",
    ),
    Mistake(
        "gpt_block",
        "alone",
        "the slope of the exact GELU used for the tanh form",
        "The two forms differ by less than 1e-3, and the loss falls as fast.",
        "The mlp's second map, which comes before it in the backward, is right to all digits.",
        _gpt,
        "gelu_backward(dm, gelu)",
        'gelu_backward(dm, gelu._replace(approximate="none"))',
        cause="epsilon",
    ),
    Mistake(
        "gpt_block",
        "past",
        "the gradient of the keys and values that are kept not handed on",
        "In training it is None.",
        "c_attn's share for q is right, those for k and v are not.",
        _gpt,
        "(da, dkept)",
        "(da, None)",
        cause="slices",
    ),
]
