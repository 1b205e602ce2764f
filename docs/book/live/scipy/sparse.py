"""``csr_array``, as far as a product with a dense matrix goes."""

from __future__ import annotations

from typing import Any

import numpy as np


class csr_array:  # noqa: N801 - SciPy's name
    """A sparse matrix of compressed rows: ``(data, indices, indptr)``."""

    def __init__(self, parts: tuple[Any, Any, Any], shape: tuple[int, int]) -> None:
        self.data, self.columns, indptr = parts
        self.rows = np.repeat(np.arange(shape[0]), np.diff(indptr))
        self.shape = shape

    @property
    def T(self) -> csr_array:  # noqa: N802 - NumPy's name
        """The transpose."""
        other = object.__new__(csr_array)
        other.data, other.rows, other.columns = self.data, self.columns, self.rows
        other.shape = self.shape[::-1]
        return other

    def __matmul__(self, dense: Any) -> Any:
        out = np.zeros((self.shape[0], dense.shape[1]), np.result_type(self.data, dense))
        np.add.at(out, self.rows, self.data[:, None] * dense[self.columns])
        return out
