"""Language models under a Markov assumption: counts, and what smoothing makes of them."""

from npllm.ngram.counts import Grams, count
from npllm.ngram.model import NgramLanguageModel
from npllm.ngram.smoothing import SMOOTHINGS, Table, smooth

NGRAM = "ngram"  # the name of the model among the others

__all__ = [
    "NGRAM",
    "SMOOTHINGS",
    "Grams",
    "NgramLanguageModel",
    "Table",
    "count",
    "smooth",
]
