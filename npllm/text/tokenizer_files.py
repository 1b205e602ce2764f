"""Byte pair and WordPiece tokenizers from the files in which they are published.

What would be encoded otherwise than its publisher does is refused. Ids are those of tokenizers'
``encode(text, add_special_tokens=False)``; with the tokens that a WordPiece file adds around a text
they are those of ``encode_whole``. What a file says of truncation and of padding is left to the
caller.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard, TypeVar, cast

from npllm.files import Json
from npllm.text.bert_words import BertWords
from npllm.text.bpe import BytePairTokenizer
from npllm.text.byte_letters import from_letters, to_letters
from npllm.text.json_parts import kind_of, list_of, object_of
from npllm.text.post_processors import after_bytes, processor_json, template_of
from npllm.text.wordpiece import WordPieceTokenizer

PAIRS_OF_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
GGUF_SPLITS = {"gpt-2": "gpt2", "gpt2": "gpt2", "smollm": "smollm"}
NORMAL, CONTROL, UNUSED = 1, 3, 5  # types of tokens in GGUF
UNSUPPORTED_OPTIONS = (
    "dropout",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
    "ignore_merges",
)
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

Made = TypeVar("Made")


def load_tokenizer(path: str | os.PathLike[str]) -> BytePairTokenizer | WordPieceTokenizer:
    """Return the tokenizer of a ``tokenizer.json``, or of the folder that a model came in.

    Args:
        path: the file, or a folder with ``tokenizer.json``, with ``vocab.json`` and ``merges.txt``,
            with ``encoder.json`` and ``vocab.bpe`` or with ``vocab.txt``, looked for in that order.
            Beside ``vocab.txt``, ``do_lower_case`` of ``tokenizer_config.json`` is heeded.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: it is no tokenizer, or one that is not supported; the message says why.
    """
    path = Path(path)
    if not path.is_dir():
        return load_tokenizer_json(path)
    if (path / "tokenizer.json").exists():
        return load_tokenizer_json(path / "tokenizer.json")
    for vocabulary, merges in PAIRS_OF_FILES:
        if (path / vocabulary).exists():
            return load_vocabulary_and_merges(path / vocabulary, path / merges)
    if (path / "vocab.txt").exists():
        beside = path / "tokenizer_config.json"
        lowercase = _reading(beside, _lower_case) if beside.exists() else True
        return load_wordpiece_vocabulary(path / "vocab.txt", lowercase=lowercase)
    names = "tokenizer.json, vocab.json, encoder.json or vocab.txt"
    raise FileNotFoundError(f"{path} holds no {names}")


def load_tokenizer_json(
    path: str | os.PathLike[str],
) -> BytePairTokenizer | WordPieceTokenizer:
    """Return the tokenizer of a ``tokenizer.json`` of the tokenizers library.

    Supported are the model BPE with the pre-tokenizer ByteLevel, alone or after Digits, the model
    WordPiece with BERT's normalizer and pre-tokenizer, and added tokens that are special.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no such file, or asks for what is not supported.
    """

    def build(text: str) -> BytePairTokenizer | WordPieceTokenizer:
        saved = _json_object(text)
        model = object_of(saved.get("model"), "model")
        kind = model.get("type", "BPE")  # files of 2019 name no type
        if kind == "WordPiece":
            return _wordpiece(saved, model)
        if kind != "BPE":
            raise ValueError(f"the model must be BPE or WordPiece, got {kind!r:.80}")
        return _byte_pair(saved, model)

    return _reading(path, build)


def tokenizer_json(tokenizer: BytePairTokenizer) -> dict[str, Json]:
    """Return what a ``tokenizer.json`` of the tokenizers library says of a tokenizer.

    >>> tokenizer = BytePairTokenizer.train("banana banana", 258, special=["<end>"])
    >>> tokenizer_json(tokenizer)["model"]["merges"]
    ['a n']
    """
    special = {i: text for text, i in tokenizer.special.items()}
    tokens = [special.get(i, to_letters(token)) for i, token in enumerate(tokenizer.token_bytes)]
    spaces = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    byte_level: dict[str, Json] = {"type": "ByteLevel", **spaces}
    before = byte_level
    if tokenizer.pretokenizer == "smollm":
        digits: dict[str, Json] = {"type": "Digits", "individual_digits": True}
        before = {"type": "Sequence", "pretokenizers": [digits, byte_level]}
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": special[i], **plain, "special": True} for i in sorted(special)
        ],
        "normalizer": None,
        "pre_tokenizer": before,
        "post_processor": processor_json(tokenizer, tokens),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None if tokenizer.unknown is None else tokens[tokenizer.unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [f"{tokens[left]} {tokens[right]}" for left, right in tokenizer.merges],
        },
    }


def load_vocabulary_and_merges(
    vocabulary: str | os.PathLike[str],
    merges: str | os.PathLike[str],
    pretokenizer: str = "gpt2",
    special: Iterable[str] | None = None,
) -> BytePairTokenizer:
    """Return the tokenizer of ``vocab.json`` and ``merges.txt`` (``encoder.json``, ``vocab.bpe``).

    Args:
        vocabulary: a JSON object, of each token its id.
        merges: a line a merge; a first line that begins with "#version" says nothing.
        pretokenizer: "gpt2" or "smollm"; the files do not say.
        special: the special tokens; the files do not say: None for the tokens that are no byte
            and that no merge makes.

    Raises:
        OSError: a file is missing or cannot be read.
        ValueError: a file is malformed, or the two do not belong together.
    """
    tokens = _reading(vocabulary, lambda text: _in_order(_json_object(text)))

    def build(text: str) -> BytePairTokenizer:
        lines = text.splitlines()
        pairs = [line for line in lines[text.startswith("#version") :] if line]
        known = _unmade(tokens, pairs) if special is None else set(special)
        return _build(tokens, pairs, known, pretokenizer)

    return _reading(merges, build)


def load_wordpiece_vocabulary(
    path: str | os.PathLike[str], *, lowercase: bool = True
) -> WordPieceTokenizer:
    """Return the tokenizer of BERT's ``vocab.txt``, a line a token.

    Special are those of [PAD], [UNK], [CLS], [SEP] and [MASK] that it has; [CLS] is put before a
    text and [SEP] behind it.

    Args:
        path: of the file.
        lowercase: whether the model knows no capitals and no accents; the file does not say.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: a token is empty or there twice, or [UNK], [CLS] or [SEP] is missing.
    """

    def build(text: str) -> WordPieceTokenizer:
        tokens = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
        special = [token for token in BERT_SPECIAL if token in tokens]
        template = (["[CLS]"], ["[SEP]"])
        words = BertWords(lowercase=lowercase)
        return WordPieceTokenizer(tokens, words, special=special, template=template)

    return _reading(path, build)


def tokenizer_from_gguf(
    tokens: Sequence[str],
    merges: Sequence[str],
    token_types: Sequence[int] | None = None,
    pretokenizer: str = "gpt-2",
    unknown: int | None = None,
) -> BytePairTokenizer:
    """Return the tokenizer of lists as a GGUF file holds them under ``tokenizer.ggml``.

    Args:
        tokens: ``tokens``, in byte-level letters (where ``model`` is "gpt2").
        merges: ``merges``, two tokens with a space between.
        token_types: ``token_type``: 1 for a token, 3 for a special one, 5 for an unused one; None
            where all are 1.
        pretokenizer: ``pre``: "gpt-2" or "smollm".
        unknown: ``unknown_token_id``, for bytes that are no token.

    Raises:
        ValueError: the lists do not belong together, or ask for what is not supported.

    >>> tokenizer = tokenizer_from_gguf(["<end>", "a", "b", "ab"], ["a b"], [3, 1, 1, 1])
    >>> tokenizer.encode("aab<end>", special=True).tolist()
    [1, 3, 0]
    """
    if pretokenizer not in GGUF_SPLITS:
        known = ", ".join(GGUF_SPLITS)
        raise ValueError(f"the pre-tokenizer must be one of {known}, got {pretokenizer!r}")
    types = [NORMAL] * len(tokens) if token_types is None else list(token_types)
    if len(types) != len(tokens):
        raise ValueError(f"there are {len(tokens)} tokens, but {len(types)} token types")
    for i, kind in enumerate(types):
        if kind not in (NORMAL, CONTROL, UNUSED):
            raise ValueError(
                f"token {i}, {tokens[i]!r}, has type {kind}: only 1, 3 and 5 are known"
            )
    special = {token for token, kind in zip(tokens, types, strict=True) if kind == CONTROL}
    unused = {token for token, kind in zip(tokens, types, strict=True) if kind == UNUSED}
    return _build(tokens, merges, special, GGUF_SPLITS[pretokenizer], unknown, unused)


def _byte_pair(saved: dict[str, Json], model: dict[str, Json]) -> BytePairTokenizer:
    for option in UNSUPPORTED_OPTIONS:
        if model.get(option):
            raise ValueError(f"the model's {option} must not be set, got {model[option]!r:.80}")
    if saved.get("normalizer") is not None:
        raise ValueError(f"no normalizer is supported, got {kind_of(saved['normalizer'])!r:.80}")
    if saved.get("decoder") is not None and kind_of(saved["decoder"]) != "ByteLevel":
        raise ValueError(f"the decoder must be ByteLevel, got {kind_of(saved['decoder'])!r:.80}")
    split = _split_of(saved.get("pre_tokenizer"))
    vocabulary = dict(object_of(model.get("vocab"), "vocab"))
    merges = list_of(model.get("merges"), "merges")
    special = _added(saved, vocabulary, ("lstrip", "rstrip", "single_word"))
    unknown = model.get("unk_token")
    if unknown is not None and (unknown := vocabulary.get(str(unknown))) is None:
        raise ValueError(f"the vocabulary lacks the unknown token {model['unk_token']!r}")
    tokens = _in_order(vocabulary)  # which sees to it that every id is one
    tokenizer = _build(tokens, merges, special, split, cast("int | None", unknown))
    around = template_of(after_bytes(saved.get("post_processor")), vocabulary)
    tokenizer.put_around(*([vocabulary[token] for token in part] for part in around))
    return tokenizer


def _added(
    saved: Mapping[str, Json], vocabulary: dict[str, Json], unwanted: Sequence[str]
) -> set[str]:
    """Return the added tokens, and add them to the vocabulary."""
    special = set()
    for entry in list_of(saved.get("added_tokens", []), "added_tokens"):
        added = object_of(entry, "added token")
        token, i = str(added.get("content")), added.get("id")
        if added.get("special") is not True or any(map(added.get, unwanted)):
            raise ValueError(
                f"the added token {token!r} must be special, without {', '.join(unwanted)}"
            )
        if (known := vocabulary.setdefault(token, i)) != i:
            raise ValueError(f"the added token {token!r} has id {i}, in the vocabulary {known}")
        special.add(token)
    return special


def _wordpiece(saved: dict[str, Json], model: dict[str, Json]) -> WordPieceTokenizer:
    normalizer, decoder = saved.get("normalizer"), saved.get("decoder")
    if (kind := kind_of(normalizer)) != "BertNormalizer":
        raise ValueError(f"the normalizer of WordPiece must be BertNormalizer, got {kind:.80}")
    if (kind := kind_of(saved.get("pre_tokenizer"))) != "BertPreTokenizer":
        raise ValueError(f"the pre-tokenizer of WordPiece must be BertPreTokenizer, got {kind:.80}")
    prefix = str(model.get("continuing_subword_prefix", "##"))
    shown = object_of({} if decoder is None else decoder, "decoder")
    if decoder is not None and (kind_of(decoder), shown.get("prefix")) != ("WordPiece", prefix):
        raise ValueError(f"the decoder must be WordPiece with the prefix {prefix!r:.80}")
    longest = model.get("max_input_chars_per_word", 100)
    if type(longest) is not int or longest < 0:
        raise ValueError(f"max_input_chars_per_word must be a whole number, got {longest!r:.80}")
    asked = object_of(normalizer, "normalizer")
    given = [asked.get(name) for name in ("clean_text", "handle_chinese_chars", "lowercase")]
    clean, chinese, lowercase = (value is not False for value in given)
    accents = asked.get("strip_accents")
    for value in (accents, *given):
        if value not in (True, False, None):
            raise ValueError(f"BertNormalizer's options must be true or false, got {value!r:.80}")
    vocabulary = dict(object_of(model.get("vocab"), "vocab"))
    special = _added(saved, vocabulary, ("lstrip", "rstrip", "single_word", "normalized"))
    return WordPieceTokenizer(
        _in_order(vocabulary),
        BertWords(clean, chinese, None if accents is None else accents is True, lowercase),
        special=special,
        unknown=str(model.get("unk_token", "[UNK]")),
        prefix=prefix,
        longest_word=longest,
        template=template_of(saved.get("post_processor"), vocabulary),
        cleanup=shown.get("cleanup") is not False,
    )


def _lower_case(text: str) -> bool:
    return _json_object(text).get("do_lower_case") is not False


def _split_of(pretokenizer: Json) -> str:
    """Return the name of the split that a pre-tokenizer's JSON describes."""
    steps = [pretokenizer]
    if kind_of(pretokenizer) == "Sequence":
        sequence = object_of(pretokenizer, "pre-tokenizer")
        steps = list_of(sequence.get("pretokenizers"), "pretokenizers")
    kinds = [kind_of(step) for step in steps]
    splits = {("ByteLevel",): "gpt2", ("Digits", "ByteLevel"): "smollm"}
    if tuple(kinds) not in splits:
        shown = " and ".join(kinds)
        raise ValueError(
            f"the pre-tokenizer must be ByteLevel or Digits and ByteLevel, got {shown:.80}"
        )
    wanted = {"add_prefix_space": False, "use_regex": True, "individual_digits": True}
    absent = {"use_regex": True}  # older files lack it
    options = {"ByteLevel": ("add_prefix_space", "use_regex"), "Digits": ("individual_digits",)}
    for step, kind in zip(steps, kinds, strict=True):
        given = object_of(step, kind)
        for option in options[kind]:
            if (got := given.get(option, absent.get(option))) is not wanted[option]:
                raise ValueError(f"{kind}'s {option} must be {wanted[option]}, got {got!r:.80}")
    return splits[tuple(kinds)]


def _build(
    tokens: Sequence[str],
    merges: Iterable[Json],
    special: set[str],
    split: str,
    unknown: int | None = None,
    unused: Iterable[str] = (),
) -> BytePairTokenizer:
    """Return the tokenizer of tokens in letters, those that are no piece of text excepted."""
    plain = special.union(unused)
    token_bytes = [token.encode() if token in plain else from_letters(token) for token in tokens]
    ids = {token: i for i, token in enumerate(tokens)}
    pairs = []
    for number, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not _is_pair(pair):
            raise ValueError(f"merge {number}, {merge!r:.80}, is not of two tokens")
        if lacking := [token for token in pair if token not in ids]:
            raise ValueError(f"merge {number} names {lacking[0]!r}, which the vocabulary lacks")
        pairs.append((ids[pair[0]], ids[pair[1]]))
    in_order = sorted(special, key=lambda token: ids.get(token, -1))
    return BytePairTokenizer(token_bytes, pairs, split, in_order, unknown)


def _is_pair(tokens: object) -> TypeGuard[list[str]]:
    return isinstance(tokens, list) and [type(token) for token in tokens] == [str, str]


def _unmade(tokens: Iterable[str], merges: Iterable[str]) -> set[str]:
    """Return the tokens of several letters that no merge makes."""
    made = {merge.replace(" ", "") for merge in merges}
    return {token for token in tokens if len(token) > 1 and token not in made}


def _in_order(vocabulary: Mapping[str, Json]) -> list[str]:
    """Return tokens by id."""
    tokens: dict[int, str] = {}
    for token, i in vocabulary.items():
        if not isinstance(token, str) or type(i) is not int:
            raise ValueError(f"token {token!r:.80} has no whole number as id, but {i!r:.80}")
        if tokens.setdefault(i, token) != token:
            raise ValueError(f"tokens {tokens[i]!r} and {token!r} both have id {i}")
    for i in range(len(tokens)):
        if i not in tokens:
            raise ValueError(f"no token has id {i}, though there are {len(tokens)}")
    return [tokens[i] for i in range(len(tokens))]


def _reading(path: str | os.PathLike[str], make: Callable[[str], Made]) -> Made:
    """Return what is made of a file's text; a ValueError names the file."""
    try:
        return make(Path(path).read_bytes().decode())
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
    except RecursionError:
        raise ValueError(f"{os.fspath(path)}: it is nested too deeply") from None


def _json_object(text: str) -> dict[str, Json]:
    def distinct(entries: list[tuple[str, Json]]) -> dict[str, Json]:
        found = dict(entries)
        if len(found) < len(entries):
            twice = Counter(key for key, _ in entries).most_common(1)[0][0]
            raise ValueError(f"{twice!r} stands there twice")
        return found

    return object_of(json.loads(text, object_pairs_hook=distinct), "file")
