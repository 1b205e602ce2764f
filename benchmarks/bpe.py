"""Encoding with byte pair tokenizers: npllm against tiktoken and tokenizers, on one thread.

Each contender runs in a process of its own and they take turns, so that a noisy machine is noisy
for all. Before anything is timed, the ids that all of them give for every text must be the same. A
text is encoded as a whole; "first" is the first time that a process sees it (npllm and tokenizers
then remember its words), "again" the median of later times.

    python benchmarks/bpe.py                    every row
    python benchmarks/bpe.py --rounds 9 prose
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "text"))

CONTENDERS = {"gpt2": ("npllm", "tiktoken", "tokenizers"), "smollm": ("npllm", "tokenizers")}


def prose() -> str:
    """Return the default corpus, 465,000 characters of English."""
    from npllm.text import load_text

    return load_text()


def code() -> str:
    """Return the sources of some modules of Python."""
    import argparse as a
    import inspect
    import typing

    return "".join(map(inspect.getsource, (a, inspect, subprocess, typing, statistics)))


def scripts() -> str:
    """Return words of twelve scripts, with digits and emoji between: few of them ASCII."""
    from fuzz_bpe import SCRIPTS

    rng = np.random.default_rng(0)
    words = []
    for number in range(40_000):
        script = SCRIPTS[number % 12]
        word = rng.zipf(1.3, size=rng.integers(1, 8)) % len(script)
        words.append("".join(script[i] for i in word))
    return " ".join(words)


def letters() -> str:
    """Return 100,000 letters without a space."""
    return "".join(chr(97 + i) for i in np.random.default_rng(0).integers(26, size=100_000))


TEXTS = {"prose": prose, "code": code, "scripts": scripts, "letters": letters}


def encoder(contender: str, vocabulary: str) -> Callable[[str], Any]:
    """Return a contender's function from a text to ids."""
    import fuzz_bpe

    if contender == "npllm":
        return getattr(fuzz_bpe, vocabulary)().encode
    if contender == "tiktoken":
        return fuzz_bpe.gpt2_tiktoken().encode_ordinary
    tokenizer = getattr(fuzz_bpe, f"{vocabulary}_tokenizers")()
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def serve(contender: str, vocabulary: str) -> None:
    """Encode on demand: the name of a text in; seconds, characters and a digest of the ids out."""
    encode = encoder(contender, vocabulary)
    texts = {name: make() for name, make in TEXTS.items()}
    print("ready", flush=True)
    for line in sys.stdin:
        text = texts[line.strip()]
        start = time.perf_counter()
        ids = encode(text)
        seconds = time.perf_counter() - start
        digest = hashlib.sha256(np.array(ids, np.int64).tobytes()).hexdigest()
        size = len(text.encode())
        print(json.dumps({"seconds": seconds, "ids": digest, "bytes": size}), flush=True)


class Contender:
    """A process that encodes."""

    def __init__(self, name: str, vocabulary: str) -> None:
        variables = {"RAYON_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name, vocabulary],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | variables,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def encode(self, text: str) -> dict[str, Any]:
        """Have it encode a text by name."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(vocabulary: str, rows: list[str], rounds: int) -> None:
    """Print the lines of a vocabulary: MB/s of all, and npllm's share of the others' by round."""
    contenders = {name: Contender(name, vocabulary) for name in CONTENDERS[vocabulary]}
    first = {row: {name: c.encode(row) for name, c in contenders.items()} for row in rows}
    for row, answers in first.items():
        if len({answer["ids"] for answer in answers.values()}) > 1:
            raise SystemExit(f"{vocabulary}, {row}: the ids differ, nothing was timed: {answers}")
    for row in rows:
        speeds: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(rounds):
            turns = list(contenders.items())
            for name, contender in turns if number % 2 else turns[::-1]:
                answer = contender.encode(row)
                speeds[name].append(answer["bytes"] / answer["seconds"] / 1e6)
        cold = first[row]["npllm"]["bytes"] / first[row]["npllm"]["seconds"] / 1e6
        cells = [f"{cold:.1f}", f"{statistics.median(speeds['npllm']):.1f}"]
        for name in ("tiktoken", "tokenizers"):
            if name not in speeds:
                cells += ["", ""]
                continue
            ratios = sorted(a / b for a, b in zip(speeds["npllm"], speeds[name], strict=True))
            cells.append(f"{statistics.median(speeds[name]):.1f}")
            cells.append(
                f"**{statistics.median(ratios):.2f}** ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )
        print(f"| {vocabulary} | {row} | {' | '.join(cells)} |", flush=True)
    for contender in contenders.values():
        contender.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", choices=[*TEXTS, []], help="default: all")
    parser.add_argument("--vocabulary", choices=CONTENDERS, help="default: both")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    print(
        "| vocabulary | text | npllm first MB/s | again | tiktoken MB/s | npllm / tiktoken "
        "| tokenizers MB/s | npllm / tokenizers |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for vocabulary in [options.vocabulary] if options.vocabulary else CONTENDERS:
        compare(vocabulary, options.rows or list(TEXTS), options.rounds)


if __name__ == "__main__":
    main()
