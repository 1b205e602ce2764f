"""BERT's encoder from transformers' files: its equations are those of the encoder's block.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2018). A token begins as the
sum of three embeddings, of its word, of its place and of the sentence it belongs to, under a layer
norm; then come blocks (:mod:`npllm.models.encoder`), whose maps of q, k and v the files hold apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.files import Json
from npllm.layers import embedding_forward, layer_norm_forward
from npllm.layers.arrays import Array
from npllm.models.encoder import (
    checked_rows,
    encoder_block_forward,
    encoder_block_shapes,
    real_places,
)
from npllm.pretrained.transformers_config import Keys
from npllm.pretrained.weights import check_tensors
from npllm.tensor_file import TensorFile

_EMBEDDINGS = {
    "word.weight": "embeddings.word_embeddings.weight",
    "position.weight": "embeddings.position_embeddings.weight",
    "type.weight": "embeddings.token_type_embeddings.weight",
    "norm.weight": "embeddings.LayerNorm.weight",
    "norm.bias": "embeddings.LayerNorm.bias",
}
# of a module of the block those of the file, which stand below each other
_BLOCK = {
    "self_attn.in_proj_": [f"attention.self.{part}." for part in ("query", "key", "value")],
    "self_attn.out_proj.": ["attention.output.dense."],
    "norm1.": ["attention.output.LayerNorm."],
    "linear1.": ["intermediate.dense."],
    "linear2.": ["output.dense."],
    "norm2.": ["output.LayerNorm."],
}
# what is not the encoder's: a buffer, the pooler of the first token, the heads of the training
_BESIDES = re.compile(r"(bert\.)?(embeddings\.position_ids|pooler\..+)|cls\..+")


class BertSizes(NamedTuple):
    """What a config.json says.

    Attributes:
        vocab_size: V.
        context: how many positions there are.
        types: how many kinds of sentences.
        width: E.
        inner: F, between the two linear maps of a block.
        num_layers: L, blocks on top of one another.
        heads: N, which divides E.
        eps: of the layer norms.
    """

    vocab_size: int
    context: int
    types: int
    width: int
    inner: int
    num_layers: int
    heads: int
    eps: float

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter, by its name.

        >>> BertSizes(7, 5, 2, 4, 8, 1, 2, 1e-12).shapes()["layers.0.self_attn.in_proj_weight"]
        (12, 4)
        """
        block = encoder_block_shapes(self.width, self.inner)
        return {
            "word.weight": (self.vocab_size, self.width),
            "position.weight": (self.context, self.width),
            "type.weight": (self.types, self.width),
            "norm.weight": (self.width,),
            "norm.bias": (self.width,),
            **{f"layers.{n}.{name}": block[name] for n in range(self.num_layers) for name in block},
        }


class Bert:
    """BERT's encoder, which reads and does not learn.

    Args:
        sizes: of the model.
        parameters: arrays by the names of :meth:`BertSizes.shapes`.

    >>> sizes = BertSizes(vocab_size=7, context=5, types=2, width=4, inner=8, num_layers=1, heads=2,
    ...                   eps=1e-12)
    >>> model = Bert(sizes, {name: np.ones(shape) for name, shape in sizes.shapes().items()})
    >>> model.forward([[3, 1, 0]], [2])[0, 0].tolist()  # of ones nothing is left but the bias
    [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, sizes: BertSizes, parameters: Mapping[str, Array]) -> None:
        self.sizes, self.parameters = sizes, parameters
        self._block = tuple(encoder_block_shapes(1, 1))

    def forward(self, ids: npt.ArrayLike, lengths: npt.ArrayLike) -> Array:
        """Return what the encoder makes of texts, each of one sentence (type 0).

        With norm a layer norm and e(a) a row of a table::

            x = norm(e(word) + e(place) + e(type 0))
            x = block(x), L times

        Args:
            ids: (B, T), anything behind each text.
            lengths: (B,) of the texts.

        Returns:
            x (B, T, E), which is of use where a text is.

        Raises:
            TypeError: ids or lengths are not integers.
            ValueError: one is out of range, or there are more tokens than positions.
        """
        rows, ends = checked_rows(ids, lengths, self.sizes.vocab_size)
        steps = rows.shape[1]
        if steps > self.sizes.context:
            raise ValueError(
                f"the model has {self.sizes.context} positions, and a text {steps} tokens"
            )
        p = self.parameters
        words, _ = embedding_forward(rows, p["word.weight"])  # (B, T, E)
        places = p["position.weight"][:steps] + p["type.weight"][0]  # (T, E)
        eps = self.sizes.eps
        x, _ = layer_norm_forward(words + places, p["norm.weight"], p["norm.bias"], eps=eps)
        real = real_places(ends, steps)
        for n in range(self.sizes.num_layers):
            own = {name: p[f"layers.{n}.{name}"] for name in self._block}
            x, _ = encoder_block_forward(x, own, self.sizes.heads, real=real, eps=eps)
        return x


def bert_sizes(config: Mapping[str, Json]) -> BertSizes:
    """Return the sizes that a config.json of transformers says.

    Raises:
        ValueError: it is of another architecture, or of one with parts that this one has not; a
            value is missing or of the wrong kind. The message names the key.

    >>> bert_sizes({"model_type": "bert", "num_hidden_layers": 6}).num_layers
    6
    """
    if (kind := config.get("model_type")) != "bert":
        raise ValueError(f"model_type is {kind!r:.80}; of encoders bert is read")
    keys = Keys(config)
    keys.must_be("quantization_config", None)
    keys.must_be("hidden_act", "gelu")
    keys.must_be("position_embedding_type", "absolute")
    keys.must_be("is_decoder", False)
    keys.must_be("add_cross_attention", False)
    keys.must_be("pruned_heads", None, {})
    width, heads = keys.size("hidden_size", 768), keys.size("num_attention_heads", 12)
    if width % heads:
        raise ValueError(f"num_attention_heads is {heads}: must divide hidden_size, {width}")
    return BertSizes(
        vocab_size=keys.size("vocab_size", 30522),
        context=keys.size("max_position_embeddings", 512),
        types=keys.size("type_vocab_size", 2),
        width=width,
        inner=keys.size("intermediate_size", 3072),
        num_layers=keys.size("num_hidden_layers", 12),
        heads=heads,
        eps=keys.number("layer_norm_eps", 1e-12),
    )


def read_bert(file: TensorFile, sizes: BertSizes, dtype: npt.DTypeLike = np.float32) -> Bert:
    """Return a model with a file's weights, which are read one at a time.

    Args:
        file: of the tensors, by transformers' names, with ``bert.`` before them or not.
        sizes: of the model.
        dtype: float32 or float64.

    Raises:
        ValueError: tensors are missing or unknown, or have other shapes or types that are not read.
    """
    if sizes.num_layers > len(file.tensors):
        raise ValueError(
            f"{file.path} does not fit: {sizes.num_layers} blocks are not made of "
            f"{len(file.tensors)} tensors"
        )
    base = "bert." if any(name.startswith("bert.") for name in file.tensors) else ""
    shapes = sizes.shapes()
    sources = {name: [base + part for part in _parts(name)] for name in shapes}
    expected = {
        part: (shapes[name][0] // len(parts), *shapes[name][1:])
        for name, parts in sources.items()
        for part in parts
    }
    besides = [name for name in file.tensors if _BESIDES.fullmatch(name)]
    check_tensors(file, expected, {part: part for part in expected}, besides)
    parameters = {}
    for name, parts in sources.items():
        arrays = [file.load(part, dtype) for part in parts]
        parameters[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return Bert(sizes, parameters)


def _parts(name: str) -> list[str]:
    """Return the file's names of what a parameter is made of.

    >>> _parts("layers.3.self_attn.in_proj_bias")[1]
    'encoder.layer.3.attention.self.key.bias'
    """
    if name in _EMBEDDINGS:
        return [_EMBEDDINGS[name]]
    _, n, rest = name.split(".", 2)
    kind = "weight" if rest.endswith("weight") else "bias"
    return [f"encoder.layer.{n}.{module}{kind}" for module in _BLOCK[rest.removesuffix(kind)]]
