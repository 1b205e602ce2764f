"""Chat templates, rendered as transformers renders them, and what ends an answer."""

import importlib
import json
import sys

import numpy as np
import pytest
from gguf_writer import gguf_bytes, llama_gguf
from left_out import need

from npllm.pretrained import load_pretrained, save_pretrained
from npllm.pretrained.chat import Chat, gguf_chat, render_template, transformers_chat
from npllm.text import BytePairTokenizer

need("jinja2")

MESSAGES = [{"role": "system", "content": "Be <b>."}, {"role": "user", "content": "Größe?\n"}]
CHATML = """{% for message in messages %}
  {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""
TEMPLATES = {
    "chatml": CHATML,
    "begin": "{{ bos_token }}{% for m in messages %}[{{ m.content | trim }}]{% endfor %}"
    "{{ eos_token }}",
    "loops": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.role }}"
    "{% endfor %}",
    "json": "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }}",
    "generation": "a {% generation %} b {% endgeneration %} c {%- generation -%} d "
    "{%- endgeneration %}",
    "space": "a\n   {% if true %}\nb\n   {% endif %}\n  c {# none #}\nd",
}


def plain(template):
    """Return a chat with one template and no special tokens."""
    return Chat({"default": template}, {}, ())


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("prompt", [True, False])
def test_templates_render_as_transformers_renders_them(transformers, template, prompt):
    module = importlib.import_module("transformers.utils.chat_template_utils")
    variables = {"bos_token": "<s>", "eos_token": "</s>"}
    expected, _ = module.render_jinja_template(
        [MESSAGES], chat_template=template, add_generation_prompt=prompt, **variables
    )
    chat = Chat({"default": template}, variables, ())
    assert chat.render(MESSAGES, add_generation_prompt=prompt) == expected[0]


def test_a_text_that_can_be_read_off():
    text = plain(CHATML).render(MESSAGES)
    assert text == (
        "<|im_start|>system\nBe <b>.<|im_end|>\n<|im_start|>user\nGröße?\n<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert "assistant" not in plain(CHATML).render(MESSAGES, add_generation_prompt=False)
    assert plain("{{ tools[0] }}").render([], tools=["t"]) == "t"
    assert len(render_template("{{ strftime_now('%Y') }}", {})) == 4


FAILING = {
    "raised": ("{{ raise_exception('no\nsuch role') }}", "fails: no such role"),
    "syntax": ("{% for %}", "the chat template fails: "),
    "missing": ("{{ nothing.at_all }}", "'nothing' is undefined"),
    "number": ("{{ 1 // 0 }}", "the chat template fails: "),
    "escape": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    "change": ("{{ messages.append(1) }}", "not safely callable|unsafe"),
    "long loop": ("{% for n in range(10 ** 9) %}{% endfor %}", "Range too big"),
}


@pytest.mark.parametrize(("template", "message"), FAILING.values(), ids=FAILING)
def test_templates_that_fail_or_reach_out_are_stopped(template, message):
    with pytest.raises(ValueError, match=message) as caught:
        plain(template).render(list(MESSAGES))
    assert "\n" not in str(caught.value)


def test_without_a_template_or_jinja(monkeypatch):
    with pytest.raises(ValueError, match="the model has no chat template"):
        Chat({}, {}, ()).render(MESSAGES)
    monkeypatch.setitem(sys.modules, "jinja2.sandbox", None)
    with pytest.raises(ValueError, match=r"pip install '.\[chat\]'"):
        plain(CHATML).render(MESSAGES)


def test_what_ends_an_answer_in_gguf(tmp_path, make_llama):
    tokens = [*"abc", "<|im_end|>", *"efghijklm"]
    changed = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.eos_token_id": 1}
    changed |= {"tokenizer.chat_template": CHATML, "tokenizer.ggml.bos_token_id": 0}
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes(*llama_gguf(make_llama(), **changed)))
    assert load_pretrained(path).chat == Chat(
        {"default": CHATML}, {"bos_token": "a", "eos_token": "b"}, (1, 3)
    )
    same = {**changed, "tokenizer.ggml.eos_token_id": 3}
    assert gguf_chat(same).stop == (3,)
    for odd in (13, -1, "x", None, True):
        assert gguf_chat({**changed, "tokenizer.ggml.eos_token_id": odd}).stop == (3,)
    assert gguf_chat({"tokenizer.ggml.tokens": 3}) == Chat({}, {}, ())


def test_what_ends_an_answer_in_a_directory(tmp_path, make_gpt):
    save_pretrained(tmp_path, make_gpt(), {"eos_token_id": 4})
    files = {
        "generation_config": {"eos_token_id": [2, 4]},
        "tokenizer_config": {
            "bos_token": {"content": "<s>"},
            "eos_token": "</s>",
            "chat_template": [
                {"name": "tool", "template": "t"},
                {"name": "default", "template": "d"},
            ],
        },
        "tokenizer": {
            "added_tokens": [{"id": 7, "content": "<|im_end|>"}, {"id": 8, "content": "<|x|>"}]
        },
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    read = load_pretrained(tmp_path)
    named = {"bos_token": "<s>", "eos_token": "</s>"}
    assert read.chat == Chat({"tool": "t", "default": "d"}, named, (2, 4, 7))
    assert read.tokenizer_data == {"tokenizer.json": tmp_path / "tokenizer.json"}
    (tmp_path / "chat_template.jinja").write_text("from a file")
    assert load_pretrained(tmp_path).chat.templates == {"default": "from a file"}
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"chat_template\.jinja is no UTF-8 text"):
        load_pretrained(tmp_path)
    odd = {"config": {"eos_token_id": [True, None, "x", 3]}, "tokenizer": [], "tokenizer_config": 1}
    assert transformers_chat(odd) == Chat({}, {}, (3,))
    assert np.shape(read.model.parameters.vector)


def test_the_tokenizer_of_a_file(tmp_path, make_llama):
    letters = [chr(97 + n) for n in range(11)]
    changed = {"tokenizer.ggml.tokens": [*letters, "ab", "<end>"]}
    changed |= {"tokenizer.ggml.merges": ["a b"], "tokenizer.ggml.pre": "gpt-2"}
    changed["tokenizer.ggml.token_type"] = [1] * 12 + [3]
    path = tmp_path / "m.gguf"

    def loaded(**more):
        path.write_bytes(gguf_bytes(*llama_gguf(make_llama(), **{**changed, **more})))
        return load_pretrained(path)

    assert loaded().tokenizer().encode("abc<end>", special=True).tolist() == [11, 2, 12]
    for more, message in (
        ({"tokenizer.ggml.model": "llama"}, "the tokenizer is 'llama'"),
        ({"tokenizer.ggml.tokens": [1, 2]}, r"tokenizer\.ggml\.tokens must be a list of str"),
        ({"tokenizer.ggml.merges": 3}, r"tokenizer\.ggml\.merges must be a list of str"),
        ({"tokenizer.ggml.merges": ["a x"]}, "x"),
        ({"tokenizer.ggml.unknown_token_id": "a"}, "unknown_token_id must be an id, got 'a'"),
    ):
        other = loaded(**more)  # the model is of use all the same
        with pytest.raises(ValueError, match=rf"m\.gguf: .*{message}"):
            other.tokenizer()


ASKED = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
# what a directory says of its templates and tokens
SAYING = {
    "no tools": {"chat_template": "{% if tools is not none %}TOOLS{% endif %}hi"},
    "no documents": {"chat_template": "{% if documents is not none %}DOCS{% endif %}hi"},
    "tools defined": {"chat_template": "{{ tools is defined }} {{ documents is defined }}"},
    "every token": {
        "chat_template": "{% for t in [bos_token, eos_token, pad_token, unk_token, sep_token, "
        "cls_token, mask_token] %}[{{ t }}]{% endfor %}",
        "pad_token": "</s>",
        "unk_token": {"__type": "AddedToken", "content": "<s>"},
        "bos_token": "<s>",
    },
    "none": {"chat_template": "{{ bos_token is defined }} {{ pad_token is defined }}"},
    "named": {
        "chat_template": [
            {"name": "default", "template": "plain"},
            {"name": "tool_use", "template": "may call {{ tools[0].function.name }}"},
        ]
    },
    "other names": {
        "chat_template": [
            {"name": "default", "template": "plain"},
            {"name": "rag", "template": "never"},
        ]
    },
}


@pytest.fixture
def described(tmp_path, make_llama):
    """A function that writes a directory whose tokenizer is described so, and returns its path."""

    def write(**said):
        tokenizer = BytePairTokenizer.train("", 258, special=["<s>", "</s>"])
        save_pretrained(tmp_path, make_llama(vocab_size=258), None, tokenizer)
        said = {"tokenizer_class": "PreTrainedTokenizerFast", **said}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
        return tmp_path

    return write


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["alone", "with tools"])
@pytest.mark.parametrize("said", SAYING.values(), ids=SAYING)
def test_a_directorys_template_says_what_transformers_says(transformers, described, said, tools):
    path = described(**said)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    right = tokenizer.apply_chat_template(
        ASKED, tools=tools, tokenize=False, add_generation_prompt=True
    )
    assert load_pretrained(path).chat.render(ASKED, tools=tools) == right


def test_templates_in_files_of_their_own(transformers, described):
    path = described(chat_template="from the config")
    (path / "chat_template.jinja").write_text("from a file")
    (path / "additional_chat_templates").mkdir()
    (path / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools | length }} tools")
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    chat = load_pretrained(path).chat
    for tools in (None, TOOLS):
        right = tokenizer.apply_chat_template(ASKED, tools=tools, tokenize=False)
        assert chat.render(ASKED, tools=tools) == right


def test_none_of_several_templates_is_the_default(described):
    path = described(chat_template=[{"name": "rag", "template": "a"}])
    with pytest.raises(ValueError, match="none of the model's chat templates is the default: rag"):
        load_pretrained(path).chat.render(ASKED)


def test_a_gguf_file_may_have_several_templates():
    metadata = {
        "tokenizer.ggml.tokens": ["a", "b", "c"],
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "[{{ pad_token }}{{ unk_token }}]",
        "tokenizer.chat_template.tool_use": "tools",
        "tokenizer.chat_templates": ["tool_use"],
    }
    chat = gguf_chat(metadata)
    assert chat.render(ASKED) == "[ca]"
    assert chat.render(ASKED, tools=TOOLS) == "tools"
