"""Post-processors of ``tokenizer.json``: what a tokenizer puts before a text and behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npllm.files import Json
from npllm.text.bpe import BytePairTokenizer
from npllm.text.json_parts import kind_of, list_of, object_of


def template_of(processor: Json, vocabulary: Mapping[str, Json]) -> tuple[list[str], list[str]]:
    """Return the special tokens before a text and behind it."""
    if processor is None:
        return [], []
    given, kind = object_of(processor, "post-processor"), kind_of(processor)
    if kind in ("BertProcessing", "RobertaProcessing"):
        pairs = [list_of(given.get(name), name) for name in ("cls", "sep")]
        tokens: list[str | None] = [str(pair[0]) if pair else None for pair in pairs]
        tokens.insert(1, None)
        known = {str(pair[0]): pair[1:] for pair in pairs if pair}
    elif kind == "TemplateProcessing":
        tokens = [_piece(entry) for entry in list_of(given.get("single"), "the template's single")]
        named = object_of(given.get("special_tokens"), "template's special_tokens")
        known = {
            name: list_of(object_of(token, name).get("ids"), f"{name}'s ids")
            for name, token in named.items()
        }
    else:
        raise ValueError(
            "the post-processor must be TemplateProcessing, BertProcessing or RobertaProcessing, "
            f"got {kind:.80}"
        )
    if tokens.count(None) != 1:
        raise ValueError("the template must have one place for the text")
    place = tokens.index(None)
    special = [token for token in tokens if token is not None]
    for token in special:
        if known.get(token) != [vocabulary.get(token)]:
            raise ValueError(
                f"the template's token {token!r:.80} has the ids {known.get(token)!r:.80}, in the "
                f"vocabulary {vocabulary.get(token)}"
            )
    return special[:place], special[place:]


def _piece(entry: Json) -> str | None:
    """Return the special token that a piece of a template is; None of the text's place."""
    piece = object_of(entry, "template's piece")
    for kind, value in piece.items():
        inner = object_of(value, kind)
        if inner.get("type_id", 0) != 0:
            raise ValueError("the template must be of type 0 throughout")
        if kind == "SpecialToken":
            return str(inner.get("id"))
    return None


def after_bytes(processor: Json) -> Json:
    """Return the post-processor but for ByteLevel, which changes places and no ids."""
    steps = [processor]
    if kind_of(processor) == "Sequence":
        steps = list_of(object_of(processor, "post-processor").get("processors"), "processors")
    others = [step for step in steps if step is not None and kind_of(step) != "ByteLevel"]
    if len(others) > 1:
        raise ValueError("one post-processor beside ByteLevel is supported, got several")
    return others[0] if others else None


def processor_json(tokenizer: BytePairTokenizer, tokens: Sequence[str]) -> Json:
    """Return the post-processor that puts around a text what the tokenizer does."""
    before, behind = ([tokens[i] for i in part] for part in (tokenizer.before, tokenizer.behind))
    if not before and not behind:
        return None

    def special(token: str) -> Json:
        return {"SpecialToken": {"id": token, "type_id": 0}}

    def text(place: str) -> Json:
        return {"Sequence": {"id": place, "type_id": 0}}

    def pieces(*places: str) -> list[Json]:
        return [
            *map(special, before),
            *map(text, places),
            *map(special, behind),
        ]

    named: dict[str, Json] = {
        tokens[i]: {"id": tokens[i], "ids": [i], "tokens": [tokens[i]]}
        for i in (*tokenizer.before, *tokenizer.behind)
    }
    return {
        "type": "TemplateProcessing",
        "single": pieces("A"),
        "pair": pieces("A", "B"),
        "special_tokens": named,
    }
