"""``npllm translate``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import chain, islice

import numpy as np
from tqdm import tqdm

from npllm.checkpoint import load_model_and_vocabularies
from npllm.cli.lines import add_texts, at, printable, tell_unknown, texts_of
from npllm.cli.parser import Commands, add_command, add_seed, add_threads, positive
from npllm.cli.table import print_table
from npllm.models import AnyTranslator
from npllm.training.description import load_options
from npllm.training.shares import slices
from npllm.training.translation import Translation, TranslationOptions, translations
from npllm.training.workers import Workers, usual_workers

AT_A_TIME = 8  # texts of a worker

_DESCRIPTION = """\
Translate, with a run of npllm train --task translation: --text, or the input line by line. A line
that is empty or longer than the model reads ends it; what was translated before it is written.

The likeliest translation is searched, --beams at a time; 1 takes the likeliest word each time. With
--test the run's own pairs for the end are translated and measured by BLEU and chrF, beside the
source taken as its own translation, and beside the translation of the pair that is nearest among
those learned from; the files that it learned from must be as they were. That needs sacrebleu: pip
install '.[translate]' in npllm's checkout, or pip install sacrebleu.

  npllm translate runs/transformer-1 --text "In the beginning"
  npllm translate runs/transformer-1 < lines.txt
  npllm translate runs/transformer-1 --test
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "translate", "translate a text", _DESCRIPTION, _run)
    parser.add_argument("directory", metavar="DIR", help="a run of npllm train")
    add_texts(parser)
    parser.add_argument(
        "--beams",
        type=positive,
        default=4,
        metavar="N",
        help="translations that the search keeps at a time (default: 4)",
    )
    parser.add_argument("--test", action="store_true", help="measure, with the pairs for the end")
    parser.add_argument(
        "--show", type=positive, metavar="N", help="translations that --test shows (default: 10)"
    )
    add_seed(parser, "for symmetry with the other commands: nothing is drawn at random")
    add_threads(parser, "shares of the texts of --test")


def _run(options: argparse.Namespace) -> int:
    if options.test and options.text is not None:
        raise ValueError("--test has texts of its own: leave out --text")
    if options.show is not None and not options.test:
        raise ValueError("--show is for --test, which measures many: add --test")
    model, vocabularies = load_model_and_vocabularies(options.directory)
    if not isinstance(model, AnyTranslator):
        raise ValueError(f"{options.directory} is no translator: train one, --task translation")
    recorded, digest = load_options(options.directory)
    assert isinstance(recorded, TranslationOptions)
    if options.test:
        return _test(options, model, recorded.make_task(vocabularies, digest))
    source, target = vocabularies["source"], vocabularies["tokenizer"]
    for where, text in texts_of(options.text):
        with at(where):
            (found,) = translations(model, source, target, [text], options.beams, recorded.length)
        print(printable(found), flush=True)
        tell_unknown(source, text)
    return 0


def _translated(
    options: argparse.Namespace, model: AnyTranslator, task: Translation, texts: Sequence[str]
) -> list[str]:
    """Return the translation of each text, with a progress bar on a terminal."""
    hidden = None if sys.stderr is not None else True  # None: where it is no terminal
    bar = tqdm(total=len(texts), unit="text", dynamic_ncols=True, disable=hidden)
    count = min(options.threads or usual_workers(), len(texts))
    found: list[str] = []
    with bar, Workers(model, count=count).working() as workers:
        while len(found) < len(texts):
            some = texts[len(found) : len(found) + workers.count * AT_A_TIME]
            shares = [
                (task.source, task.tokenizer, some[rows], options.beams, task.options.length)
                for rows in slices(len(some), min(workers.count, len(some)))
            ]
            found += chain.from_iterable(workers.map(translations, shares))
            bar.update(len(some))
    return found


def _test(options: argparse.Namespace, model: AnyTranslator, task: Translation) -> int:
    """Print some translations of the pairs for the end, and the measures of all."""
    from npllm.training.translation_measures import check_installed, measured, nearest

    _, _, test = task.parts
    check_installed()
    found = _translated(options, model, task, test.sources)
    rows = {
        "the source itself": test.sources,
        "the nearest pair's": nearest(task.parts[0], test.sources),
        options.directory: found,
    }
    shown = zip(test.sources, found, test.targets, strict=True)
    for source, own, right in islice(shown, options.show or 10):
        rows_of_text = {"source": source, "translation": own, "reference": right}
        print("".join(f"{name:<13}{printable(text)}\n" for name, text in rows_of_text.items()))
    table = [(f"{len(found)} texts", "BLEU", "chrF", "the same")]
    for name, texts in rows.items():
        same = np.mean([a == b for a, b in zip(texts, test.targets, strict=True)])
        table.append((name, *(f"{n:.2f}" for n in measured(texts, test.targets)), f"{same:.2%}"))
    print_table(table)
    return 0
