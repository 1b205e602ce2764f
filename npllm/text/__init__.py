"""Step 1 of section 3: text into tokens, tokens into batches."""

from npllm.text.batches import Batch, ContiguousBatches, ShuffledWindows
from npllm.text.bert_words import BertWords
from npllm.text.bpe import BytePairTokenizer, StreamDecoder
from npllm.text.corpus import load_text, split_text
from npllm.text.saved import tokenizer_from_dict
from npllm.text.tokenizer_files import (
    load_tokenizer,
    load_tokenizer_json,
    load_vocabulary_and_merges,
    load_wordpiece_vocabulary,
    tokenizer_from_gguf,
    tokenizer_json,
)
from npllm.text.tokenizers import (
    CharacterTokenizer,
    Tokenizer,
    WhitespaceTokenizer,
    WordTokenizer,
)
from npllm.text.wordpiece import WordPieceTokenizer

__all__ = [
    "Batch",
    "BertWords",
    "BytePairTokenizer",
    "CharacterTokenizer",
    "ContiguousBatches",
    "ShuffledWindows",
    "StreamDecoder",
    "Tokenizer",
    "WhitespaceTokenizer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "load_text",
    "load_tokenizer",
    "load_tokenizer_json",
    "load_vocabulary_and_merges",
    "load_wordpiece_vocabulary",
    "split_text",
    "tokenizer_from_dict",
    "tokenizer_from_gguf",
    "tokenizer_json",
]
