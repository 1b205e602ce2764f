"""Keys and values that grow in place, token by token.

Writing a text, each token adds one key and one value to those of all before. They lie in buffers
with room behind them, so that a token costs itself, not all that was read. A pair stays a value: it
is the first so many of the buffer, which nobody writes again. Whoever holds the newest pair appends
behind it; who goes on from an older one, as beams and reused prompts do, gets buffers of their own.
"""

from __future__ import annotations

import numpy as np

from npllm.layers.arrays import Array, check_shape


class GrowingPair(tuple[Array, Array]):
    """Keys (B, K, P, D) and values (B, K, P, Dv), views into buffers that have room for more.

    >>> pair = GrowingPair.of(np.zeros((1, 1, 2, 1)), np.zeros((1, 1, 2, 1)))
    >>> one, two = np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), 2.0)
    >>> first, second = pair.extended(one, one), pair.extended(two, two)
    >>> first[0].ravel().tolist(), second[0].ravel().tolist(), pair[0].shape
    ([0.0, 0.0, 1.0], [0.0, 0.0, 2.0], (1, 1, 2, 1))
    """

    _buffers: tuple[Array, Array]
    _claimed: dict[int, object]  # by whom, for each length that somebody has gone on from

    @classmethod
    def of(cls, keys: Array, values: Array) -> GrowingPair:
        """Return a pair of arrays that nobody writes to from now on."""
        return cls._within((keys, values), {}, keys.shape[2])

    @classmethod
    def _within(
        cls, buffers: tuple[Array, Array], claimed: dict[int, object], steps: int
    ) -> GrowingPair:
        pair = cls(buffer[:, :, :steps] for buffer in buffers)
        pair._buffers, pair._claimed = buffers, claimed
        return pair

    def extended(self, keys: Array, values: Array) -> GrowingPair:
        """Return the pair with more keys and values behind it.

        Args:
            keys: (B, K, T, D).
            values: (B, K, T, Dv).

        Raises:
            ValueError: the shapes do not fit.
        """
        old_keys, old_values = self
        steps = old_keys.shape[2]
        end = steps + keys.shape[2]
        if end == steps:
            return self
        for name, old, new in (("keys", old_keys, keys), ("values", old_values, values)):
            check_shape(new, (*old.shape[:2], end - steps, old.shape[3]), name)
        (key_buffer, value_buffer), claimed, claim = self._buffers, self._claimed, object()
        dtype = np.result_type(old_keys, keys)
        room = end <= key_buffer.shape[2] and dtype == key_buffer.dtype
        # one step, also between threads: the first to go on from a length has what is behind it
        if not room or claimed.setdefault(steps, claim) is not claim:
            size = max(end, 2 * steps)
            key_buffer = _enlarged(old_keys, size, dtype)
            value_buffer = _enlarged(old_values, size, dtype)
            claimed = {}
        key_buffer[:, :, steps:end] = keys
        value_buffer[:, :, steps:end] = values
        return self._within((key_buffer, value_buffer), claimed, end)


def _enlarged(array: Array, steps: int, dtype: np.dtype[np.inexact]) -> Array:
    buffer = np.empty((*array.shape[:2], steps, array.shape[3]), dtype)
    buffer[:, :, : array.shape[2]] = array
    return buffer
