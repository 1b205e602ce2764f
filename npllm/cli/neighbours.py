"""``npllm neighbours``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from typing import cast

from npllm.cli.parser import Commands, add_command, add_seed, add_threads, positive
from npllm.cli.table import print_table
from npllm.inspection.words import (
    agreement,
    cosines,
    embedding_of,
    ids_of_word,
    neighbours,
    word_in_context,
)
from npllm.layers.arrays import Array
from npllm.loading import Loaded, load
from npllm.models import LanguageModel
from npllm.ngram import NgramLanguageModel
from npllm.text.labelled import read_labelled

_DESCRIPTION = """\
Show words as vectors: which embeddings are nearest to a word's, by the cosine of the angle between
them. With --analogy A B, what is to WORD as B is to A: nearest to WORD - A + B.

An embedding is the same wherever its word stands. --in TEXT, twice or more, shows what each layer
makes of the word in each text: how near they are to one another. --senses names a table of
texts and labels (.tsv, .csv or .jsonl, columns text and label): how near the word is to itself in
texts of the same label and of others, layer by layer, and how often the nearest has the same.

  npllm neighbours smollm2 river
  npllm neighbours smollm2 king --analogy man woman
  npllm neighbours smollm2 bank --in "on the bank of the river" --in "money in the bank"
  npllm neighbours smollm2 bank --senses docs/bank.tsv
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "neighbours", "show words as vectors", _DESCRIPTION, _run)
    parser.add_argument("model", metavar="MODEL", help="a run of npllm train, or a public model")
    parser.add_argument("word", metavar="WORD", help="the word that is asked about")
    parser.add_argument(
        "--count", type=positive, metavar="N", help="neighbours shown (default: 10)"
    )
    parser.add_argument(
        "--analogy", nargs=2, metavar=("A", "B"), help="what is to WORD as B is to A"
    )
    parser.add_argument(
        "--in", dest="texts", action="append", metavar="TEXT", help="a text with the word in it"
    )
    parser.add_argument("--senses", metavar="FILE", help="table of texts with the word, labelled")
    add_seed(parser, "for symmetry with the other commands: nothing is drawn at random")
    add_threads(parser)


def _run(options: argparse.Namespace) -> int:
    ways = [options.analogy, options.texts, options.senses]
    if sum(way is not None for way in ways) > 1:
        raise ValueError("choose one of --analogy, --in and --senses")
    if options.count is not None and (options.texts or options.senses):
        raise ValueError("--count is of neighbours: leave out --in and --senses")
    if options.texts is not None and len(options.texts) < 2:
        raise ValueError("--in compares texts: name it twice or more")
    senses = None if options.senses is None else read_labelled(options.senses)
    loaded = load(options.model)
    if isinstance(loaded.model, NgramLanguageModel):
        raise ValueError(f"{options.model} counts words: it has no vectors of them")
    if options.texts is not None:
        _in_texts(loaded, options.word, options.texts)
    elif senses is not None:
        texts, labels = senses
        table = [("layer", "same", "other", "nearest has the same")]
        found = word_in_context(loaded.model, loaded.tokenizer, options.word, texts)
        for name, layer in _layers(found).items():
            same, other, hits = agreement(layer, labels)
            table.append((name, f"{same:.4f}", f"{other:.4f}", f"{hits:.0%}"))
        print_table(table)
    else:
        _nearest(loaded, options.word, options.analogy, options.count or 10)
    return 0


def _nearest(loaded: Loaded, word: str, analogy: list[str] | None, count: int) -> None:
    """Print the nearest embeddings."""
    model = cast("LanguageModel", loaded.model)
    embeddings = model.parameters[model.TOKENS]
    ids = ids_of_word(loaded.tokenizer, word)
    vector, asked = embedding_of(embeddings, ids), [int(i) for i in ids]
    if analogy is not None:
        for sign, name in zip((-1, 1), analogy, strict=True):
            others = ids_of_word(loaded.tokenizer, name)
            vector = vector + sign * embedding_of(embeddings, others)
            asked += [int(i) for i in others]
    found = neighbours(embeddings, vector, count, asked)
    rows = [(repr(loaded.tokenizer.decode([n.id])), f"{n.cosine:.4f}", str(n.id)) for n in found]
    print_table([("token", "cosine", "id"), *rows])
    if len(ids) > 1:
        print(f"\n{word} is {len(ids)} tokens: the mean of their embeddings was asked about")


def _layers(layers: Sequence[Array]) -> dict[str, Array]:
    """Return the layers by their names."""
    return {str(n) if n else "embedding": layer for n, layer in enumerate(layers)}


def _in_texts(loaded: Loaded, word: str, texts: list[str]) -> None:
    """Print how near a word's vectors in any two texts are, layer by layer."""
    layers = word_in_context(cast("LanguageModel", loaded.model), loaded.tokenizer, word, texts)
    for number, text in enumerate(texts, 1):
        print(f"{number}  {text}")
    print()
    pairs = list(combinations(range(len(texts)), 2))
    table = [("layer", *(f"{i + 1} and {j + 1}" for i, j in pairs))]
    for name, layer in _layers(layers).items():
        table.append((name, *(f"{cosines(layer[i], layer[j]):.4f}" for i, j in pairs)))
    print_table(table)
