"""What the cells of recurrent layers ask of their arguments."""

from __future__ import annotations

from npllm.layers.arrays import Array, check_floats, check_shape


def check_cell(
    gates: int,
    x: Array,
    h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias_ih: Array | None,
    bias_hh: Array | None,
    hidden: int | None = None,
) -> None:
    """Raise, naming the argument, unless dtypes and shapes fit a cell of so many blocks.

    Args:
        gates: how many blocks of H rows the weights have.
        x: (..., I).
        h: (..., P).
        weight_ih: (gates H, I).
        weight_hh: (gates H, P).
        bias_ih: (gates H,) or None.
        bias_hh: (gates H,) or None; both or neither.
        hidden: H, where h may have another width, P; None where P = H.
    """
    check_floats(
        x=x, h=h, weight_ih=weight_ih, weight_hh=weight_hh, bias_ih=bias_ih, bias_hh=bias_hh
    )
    if h.ndim == 0:
        raise ValueError(f"h must have shape (..., H), got {h.shape}")
    rows = gates * (h.shape[-1] if hidden is None else hidden)
    check_shape(weight_hh, (rows, h.shape[-1]), "weight_hh")
    if weight_ih.ndim != 2 or len(weight_ih) != rows:
        raise ValueError(f"weight_ih must have shape ({rows}, I), got {weight_ih.shape}")
    check_shape(x, (*h.shape[:-1], weight_ih.shape[1]), "x")
    if (bias_ih is None) != (bias_hh is None):
        raise ValueError("bias_ih and bias_hh must be given both or neither")
    for name, bias in {"bias_ih": bias_ih, "bias_hh": bias_hh}.items():
        if bias is not None:
            check_shape(bias, (rows,), name)
