"""npllm: language models in NumPy, every backward pass by hand and proven.

Axis legend, used in every shape comment of the package:

====  =====================================================
B     batch: sequences side by side
T     time: positions in a sequence (Tq queries, Tk keys)
V     vocabulary: token classes
E     embedding width
H     hidden width of an LSTM (P where it is projected)
N     attention heads
D     width of one attention head
L     layers
I, O  input and output width of a linear map
====  =====================================================

``dx`` is the derivative of the loss with respect to ``x``, of the same shape.
"""

__version__ = "0.1.0"
