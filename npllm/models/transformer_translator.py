"""The Transformer as a translator: Vaswani et al., "Attention Is All You Need" (2017)."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from npllm.layers import (
    dropout_backward,
    dropout_forward,
    embedding_backward,
    embedding_forward,
)
from npllm.layers.arrays import Array, Mask, check_ids
from npllm.layers.dropout import DropoutCache, RowsOfDraws
from npllm.layers.embedding import EmbeddingCache
from npllm.layers.multi_head_attention import KeysAndValues, multi_head_attention_weights
from npllm.models.decoder import (
    DecoderBlockCache,
    decoder_block_backward,
    decoder_block_forward,
    decoder_block_shapes,
)
from npllm.models.encoder import (
    EncoderBlockCache,
    checked_rows,
    encoder_block_backward,
    encoder_block_forward,
    encoder_block_shapes,
    real_places,
)
from npllm.models.language_model import Views, check_options, check_sizes
from npllm.models.parameters import Parameters
from npllm.models.places import Memory, placed
from npllm.models.translator import Translator, TranslatorCache


class SourceState(NamedTuple):
    """What a decoder keeps: of the source, and of what it has written.

    Attributes:
        memory: (B, S, E), what the encoder made of the source; None once the keys and values of it
            are known.
        source: these, of each block.
        real: (B, S), which places of the source are real; None where all are.
        written: of what was written; None before that.
    """

    memory: Array | None
    source: tuple[KeysAndValues, ...] | None
    real: Mask | None
    written: Memory | None


class EncoderCache(NamedTuple):
    """What the backward needs of :meth:`TransformerTranslator.encode`."""

    tokens: EmbeddingCache
    positions: EmbeddingCache
    dropout: DropoutCache
    blocks: list[EncoderBlockCache]


class HiddenCache(NamedTuple):
    """What the backward needs of the decoder below its head."""

    tokens: EmbeddingCache
    positions: EmbeddingCache
    dropout: DropoutCache
    blocks: list[DecoderBlockCache]


class TransformerTranslator(Translator[SourceState, Array, EncoderCache, HiddenCache]):
    """Vaswani et al.'s Transformer, with learned positions and GELU.

    The head is the table of the target's words (Press and Wolf, "Using the Output Embedding"
    (2017)), which may be the source's too.

    Args:
        source_size: how many words the source has.
        vocab_size: V, how many the target has.
        context: how many positions either has.
        width: E.
        num_layers: L, blocks on top of one another, of the encoder and of the decoder.
        heads: N, which divides E.
        dropout: probability of zeroing an element of an embedding's output, of an attention's
            weights and of what each part of a block adds.
        label_smoothing: of the loss in training.
        share_words: whether both languages have one table, which needs one vocabulary.
        seed: of the initial weights, or a Generator to draw them from; None leaves all zero.
        dtype: float32, float64 or, for the complex step, complex128.

    Raises:
        ValueError: a number is out of its range.

    >>> sizes = {"source_size": 5, "vocab_size": 7, "context": 6, "width": 4}
    >>> model = TransformerTranslator(**sizes, num_layers=1, heads=2)
    >>> state, _ = model.encode([[1, 2, 3]], [3])
    >>> logits, _ = model.predict([[model.mark, 4]], state)
    >>> logits.shape
    (1, 2, 8)
    """

    CHOICES: ClassVar[tuple[str, ...]] = (
        *("context", "width", "num_layers", "heads", "dropout", "label_smoothing", "share_words"),
    )

    def __init__(
        self,
        source_size: int,
        vocab_size: int,
        context: int,
        width: int,
        num_layers: int,
        heads: int,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        share_words: bool = False,
        *,
        seed: int | np.random.Generator | None = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        sizes = {
            "source_size": source_size,
            "vocab_size": vocab_size,
            "context": context,
            "width": width,
            "num_layers": num_layers,
            "heads": heads,
        }
        check_options(dropout, dtype)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing}")
        if width % heads:
            raise ValueError(f"heads must divide width={width}, got {heads}")
        if share_words and source_size != vocab_size:
            raise ValueError(
                f"share_words needs one vocabulary, got {source_size} and {vocab_size} words"
            )
        self.config = {
            **check_sizes(sizes),
            "dropout": float(dropout),
            "label_smoothing": float(label_smoothing),
            "share_words": bool(share_words),
        }
        shapes: dict[str, tuple[int, ...]] = {"target.weight": (vocab_size + 1, width)}
        if not share_words:
            shapes["source.weight"] = (source_size, width)
        shapes |= {"source_position.weight": (context, width)}
        shapes |= {"target_position.weight": (context, width)}
        of_encoder = encoder_block_shapes(width, 4 * width)
        of_decoder = decoder_block_shapes(width, 4 * width)
        self._encoder, self._decoder = tuple(of_encoder), tuple(of_decoder)
        for n in range(num_layers):
            shapes |= {f"encoder.layers.{n}.{name}": s for name, s in of_encoder.items()}
        for n in range(num_layers):
            shapes |= {f"decoder.layers.{n}.{name}": s for name, s in of_decoder.items()}
        shapes["head.bias"] = (vocab_size + 1,)
        tied = {"head.weight": "target.weight"}
        if share_words:
            tied["source.weight"] = "target.weight"
        self.parameters = Parameters(shapes, dtype, tied)
        if seed is not None:
            self._initialize(np.random.default_rng(seed))

    def _initialize(self, rng: np.random.Generator) -> None:
        """Draw maps uniform as Glorot and Bengio (2010) have it, tables normal; biases are 0."""
        for name in self.parameters.shapes:
            array = self.parameters[name]
            if array.ndim == 1:
                array[...] = float("norm" in name and name.endswith("weight"))
            elif "layers" in name:
                bound = np.sqrt(6 / sum(array.shape))
                array[...] = rng.uniform(-bound, bound, array.shape)
            else:
                array[...] = self.config["width"] ** -0.5 * rng.standard_normal(array.shape)

    @property
    def context(self) -> int:
        """How many positions it has."""
        return int(self.config["context"])

    def encode(
        self,
        source: npt.ArrayLike,
        lengths: npt.ArrayLike,
        *,
        rng: np.random.Generator | None = None,
    ) -> tuple[SourceState, EncoderCache]:
        """Return what the decoder begins with, and the cache of :meth:`encode_backward`.

        Args:
            source: (B, S) ids.
            lengths: (B,) how much of each row is real, 1 or more.
            rng: draws the dropout masks; None turns dropout off.

        Raises:
            TypeError: they are not integers.
            ValueError: one is out of range, or a text is longer than the positions.
        """
        p, c = self.parameters, self.config
        rate = c["dropout"] if rng is not None else 0.0
        rows, ends = checked_rows(source, lengths, c["source_size"])
        steps = rows.shape[1]
        if steps > self.context:
            raise ValueError(
                f"the model has {self.context} positions, and the text {steps} tokens: shorten it"
            )
        x, tokens = embedding_forward(rows, p["source.weight"][: c["source_size"]])
        where, positions = embedding_forward(np.arange(steps), p["source_position.weight"])
        x, dropped = dropout_forward(x + where, p=rate, rng=rng)
        real = real_places(ends, steps)
        blocks = []
        for n in range(c["num_layers"]):
            own = {name: p[f"encoder.layers.{n}.{name}"] for name in self._encoder}
            x, block = encoder_block_forward(x, own, c["heads"], real=real, dropout=rate, rng=rng)
            blocks.append(block)
        return SourceState(x, None, real, None), EncoderCache(tokens, positions, dropped, blocks)

    def encode_backward(self, dstate: Array, cache: EncoderCache, gradients: Parameters) -> None:
        """Add the gradients of the encoder.

        Args:
            dstate: (B, S, E), that of the state's memory.
            cache: what :meth:`encode` returned.
            gradients: to be added to.
        """
        dx = dstate
        for n in reversed(range(self.config["num_layers"])):
            dx, own = encoder_block_backward(dx, cache.blocks[n])
            for name, gradient in own.items():
                gradients[f"encoder.layers.{n}.{name}"] += gradient
        # x = dropout(tokens + positions)
        dx = dropout_backward(dx, cache.dropout)
        where = gradients["source_position.weight"]
        embedding_backward(dx.sum(axis=0), cache.positions, where)
        words = gradients["source.weight"][: self.config["source_size"]]
        embedding_backward(dx, cache.tokens, words)

    def hidden(
        self,
        ids: npt.ArrayLike,
        state: SourceState,
        *,
        lengths: npt.ArrayLike | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Array, SourceState, HiddenCache]:
        """Return what the head sees: see :class:`Translator`."""
        p, c = self.parameters, self.config
        rate = c["dropout"] if rng is not None else 0.0
        rows = check_ids(ids, self.mark + 1)
        place = placed(rows, state.written, lengths, self.context, None)
        x, tokens = embedding_forward(rows, p["target.weight"])  # (B, T, E)
        where, positions = embedding_forward(place.positions, p["target_position.weight"])
        x, dropped = dropout_forward(x + where, p=rate, rng=rng)
        blocks, written, source = [], [], []
        for n in range(c["num_layers"]):
            own = {name: p[f"decoder.layers.{n}.{name}"] for name in self._decoder}
            (x, kept, of_source), block = decoder_block_forward(
                x,
                state.memory,
                own,
                c["heads"],
                past=None if state.written is None else state.written.blocks[n],
                source=None if state.source is None else state.source[n],
                sight=place.sight,
                real=state.real,
                dropout=rate,
                rng=rng,
            )
            blocks.append(block)
            written.append(kept)
            source.append(of_source)
        memory = Memory(tuple(written), place.lengths, place.real)
        after = SourceState(None, tuple(source), state.real, memory)
        return x, after, HiddenCache(tokens, positions, dropped, blocks)

    def hidden_backward(self, dx: Array, cache: HiddenCache, gradients: Parameters) -> Array:
        """Return the gradient of the memory (B, S, E), and add those of the decoder."""
        # every block sees the memory
        dmemory: Array | None = None
        for n in reversed(range(self.config["num_layers"])):
            dx, of_block, own = decoder_block_backward(dx, cache.blocks[n])
            dmemory = of_block if dmemory is None else dmemory + of_block
            for name, gradient in own.items():
                gradients[f"decoder.layers.{n}.{name}"] += gradient
        # x = dropout(tokens + positions)
        dx = dropout_backward(dx, cache.dropout)
        where = gradients["target_position.weight"]
        embedding_backward(dx.sum(axis=0), cache.positions, where)
        embedding_backward(dx, cache.tokens, gradients["target.weight"])
        assert dmemory is not None
        return dmemory

    def rows_of_state(self, state: SourceState, rows: npt.ArrayLike | slice) -> SourceState:
        """Return the state of some of the batch's rows, in any order, repeated or not."""
        rows = rows if isinstance(rows, slice) else np.asarray(rows)
        memory, source, real, written = state
        return SourceState(
            None if memory is None else memory[rows],
            None if source is None else tuple((k[rows], v[rows]) for k, v in source),
            None if real is None else real[rows],
            None if written is None else written.rows(rows),
        )

    def views(self, cache: TranslatorCache) -> Views:
        """Return how much each word written takes of each of the source: (B, N, T, S) a block."""
        blocks = cache.hidden.blocks
        return Views(
            attention=tuple(multi_head_attention_weights(b.cross.attention) for b in blocks)
        )

    def activations(self, batch: int, steps: int) -> int:
        """Return B T E: all positions are computed at once."""
        return batch * steps * int(self.config["width"])

    def rows_of_draws(
        self, rng: np.random.Generator, batch: int, rows: slice
    ) -> np.random.Generator:
        """Return what draws for some of the batch's rows as ``rng`` would for all of them."""
        return RowsOfDraws(rng, batch, rows, axis=0)  # (B, T, E) and (B, N, T, S)
