"""The word embedding of section 4.1: e = W_emb x, with x one-hot."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from npllm.layers.arrays import Array, Ids, as_rows, check_dy, check_floats, check_ids


def one_hot(ids: npt.ArrayLike, size: int, dtype: npt.DTypeLike = np.float64) -> Array:
    """Return x of section 4.1: a one at each id, zeros elsewhere.

    Args:
        ids: integers of any shape (...), each in [0, size).
        size: V, the number of classes.
        dtype: of x.

    Returns:
        (..., V).

    >>> one_hot([2, 0], 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    ids = check_ids(ids, size)
    x = np.zeros((*ids.shape, size), dtype)
    np.put_along_axis(x, ids[..., None], 1, axis=-1)
    return x


class EmbeddingCache(NamedTuple):
    """What the backward needs of the forward."""

    ids: Ids
    shape: tuple[int, int]  # of the weight: (V, E)
    dtype: np.dtype[np.inexact]
    padding_idx: int | None


def embedding_forward(
    ids: npt.ArrayLike, weight: Array, *, padding_idx: int | None = None
) -> tuple[Array, EmbeddingCache]:
    """Look up the row of ``weight`` that belongs to each id.

    Section 4.1 writes e = W_emb x with the one-hot x as a column and W_emb as (E, V). ``weight`` is
    W_emb^T, one row a word (torch's layout): the product with a one-hot vector picks one row.

    Args:
        ids: integers of any shape (...), each in [0, V).
        weight: (V, E).
        padding_idx: the id of a row that is not trained: its gradient is zero. Negative counts
            from the end, as in torch.

    Returns:
        y of shape (..., E), and the cache of :func:`embedding_backward`.

    Raises:
        TypeError: the ids are not integers.
        ValueError: an id or ``padding_idx`` is out of range, or ``weight`` is no matrix.

    >>> weight = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    >>> y, _ = embedding_forward([2, 0], weight)
    >>> y.tolist() == (one_hot([2, 0], 3) @ weight).tolist() == [[4.0, 5.0], [0.0, 1.0]]
    True
    """
    check_floats(weight=weight)
    if weight.ndim != 2:
        raise ValueError(f"weight must have shape (V, E), got {weight.shape}")
    ids = check_ids(ids, len(weight))
    if padding_idx is not None and not -len(weight) <= padding_idx < len(weight):
        raise ValueError(
            f"padding_idx must lie in [{-len(weight)}, {len(weight)}), got {padding_idx}"
        )
    y = weight[ids]  # (..., E)
    return y, EmbeddingCache(ids, (len(weight), weight.shape[1]), weight.dtype, padding_idx)


def embedding_backward(dy: Array, cache: EmbeddingCache, onto: Array | None = None) -> Array:
    """Return dweight: each row of ``dy`` added to the row of ``weight`` it came from.

    y = x W with x = one_hot(ids), so dW = x^T dy. x is sparse, one entry a row, and only the rows
    of the ids that occur are not zero: nothing but the (V, E) result grows with V. An id that
    occurs n times adds up n rows; ``dW[ids] += dy`` would keep only the last.

    Args:
        dy: (..., E).
        cache: what :func:`embedding_forward` returned.
        onto: (V, E), to which it is added, and which is returned; zeros where None.
    """
    ids, (vocabulary, width), dtype, padding_idx = cache
    if onto is not None:
        check_dy(onto, (vocabulary, width), dtype, "onto")
    check_dy(dy, (*ids.shape, width), dtype)
    dy = as_rows(dy)  # (M, E)
    # y = weight[ids] = x @ weight
    used, columns = np.unique(ids.ravel(), return_inverse=True)  # (U,), (M,)
    x = sparse.csr_array(
        (np.ones(ids.size, dtype), columns, np.arange(ids.size + 1)), shape=(ids.size, len(used))
    )
    rows = x.T @ dy  # (U, E)
    if padding_idx is not None:
        rows[used == padding_idx % vocabulary] = 0
    dweight = np.zeros((vocabulary, width), rows.dtype) if onto is None else onto
    dweight[used] += rows
    return dweight
