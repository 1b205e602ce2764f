"""``npllm translate``."""

from __future__ import annotations

import argparse
import sys
from itertools import islice

import numpy as np
from tqdm import tqdm

from npllm.checkpoint import load_model_and_vocabularies
from npllm.cli.lines import add_texts, texts_of
from npllm.cli.parser import Commands, add_command, add_seed, add_threads, positive
from npllm.cli.table import print_table
from npllm.models import AnyTranslator
from npllm.training.description import load_options
from npllm.training.translation import Translation, TranslationOptions, translations

_DESCRIPTION = """\
Translate, with a run of npllm train --task translation: --text, or the input line by line.

The likeliest translation is searched, --beams at a time; 1 takes the likeliest word each time. With
--test the run's own pairs for the end are translated and measured by BLEU and chrF, beside the
source taken as its own translation, and beside the translation of the pair that is nearest among
those learned from. That needs sacrebleu: pip install '.[translate]' in npllm's checkout, or pip
install sacrebleu.

  npllm translate runs/transformer-1 --text "In the beginning"
  npllm translate runs/transformer-1 < lines.txt
  npllm translate runs/transformer-1 --test
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "translate", "translate a text", _DESCRIPTION, _run)
    parser.add_argument("directory", metavar="DIR", help="a run of npllm train")
    add_texts(parser)
    parser.add_argument("--beams", type=positive, default=4, metavar="N", help="(default: 4)")
    parser.add_argument("--test", action="store_true", help="measure, with the pairs for the end")
    parser.add_argument(
        "--show", type=positive, metavar="N", help="translations that --test shows (default: 10)"
    )
    add_seed(parser, "for symmetry with the other commands: nothing is drawn at random")
    add_threads(parser)


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
    for number, text in enumerate(texts_of(options.text), 1):
        try:
            (found,) = translations(model, source, target, [text], options.beams, recorded.length)
        except ValueError as error:
            where = "" if options.text is not None else f"line {number} of the input: "
            raise ValueError(f"{where}{error}") from None
        print(found, flush=True)
    return 0


def _test(options: argparse.Namespace, model: AnyTranslator, task: Translation) -> int:
    """Print some translations of the pairs for the end, and the measures of all."""
    from npllm.training.translation_measures import check_installed, measured, nearest

    _, _, test = task.parts
    check_installed()
    tokenizers, most = (task.source, task.tokenizer), task.options.length
    texts = tqdm(test.sources, unit="text", dynamic_ncols=True, disable=not sys.stderr.isatty())
    found = list(translations(model, *tokenizers, texts, options.beams, most))
    rows = {
        "the source itself": test.sources,
        "the nearest pair's": nearest(task.parts[0], test.sources),
        options.directory: found,
    }
    shown = zip(test.sources, found, test.targets, strict=True)
    for source, own, right in islice(shown, options.show or 10):
        print(f"source       {source}\ntranslation  {own}\nreference    {right}\n")
    table = [(f"{len(found)} texts", "BLEU", "chrF", "the same")]
    for name, texts in rows.items():
        same = np.mean([a == b for a, b in zip(texts, test.targets, strict=True)])
        table.append((name, *(f"{n:.2f}" for n in measured(texts, test.targets)), f"{same:.2%}"))
    print_table(table)
    return 0
