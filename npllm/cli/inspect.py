"""``npllm inspect``."""

from __future__ import annotations

import argparse
from typing import cast

from npllm.checkpoint import load_model_and_vocabularies, model_kind
from npllm.cli.generate import add_model, named_model
from npllm.cli.lines import tell_unknown, texts_of
from npllm.cli.parser import Commands, add_command, add_seed, add_threads, new_file
from npllm.files import write_text
from npllm.inspection import (
    MOST_TOKENS,
    inspect,
    inspect_translation,
    page,
    translation_page,
)
from npllm.loading import load
from npllm.models import KINDS, TRANSLATORS, AnyTranslator
from npllm.training.description import load_options
from npllm.training.translation import TranslationOptions

_DESCRIPTION = f"""\
Show what a model makes of a text, as a page for a browser, in one file that needs no network.

The page shows the text's tokens, coloured by how little the model expected each; what it expected
in their places, with probabilities; and what it looked at: the attention maps of each layer and
head of a Transformer, the gates of an LSTM. Of a translator it shows the translation, and which
words of the text each word of it looked at. The text may have {MOST_TOKENS} tokens, and no more
than the model has positions.

  npllm inspect runs/lstm-1 --text "The statement" --out page.html
  npllm inspect --model smollm2 --text "The capital of France is Paris." --out page.html
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "inspect", "see what a model makes of a text", _DESCRIPTION, _run
    )
    add_model(parser)
    parser.add_argument("--text", required=True, metavar="TEXT", help="what the model reads")
    parser.add_argument(
        "--out",
        type=new_file(".html"),
        required=True,
        metavar="FILE",
        help="HTML to write; what was there is replaced",
    )
    add_seed(parser, "for symmetry with the other commands: reading draws nothing at random")
    add_threads(parser)


def _show_translation(name: str, options: argparse.Namespace) -> None:
    """Write the page of a text's translation."""
    ((_, text),) = texts_of([options.text])
    model, vocabularies = load_model_and_vocabularies(name)
    tokenizers = vocabularies["source"], vocabularies["tokenizer"]
    most = cast("TranslationOptions", load_options(name)[0]).length
    found = inspect_translation(cast("AnyTranslator", model), *tokenizers, text, most)
    write_text(options.out, translation_page(found, name))
    tell_unknown(tokenizers[0], text)


def _run(options: argparse.Namespace) -> int:
    name = named_model(options)
    if not options.text:  # before a large model is read
        raise ValueError("--text is empty: give the model something to read")
    if KINDS.get(model_kind(name) or "") in TRANSLATORS.values():
        _show_translation(name, options)
    else:
        loaded = load(name)
        found = inspect(loaded.model, loaded.tokenizer, options.text)
        write_text(options.out, page(found, name))
    print(options.out)
    return 0
