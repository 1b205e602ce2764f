"""Step 1 of section 3: text into tokens, tokens into batches."""

from npllm.text.batches import Batch, Batches, ContiguousBatches, ShuffledWindows
from npllm.text.corpus import load_text, split_text
from npllm.text.tokenizers import (
    CharacterTokenizer,
    Tokenizer,
    WordTokenizer,
    tokenizer_from_dict,
)

__all__ = [
    "Batch",
    "Batches",
    "CharacterTokenizer",
    "ContiguousBatches",
    "ShuffledWindows",
    "Tokenizer",
    "WordTokenizer",
    "load_text",
    "split_text",
    "tokenizer_from_dict",
]
