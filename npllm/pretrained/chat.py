"""Chats as a model was taught them: the file's own template makes one text of the messages.

A template is a program in Jinja's language that came with the weights, and is run in Jinja's
sandbox; it needs the extra ``chat``.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from npllm.extras import missing
from npllm.files import Json

_GGUF = "tokenizer.ggml."
_END_OF_TURN = "<|im_end|>"
_GENERATION = re.compile(r"(\{%[-+]?\s*)generation(\s*[-+]?%\})")
_END_GENERATION = re.compile(r"(\{%[-+]?\s*)endgeneration(\s*[-+]?%\})")


class Chat(NamedTuple):
    """How a model is spoken to.

    Attributes:
        template: the file's own; None where it has none.
        bos_token: the text that a template puts first where it says so.
        eos_token: the text that ends an answer.
        stop: the ids that end an answer.
    """

    template: str | None
    bos_token: str
    eos_token: str
    stop: tuple[int, ...]

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        add_generation_prompt: bool = True,
        **variables: object,
    ) -> str:
        """Return the text of a chat, up to where the model answers.

        Args:
            messages: ``{"role": "user", "content": "..."}`` and so on.
            add_generation_prompt: end with what an answer begins with.
            variables: what the template may know besides, as ``tools``.

        Raises:
            ValueError: there is no template, Jinja is missing, or the template fails or refuses.
        """
        if self.template is None:
            raise ValueError("the model has no chat template: it continues texts")
        variables |= {"bos_token": self.bos_token, "eos_token": self.eos_token}
        variables |= {"messages": messages, "add_generation_prompt": add_generation_prompt}
        return render_template(self.template, variables)


def gguf_chat(metadata: Mapping[str, Json]) -> Chat:
    """Return how the model of a GGUF file is spoken to.

    >>> gguf_chat({"tokenizer.ggml.tokens": ["a", "</s>"], "tokenizer.ggml.eos_token_id": 1}).stop
    (1,)
    """
    tokens = metadata.get(f"{_GGUF}tokens")
    tokens = tokens if isinstance(tokens, list) else []

    def special(name: str) -> tuple[int, ...]:
        token = metadata.get(f"{_GGUF}{name}_token_id")
        return (token,) if type(token) is int and 0 <= token < len(tokens) else ()

    eos = special("eos")
    stop = [*eos, *special("eot")]
    if _END_OF_TURN in tokens:
        stop.append(tokens.index(_END_OF_TURN))
    template = metadata.get("tokenizer.chat_template")
    bos_token, eos_token = ("".join(str(tokens[id_]) for id_ in of) for of in (special("bos"), eos))
    template = template if isinstance(template, str) else None
    return Chat(template, bos_token, eos_token, tuple(dict.fromkeys(stop)))


def transformers_chat(metadata: Mapping[str, Json]) -> Chat:
    """Return how the model of a directory is spoken to.

    Args:
        metadata: the objects of its files by their names without ``.json``: ``config``,
            ``generation_config``, ``tokenizer_config`` and ``tokenizer``, as far as they are
            there; ``chat_template`` is a text.
    """
    tokenizer = _object(metadata, "tokenizer_config")

    def text(name: str) -> str:
        token = tokenizer.get(name) or ""
        return str(token.get("content", "")) if isinstance(token, Mapping) else str(token)

    ids: list[Json] = []
    for name in ("generation_config", "config"):
        given = _object(metadata, name).get("eos_token_id")
        ids += given if isinstance(given, list) else [given]
    added = _object(metadata, "tokenizer").get("added_tokens")
    for token in added if isinstance(added, list) else []:
        if isinstance(token, Mapping) and token.get("content") in (_END_OF_TURN, text("eos_token")):
            ids.append(token.get("id"))
    stop = tuple(dict.fromkeys(token for token in ids if type(token) is int))
    template = metadata.get("chat_template", tokenizer.get("chat_template"))
    if isinstance(template, list):  # several, by name
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, Mapping)}
        template = named.get("default")
    template = template if isinstance(template, str) else None
    return Chat(template, text("bos_token"), text("eos_token"), stop)


def render_template(template: str, variables: Mapping[str, object]) -> str:
    """Return what a template makes of variables, as transformers would render it.

    Raises:
        ValueError: Jinja is missing, or the template fails or refuses.
    """
    try:
        sandbox = importlib.import_module("jinja2.sandbox")
    except ImportError:
        raise missing("chat templates need jinja2", "jinja2", "chat") from None
    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    # a tag of transformers' own, which says what the model is trained on and renders what it holds
    template = _GENERATION.sub(r"\1if true\2", _END_GENERATION.sub(r"\1endif\2", template))
    try:
        return str(environment.from_string(template).render(**variables))
    except Exception as error:  # a template is a program of somebody else
        problem = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"the chat template fails: {problem}") from None


def _json(
    value: object, ensure_ascii: bool = False, indent: int | str | None = None, **options: Any
) -> str:
    # Jinja's own filter escapes what HTML must not hold
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise(message: str) -> None:
    raise ValueError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _object(metadata: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    value = metadata.get(name)
    return value if isinstance(value, Mapping) else {}
