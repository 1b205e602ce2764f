"""What training, evaluation and generation need of a model, whatever its architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from npllm.layers.arrays import Array, Ids
from npllm.models.parameters import Parameters
from npllm.models.trainable import LossAndGradients, Trainable


class Views(NamedTuple):
    """What a model can show of a forward pass, one array a layer; empty what it has not.

    Attributes:
        attention: the attention weights, (B, N, T, P + T), P tokens being remembered.
        gates: the gates i, f, g and o, (B, T, 4, H).
    """

    attention: tuple[Array, ...] = ()
    gates: tuple[Array, ...] = ()


class Writer(Protocol):
    """What writes on, token by token: what generation needs of a model."""

    @property
    def context(self) -> int | None:
        """How many positions it has; None where there is no end to them."""

    def predict(
        self,
        ids: npt.ArrayLike,
        state: Any = None,
        *,
        lengths: npt.ArrayLike | None = None,
        last: bool = False,
    ) -> tuple[Array, Any]:
        """Return the logits, without dropout, and the state to go on from.

        They are (B, T, V), or (B, 1, V) of each row's last token.
        """

    def rows_of_state(self, state: Any, rows: npt.ArrayLike | slice) -> Any:
        """Return the state of some of the batch's rows, in any order, repeated or not."""


class Predictor(Writer, Protocol):
    """Logits of the next token of a text: what evaluation and inspection need.

    Attributes:
        config: what the model is, for JSON.
    """

    config: dict[str, Any]

    def forward(self, ids: npt.ArrayLike) -> tuple[Array, Any]:
        """Return the logits (B, T, V) and what :meth:`views` looks at."""

    def score(
        self, ids: npt.ArrayLike, targets: npt.ArrayLike, state: Any = None
    ) -> tuple[float, Any]:
        """Return the summed cross-entropy of the targets and the state, without dropout."""

    def views(self, cache: Any) -> Views:
        """Return what there is to see of what :meth:`forward` returned the cache of."""


class LanguageModel(Predictor, Trainable, Protocol):
    """A model that is trained by its gradients, and goes on from what it read."""

    TOKENS: ClassVar[str]  # the parameter that is the embedding

    def layers(self, ids: npt.ArrayLike) -> list[Array]:
        """Return the embedded tokens, and what each layer makes of them, (B, T, E) each."""

    def forward(
        self, ids: npt.ArrayLike, state: Any = None, *, rng: np.random.Generator | None = None
    ) -> tuple[Array, Any]:
        """Return the logits (B, T, V) and the backward's cache."""

    def backward(self, dlogits: Array, cache: Any) -> Parameters:
        """Return the gradients of all parameters."""

    def loss_and_gradients(
        self,
        ids: npt.ArrayLike,
        targets: npt.ArrayLike,
        state: Any = None,
        *,
        rng: np.random.Generator | None = None,
        gradients: Parameters | None = None,
    ) -> LossAndGradients:
        """Return the summed cross-entropy of the targets, its gradients, number and state.

        The gradients are added to ``gradients`` where these are given.
        """

    def score(
        self, ids: npt.ArrayLike, targets: npt.ArrayLike, state: Any = None
    ) -> tuple[float, Any]:
        """Return the summed cross-entropy of the targets and the state, without dropout."""


def check_sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the sizes as Python integers.

    Raises:
        ValueError: one is not a positive integer; the message names it.
    """
    for name, size in sizes.items():
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must be a positive integer, got {size}")
    return {name: int(size) for name, size in sizes.items()}


def check_options(dropout: float, dtype: npt.DTypeLike) -> None:
    """Raise ValueError unless dropout lies in [0, 1) and the dtype is one of the layers'."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
    if np.dtype(dtype) not in (np.float32, np.float64, np.complex128):
        raise ValueError(f"dtype must be float32, float64 or complex128, got {np.dtype(dtype)}")


def check_positive(**numbers: float) -> None:
    """Raise ValueError, naming it, where a number is not positive and finite."""
    for name, number in numbers.items():
        if not 0 < number < np.inf:
            raise ValueError(f"{name} must be positive and finite, got {number}")


def last_tokens(steps: int, lengths: npt.ArrayLike | None) -> Ids:
    """Return where each row's last real token stands.

    Raises:
        ValueError: a row has none.
    """
    last = np.asarray(steps if lengths is None else lengths) - 1
    if (last < 0).any():
        raise ValueError("each row must have a token for its last one to be asked about, got none")
    return last
