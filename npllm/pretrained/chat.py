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

_GGUF, _GGUF_TEMPLATE = "tokenizer.ggml.", "tokenizer.chat_template"
# special tokens as transformers names them; as GGUF does
_SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_GGUF_SPECIAL = {
    **dict(zip(_SPECIAL, _SPECIAL, strict=True)),
    "unk": "unknown",
    "sep": "seperator",  # spelt so in the format
    "pad": "padding",
}
_END_OF_TURN = "<|im_end|>"
_GENERATION = re.compile(r"(\{%[-+]?\s*)generation(\s*[-+]?%\})")
_END_GENERATION = re.compile(r"(\{%[-+]?\s*)endgeneration(\s*[-+]?%\})")


class Chat(NamedTuple):
    """How a model is spoken to.

    Attributes:
        templates: the files' own, by name; what has no name is "default".
        special: the special tokens that are set, as templates name them: ``bos_token``,
            ``eos_token``, ...
        stop: the ids that end an answer.
    """

    templates: Mapping[str, str]
    special: Mapping[str, str]
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
            variables: what the template may know besides, as ``tools``; with tools the template
                of that name, "tool_use", is taken where there is one.

        Raises:
            ValueError: there is no template, Jinja is missing, or the template fails or refuses.
        """
        known = {"tools": None, "documents": None, **self.special, **variables}
        known |= {"messages": messages, "add_generation_prompt": add_generation_prompt}
        return render_template(self._template(with_tools=known["tools"] is not None), known)

    def _template(self, with_tools: bool) -> str:
        """Return the template that transformers would take."""
        if not self.templates:
            raise ValueError("the model has no chat template: it continues texts")
        name = "tool_use" if with_tools and "tool_use" in self.templates else "default"
        if name not in self.templates:
            names = ", ".join(sorted(self.templates))
            raise ValueError(f"none of the model's chat templates is the default: {names:.160}")
        return self.templates[name]


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

    stop = [*special("eos"), *special("eot")]
    if _END_OF_TURN in tokens:
        stop.append(tokens.index(_END_OF_TURN))
    named = {
        f"{name}_token": str(tokens[id_])
        for name, key in _GGUF_SPECIAL.items()
        for id_ in special(key)
    }
    templates = {
        key.removeprefix(_GGUF_TEMPLATE).removeprefix(".") or "default": template
        for key, template in metadata.items()
        if (key + ".").startswith(_GGUF_TEMPLATE + ".") and isinstance(template, str)
    }
    return Chat(templates, named, tuple(dict.fromkeys(stop)))


def transformers_chat(metadata: Mapping[str, Json]) -> Chat:
    """Return how the model of a directory is spoken to.

    Args:
        metadata: the objects of its files by their names without ``.json``: ``config``,
            ``generation_config``, ``tokenizer_config``, ``special_tokens_map`` and ``tokenizer``,
            as far as they are there; ``chat_templates`` are the texts of files of their own, by
            name, and stand for all that tokenizer_config has.
    """
    tokenizer = _object(metadata, "tokenizer_config")
    mapped = _object(metadata, "special_tokens_map")
    special = {}
    for name in _SPECIAL:
        token = tokenizer.get(f"{name}_token", mapped.get(f"{name}_token"))
        text = token.get("content") if isinstance(token, Mapping) else token
        if isinstance(text, str):
            special[f"{name}_token"] = text
    ids: list[Json] = []
    for name in ("generation_config", "config"):
        given = _object(metadata, name).get("eos_token_id")
        ids += given if isinstance(given, list) else [given]
    added = _object(metadata, "tokenizer").get("added_tokens")
    ends = {_END_OF_TURN, special.get("eos_token")}
    for token in added if isinstance(added, list) else []:
        if isinstance(token, Mapping) and token.get("content") in ends:
            ids.append(token.get("id"))
    stop = tuple(dict.fromkeys(token for token in ids if type(token) is int))
    given = metadata.get("chat_templates") or tokenizer.get("chat_template")
    if isinstance(given, str):
        given = {"default": given}
    elif isinstance(given, list):  # several, by name
        entries = [t for t in given if isinstance(t, Mapping)]
        given = {str(t.get("name")): t.get("template") for t in entries}
    named = given.items() if isinstance(given, Mapping) else ()
    templates = {name: template for name, template in named if isinstance(template, str)}
    return Chat(templates, special, stop)


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
