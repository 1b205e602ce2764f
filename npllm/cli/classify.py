"""``npllm classify``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

import numpy as np

from npllm.checkpoint import load_model_and_vocabularies
from npllm.cli.lines import add_texts, at, on_terminal, printable, tell_unknown, texts_of
from npllm.cli.parser import Commands, add_command, add_seed, add_threads, new_file
from npllm.cli.table import print_table
from npllm.figures import escaped, fonts_for, new_figure, save_figure
from npllm.layers.arrays import Array
from npllm.models import AnyClassifier
from npllm.text.tokenizers import Ids, TrainedTokenizer
from npllm.training.baselines import NaiveBayes, majority
from npllm.training.classification import (
    Classification,
    ClassificationOptions,
    Results,
    ids_of,
    results,
    told,
)
from npllm.training.description import load_options
from npllm.training.workers import Workers, usual_workers

_DESCRIPTION = """\
Tell the label of a text, with a run of npllm train --task classification.

Each line of the input, or --text, is a text: its label, how likely that is, and the words, each by
how much it speaks for the label: its gradient times its embedding. On a terminal words are
coloured, green for the label and red against it; elsewhere the weight stands behind each word.

With --test the run's own texts for the end are told, beside two baselines: the most frequent label,
and naive Bayes; the file that it learned from must be as it was. --out draws which labels are taken
for which.

  npllm classify runs/bag-1 --text "It was a waste of time."
  npllm classify runs/bag-1 < lines.txt
  npllm classify runs/bag-1 --test --out confusion.png
"""


MOST_COUNTED = 30  # labels whose counts are written into the picture


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "classify", "tell the label of a text", _DESCRIPTION, _run)
    parser.add_argument("directory", metavar="DIR", help="a run of npllm train")
    add_texts(parser)
    parser.add_argument("--test", action="store_true", help="measure, with the texts for the end")
    parser.add_argument(
        "--out", type=new_file(".png"), metavar="FILE", help="PNG of the confusion, with --test"
    )
    add_seed(parser, "for symmetry with the other commands: nothing is drawn at random")
    add_threads(parser, "shares of the texts of --test")


def _run(options: argparse.Namespace) -> int:
    if options.out is not None and not options.test:
        raise ValueError("--out draws what --test finds: add --test")
    if options.test and options.text is not None:
        raise ValueError("--test has texts of its own: leave out --text")
    model, vocabularies = load_model_and_vocabularies(options.directory)
    if not isinstance(model, AnyClassifier):
        raise ValueError(f"{options.directory} is no classifier: train one, --task classification")
    recorded, digest = load_options(options.directory)
    assert isinstance(recorded, ClassificationOptions)
    if options.test:
        return _test(options, model, recorded.make_task(vocabularies, digest))
    tokenizer, labels = vocabularies["tokenizer"], vocabularies["labels"].vocabulary
    for where, text in texts_of(options.text):
        with at(where):
            ids = ids_of(text, tokenizer, recorded.length)
        _tell(model, tokenizer, labels, ids)
        tell_unknown(tokenizer, text)
    return 0


def _tell(
    model: AnyClassifier, tokenizer: TrainedTokenizer, labels: Sequence[str], ids: Ids
) -> None:
    """Print a text's label, its probability, and its words by how much they speak for it."""
    (p,) = model.probabilities(ids[None], [len(ids)])
    told = int(p.argmax())
    (weights,) = model.word_weights(ids[None], [len(ids)], [told])
    print(f"{labels[told]}  {p[told]:.4f}  {_shown(tokenizer, ids, weights)}", flush=True)


def _shown(tokenizer: TrainedTokenizer, ids: Iterable[int], weights: Array) -> str:
    """Return the words of a text, coloured on a terminal, or each with its weight behind it."""
    words = [printable(tokenizer.decode([i])) for i in ids]
    if not on_terminal():
        return " ".join(
            f"{word.strip() or word!r} {w:+.2f}" for word, w in zip(words, weights, strict=True)
        )
    strongest = max(float(np.abs(weights).max()), np.finfo(np.float32).tiny)
    shown = []
    for word, weight in zip(words, weights, strict=True):
        level = 255 - int(155 * min(1.0, abs(weight) / strongest))
        red, green = (level, 255) if weight > 0 else (255, level)
        shown.append(f"\x1b[30;48;2;{red};{green};{level}m{word}\x1b[0m")
    return "".join(shown)


def _test(options: argparse.Namespace, model: AnyClassifier, task: Classification) -> int:
    """Print how well the texts for the end are told, and how well the baselines do."""
    if options.out is not None:
        new_figure(1, 1)  # that it can be drawn is known before anything is measured
    train, _, test = task.parts
    texts, classes = [task.encode(text) for text in test.texts], task.classes(test)
    count = min(options.threads or usual_workers(), len(texts))
    with Workers(model, count=count).working() as workers:
        own = results(workers, texts, classes)
    learned, known = [task.encode(text) for text in train.texts], task.classes(train)
    words, size = len(task.tokenizer.vocabulary), len(task.labels.vocabulary)
    always = np.tile(majority(known, size), (len(texts), 1))
    bayes = NaiveBayes(learned, known, words, size).log_probabilities(texts)
    rows = {
        "majority": told(always, classes),
        "naive Bayes": told(bayes, classes),
        options.directory: own,
    }
    table = [(f"{len(texts)} texts", "accuracy", "F1")]
    print_table(table + [(n, f"{r.accuracy:.4f}", f"{r.f1:.4f}") for n, r in rows.items()])
    if options.out is not None:
        _draw(own, task.labels.vocabulary, options.out)
        print(f"\n{options.out}")
    return 0


def _draw(found: Results, labels: Sequence[str], out: str) -> None:
    """Draw the confusion of labels as PNG."""
    size = len(labels)
    side = min(0.7 * size, 14.0)
    figure = new_figure(2.5 + side, 2 + side)
    axes = figure.subplots()
    shares = found.confusion / np.maximum(1, found.confusion.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(size, size) if size <= MOST_COUNTED else ():
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, str(found.confusion[i, j]), ha="center", va="center", color=colour)
    axes.set(xlabel="told", ylabel="right", xticks=range(size), yticks=range(size))
    family = fonts_for(labels)
    shown = [escaped(label) for label in labels]
    axes.set_xticklabels(shown, rotation=45, ha="right", fontfamily=family)
    axes.set_yticklabels(shown, fontfamily=family)
    save_figure(figure, out)
