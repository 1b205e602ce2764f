"""What a public tokenizer puts around a text: in the ids, and said where a text is read."""

import json

import numpy as np
import pytest
from gguf_writer import gguf_bytes, llama_gguf

from npllm.cli import main
from npllm.loading import load
from npllm.pretrained import load_pretrained, save_pretrained
from npllm.text import BytePairTokenizer, load_tokenizer, tokenizer_from_dict, tokenizer_json

TEXT = "hello hello hello"
BEGIN = {"SpecialToken": {"id": "<s>", "type_id": 0}}
END = {"SpecialToken": {"id": "</s>", "type_id": 0}}
PLACE = {"Sequence": {"id": "A", "type_id": 0}}
BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}


def template(*single):
    named = {t: {"id": t, "ids": [i], "tokens": [t]} for i, t in enumerate(("<s>", "</s>"))}
    pair = [PLACE, {"Sequence": {"id": "B", "type_id": 0}}]
    kind = {"type": "TemplateProcessing", "single": single, "pair": pair}
    return {**kind, "special_tokens": named}


PROCESSORS = {
    "none": None,
    "bytes": BYTES,
    "begin": template(BEGIN, PLACE),
    "both": template(BEGIN, PLACE, END),
    "after bytes": {"type": "Sequence", "processors": [BYTES, template(BEGIN, PLACE)]},
    "roberta": {
        "type": "RobertaProcessing",
        "sep": ["</s>", 1],
        "cls": ["<s>", 0],
        "trim_offsets": True,
        "add_prefix_space": False,
    },
}


@pytest.fixture
def processed(tmp_path, make_llama):
    """A function that writes a model whose tokenizer has a post-processor, and returns its path."""

    def write(processor):
        tokenizer = BytePairTokenizer.train(TEXT, 262, special=["<s>", "</s>"])
        save_pretrained(tmp_path, make_llama(vocab_size=262, context=64), None, tokenizer)
        saved = json.loads((tmp_path / "tokenizer.json").read_text())
        saved["post_processor"] = processor
        (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        return tmp_path

    return write


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=PROCESSORS)
def test_ids_are_those_of_transformers(transformers, processed, processor):
    path = processed(processor)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(path), load_tokenizer(path)
    for text in (TEXT, "", " a"):
        assert ours.encode_whole(text).tolist() == theirs(text).input_ids
        assert ours.encode(text).tolist() == theirs(text, add_special_tokens=False).input_ids


def test_a_text_is_scored_and_continued_as_in_transformers(
    transformers, torch, processed, tmp_path, capsys
):
    path = processed(template(BEGIN, PLACE))
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    ids = tokenizer(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        loss = model(ids, labels=ids).loss.item()
        written = model.generate(
            tokenizer("hello", return_tensors="pt").input_ids,
            max_new_tokens=6,
            do_sample=False,
            pad_token_id=1,
            eos_token_id=None,
        )
    (tmp_path / "text.txt").write_text(TEXT)
    assert main(["evaluate", "--model", str(path), "--data", str(tmp_path / "text.txt")]) == 0
    out = capsys.readouterr().out
    assert float(out.split("loss")[1].split()[0]) == pytest.approx(loss, abs=2e-6)
    assert "the tokenizer puts <s> before the text\n" in out
    arguments = ["--prompt=hello", "--tokens=6", "--temperature=0"]
    assert main(["generate", "--model", str(path), *arguments]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("the tokenizer puts <s> before the text\n")
    right = load(path).tokenizer.decode(written[0, 1:].tolist())
    assert told.out == right + "\n"


@pytest.mark.parametrize("add", [True, False, None])
def test_a_gguf_file_says_it_too(write, make_llama, add):
    said = {"tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.add_bos_token": add}
    letters = [*tokenizer_json(BytePairTokenizer.train("", 256))["model"]["vocab"]]
    tokens = {"tokens": ["<s>", *letters], "token_type": [3] + [1] * 256, "merges": []}
    said |= {f"tokenizer.ggml.{name}": value for name, value in tokens.items()}
    metadata, tensors = llama_gguf(make_llama(vocab_size=257), **said)
    tokenizer = load_pretrained(write(gguf_bytes(metadata, tensors))).tokenizer()
    assert tokenizer.encode_whole("a").tolist() == [0] * bool(add) + tokenizer.encode("a").tolist()


def test_it_is_kept_with_the_tokenizer(tmp_path, processed):
    tokenizer = load_tokenizer(processed(PROCESSORS["both"]))
    again = tokenizer_from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert (again.before, again.behind) == ((0,), (1,))
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_json(tokenizer)))
    written = load_tokenizer(tmp_path / "tokenizer.json")
    np.testing.assert_array_equal(written.encode_whole("a"), tokenizer.encode_whole("a"))


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"type": "Odd"}, "the post-processor must be TemplateProcessing"),
        (template(BEGIN), "the template must have one place for the text"),
        ({"type": "Sequence", "processors": [template(PLACE)] * 2}, "one post-processor beside"),
    ],
)
def test_what_is_not_supported_is_refused(processed, processor, message):
    with pytest.raises(ValueError, match=message):
        load_tokenizer(processed(processor))
