"""GPT and Llama beside transformers: the same logits of the same files, written by either."""

import importlib
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from npllm.cli import main
from npllm.models import GPT, Llama, LSTMLanguageModel
from npllm.pretrained import load_pretrained, save_pretrained
from npllm.pretrained.names import Architecture, parameter_shapes
from npllm.pretrained.transformers_config import read_architecture, write_config
from npllm.text import BytePairTokenizer

TOLERANCE = 1e-12
LINEAR = {"rope_type": "linear", "factor": 2.0}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
LLAMAS = {
    "plain": {},
    "tied": {"tie_weights": True},
    "all heads": {"kv_heads": 4, "width": 24},
    "one key head": {"kv_heads": 1, "rope_base": 50.0},
    "linear": {"rope_scaling": LINEAR},
    "llama3": {"rope_scaling": LLAMA3, "rope_base": 100.0},
    "yarn": {"rope_scaling": YARN, "rope_base": 100.0},
    "yarn, all said": {
        "rope_scaling": {**YARN, "beta_fast": 4.0, "beta_slow": 0.5, "attention_factor": 1.5}
    },
    "window": {"window": 3},
    "epsilon": {"eps": 1e-3},
}
llamas = pytest.mark.parametrize("options", LLAMAS.values(), ids=LLAMAS)


@pytest.fixture
def double(torch, transformers, monkeypatch):
    """Have transformers compute in float64 what it casts to float32 whatever its weights are.

    Llama's norm, its rotary table and its softmax name torch.float32 and torch.float: for the time
    of a test these names, and the method, mean float64. What keeps them in tables of its own, and
    is first imported when a model is made, must have been imported before.
    """
    importlib.import_module("safetensors.torch")
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(torch, "float", torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.fixture
def theirs(torch, transformers, double):
    """The logits of transformers' model of a directory."""

    def logits(path, ids):
        config = transformers.AutoConfig.from_pretrained(path)
        config._attn_implementation = "eager"
        model = transformers.AutoModelForCausalLM.from_config(config).double().eval()
        state = {n: torch.from_numpy(a) for n, a in load_file(path / "model.safetensors").items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert set(missing) <= {"lm_head.weight"}
        assert not unexpected
        model.tie_weights()
        with torch.no_grad():
            return model(torch.from_numpy(ids), use_cache=False).logits.numpy()

    return logits


def assert_close(actual, expected):
    assert expected.dtype == np.float64
    assert np.abs(actual - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_gpt_computes_what_transformers_computes(theirs, tmp_path, make_gpt, ids):
    model = make_gpt(eps=1e-4)
    save_pretrained(tmp_path, model)
    expected = theirs(tmp_path, ids)
    assert_close(model.predict(ids)[0], expected)
    # negative control: the other form of GELU's approximation, a norm's epsilon, would be seen
    model.config["eps"] = 1.1e-4
    assert np.abs(model.predict(ids)[0] - expected).max() > 100 * TOLERANCE


@llamas
def test_llama_computes_what_transformers_computes(theirs, tmp_path, make_llama, ids, options):
    model = make_llama(**options)
    save_pretrained(tmp_path, model)
    expected = theirs(tmp_path, ids)
    assert_close(model.predict(ids)[0], expected)
    # negative control: rotary pairs that lie otherwise are another function
    model.config["interleaved"] = True
    assert np.abs(model.predict(ids)[0] - expected).max() > 1e-3 * np.abs(expected).max()


def test_interleaved_rows_are_written_as_transformers_has_them(theirs, tmp_path, make_llama, ids):
    model = make_llama(interleaved=True)
    save_pretrained(tmp_path, model)
    assert_close(model.predict(ids)[0], theirs(tmp_path, ids))
    read = load_pretrained(tmp_path, np.float64).model
    assert read.config["interleaved"] is False
    assert_close(read.predict(ids)[0], model.predict(ids)[0])


@pytest.mark.parametrize("options", [{}, {"dropout": 0.1}], ids=["plain", "dropout"])
def test_gpt_there_and_back(tmp_path, make_gpt, options):
    model = make_gpt(**options)
    save_pretrained(tmp_path, model)
    read = load_pretrained(tmp_path, np.float64).model
    assert isinstance(read, GPT)
    assert read.config == model.config
    np.testing.assert_array_equal(read.parameters.vector, model.parameters.vector)


@llamas
def test_llama_there_and_back(tmp_path, make_llama, options):
    model = make_llama(**options)
    save_pretrained(tmp_path, model, {"eos_token_id": 2})
    read = load_pretrained(tmp_path, np.float64)
    assert isinstance(read.model, Llama)
    expected = dict(model.config)
    if "yarn" in str(expected["rope_scaling"]) or expected["rope_scaling"] is None:
        assert read.model.config["rope_scaling"] == expected["rope_scaling"]
    assert read.model.config == expected
    assert read.chat.stop == (2,)
    np.testing.assert_array_equal(read.model.parameters.vector, model.parameters.vector)


def test_transformers_own_directories(torch, transformers, double, tmp_path, ids):
    """What save_pretrained of transformers writes, in one file, in shards, and in 16 bits."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 13, "hidden_size": 12, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 20}
    sizes |= {"head_dim": 6, "max_position_embeddings": 16, "initializer_range": 0.3}
    config = transformers.LlamaConfig(
        **sizes,
        attn_implementation="eager",
        rope_parameters={"rope_theta": 50.0, "rope_type": "linear", "factor": 2.0},
    )
    model = transformers.LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(ids), use_cache=False).logits.numpy()
    for options in ({}, {"max_shard_size": 2000}):
        path = tmp_path / f"{len(options)}"
        model.save_pretrained(path, **options)
        assert (path / "model.safetensors.index.json").exists() == bool(options)
        assert_close(load_pretrained(path, np.float64).model.predict(ids)[0], expected)
    index = path / "model.safetensors.index.json"
    sound = json.loads(index.read_text())
    for change, message in (
        ({"weight_map": {}}, "it has no weight_map"),
        ({"weight_map": {"a": "../x.safetensors"}}, "is no name of a file"),
        (
            {"weight_map": {**sound["weight_map"], "a": next(iter(sound["weight_map"].values()))}},
            "does not hold 'a'",
        ),
    ):
        index.write_text(json.dumps(change))
        with pytest.raises(ValueError, match=message):
            load_pretrained(path)


@pytest.fixture
def patched(tmp_path, make_llama):
    """A model's directory in two files, which the index tells apart: both hold a norm's gain."""
    model = make_llama()
    save_pretrained(tmp_path, model)
    right = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    name = "model.norm.weight"
    stale = {**right, name: 0 * right[name], "of.nobody": np.ones(3)}
    save_file(stale, tmp_path / "base.safetensors", {"format": "pt"})
    save_file({name: right[name]}, tmp_path / "patch.safetensors", {"format": "pt"})
    places = dict.fromkeys(right, "base.safetensors") | {name: "patch.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return tmp_path, model


def test_the_index_says_which_file_holds_a_tensor(patched):
    path, model = patched
    read = load_pretrained(path, np.float64).model.parameters
    assert read.vector.dtype == np.float64
    np.testing.assert_array_equal(read.vector, model.parameters.vector)  # and to the last bit


def test_transformers_heeds_the_index_too(transformers, patched):
    path, model = patched
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path).model.norm.weight
    np.testing.assert_allclose(theirs.detach(), model.parameters["model.norm.weight"], rtol=1e-6)


@pytest.mark.parametrize("place", [5, None, [], "../base.safetensors"])
def test_an_index_must_name_files(patched, place):
    path, _ = patched
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": place}}))
    with pytest.raises(ValueError, match="is no name of a file"):
        load_pretrained(path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_of_sixteen_bits(torch, tmp_path, make_gpt, dtype):
    from safetensors.torch import save_file as torch_save_file

    model = make_gpt()
    save_pretrained(tmp_path, model)
    state = {n: torch.from_numpy(a) for n, a in load_file(tmp_path / "model.safetensors").items()}
    state = {name: tensor.to(getattr(torch, dtype)) for name, tensor in state.items()}
    torch_save_file(state, tmp_path / "model.safetensors")
    read = load_pretrained(tmp_path).model.parameters
    for name, tensor in state.items():
        np.testing.assert_array_equal(read[name], tensor.float().numpy())


def rewritten(path, change):
    """Change the arrays of a directory's file."""
    arrays = load_file(path / "model.safetensors")
    arrays = change(arrays) or arrays
    save_file(arrays, path / "model.safetensors")


def test_the_names_of_the_first_gpt_2(tmp_path, make_gpt):
    """Without the prefix, and with the buffers of its attention."""
    model = make_gpt()
    save_pretrained(tmp_path, model)

    def change(arrays):
        buffers = {f"h.{n}.attn.bias": np.ones((1, 1, 16, 16), np.float32) for n in range(2)}
        buffers |= {f"h.{n}.attn.masked_bias": np.array(-1e4, np.float32) for n in range(2)}
        return {n.removeprefix("transformer."): a for n, a in arrays.items()} | buffers

    rewritten(tmp_path, change)
    read = load_pretrained(tmp_path, np.float64).model
    np.testing.assert_array_equal(read.parameters.vector, model.parameters.vector)
    rewritten(tmp_path, lambda arrays: arrays.update({"h.0.attn.biases": np.ones(3)}))
    with pytest.raises(ValueError, match=r"it holds h\.0\.attn\.biases, which the model has not"):
        load_pretrained(tmp_path)


def test_a_tied_head_may_be_there_once_or_twice(tmp_path, make_llama):
    model = make_llama(tie_weights=True)
    embedding = model.parameters["model.embed_tokens.weight"]

    def read(change):
        save_pretrained(tmp_path, model)
        rewritten(tmp_path, change)
        return load_pretrained(tmp_path, np.float64).model.parameters.vector

    twice = read(lambda arrays: arrays.update({"lm_head.weight": embedding}))
    np.testing.assert_array_equal(twice, model.parameters.vector)
    head = read(lambda a: a.update({"lm_head.weight": a.pop("model.embed_tokens.weight")}))
    np.testing.assert_array_equal(head, model.parameters.vector)
    with pytest.raises(ValueError, match=r"lm_head\.weight is not model\.embed_tokens\.weight"):
        read(lambda arrays: arrays.update({"lm_head.weight": embedding + 1}))
    with pytest.raises(ValueError, match=r"it lacks lm_head\.weight"):
        read(lambda arrays: arrays.pop("model.embed_tokens.weight") is None)


def test_shapes_are_those_of_the_models(make_gpt, make_llama):
    """What is checked before a model is made is what the model would have."""
    for kind, model in (
        ("gpt", make_gpt()),
        ("llama", make_llama()),
        ("llama", make_llama(tie_weights=True)),
    ):
        shapes = parameter_shapes(Architecture(kind, model.config))
        assert shapes == model.parameters.shapes


def test_nothing_is_made_of_a_config_that_does_not_fit(tmp_path, make_llama, monkeypatch):
    save_pretrained(tmp_path, make_llama())
    config = json.loads((tmp_path / "config.json").read_text())
    monkeypatch.setattr(Llama, "__init__", lambda *a, **k: pytest.fail("a model was made"))
    for name, huge in (("vocab_size", 2**40), ("hidden_size", 2**40), ("num_hidden_layers", 2**40)):
        (tmp_path / "config.json").write_text(json.dumps({**config, name: huge}))
        with pytest.raises(ValueError, match=r"model\.safetensors does not fit: "):
            load_pretrained(tmp_path)


GPT_CONFIG = {"model_type": "gpt2"}
LLAMA_CONFIG = {
    "model_type": "llama",
    "vocab_size": 13,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 20,
}
REFUSED = [
    (GPT_CONFIG, "activation_function", "relu", "must be 'gelu_new'"),
    (GPT_CONFIG, "n_inner", 5, "n_inner is 5: must be None"),
    (GPT_CONFIG, "scale_attn_by_inverse_layer_idx", True, "must be False"),
    (GPT_CONFIG, "tie_word_embeddings", False, "must be True"),
    (GPT_CONFIG, "n_layer", 2.5, "n_layer is 2.5: must be a positive integer"),
    (GPT_CONFIG, "resid_pdrop", [], r"resid_pdrop is \[\]: must be a number"),
    (GPT_CONFIG, "attn_pdrop", 2, r"attn_pdrop is 2: must be a number in \[0, 1\]"),
    (LLAMA_CONFIG, "model_type", "qwen2", "gpt2, llama and mistral are read"),
    (LLAMA_CONFIG, "attention_bias", True, "attention_bias is True: must be False"),
    (LLAMA_CONFIG, "hidden_act", "gelu", "hidden_act is 'gelu'"),
    (LLAMA_CONFIG, "rms_norm_eps", -1, "rms_norm_eps is -1"),
    (LLAMA_CONFIG, "vocab_size", None, "vocab_size is None"),
    (LLAMA_CONFIG, "rope_theta", "many", "rope_theta is 'many'"),
    (LLAMA_CONFIG, "rope_scaling", "linear", "must be an object"),
    (LLAMA_CONFIG, "rope_scaling", {"type": "linear", "factor": 0}, "factor is 0"),
    (LLAMA_CONFIG, "rope_scaling", {"type": ["linear"], "factor": 2}, "rope_type is .'linear'"),
    (LLAMA_CONFIG, "rope_scaling", {**LLAMA3, "low_freq_factor": 9}, "must be above low_freq"),
    (LLAMA_CONFIG, "rope_scaling", {**YARN, "mscale": 1, "mscale_all_dim": 1}, "mscale"),
    (LLAMA_CONFIG, "rope_scaling", {**YARN, "truncate": False}, "truncate"),
    (LLAMA_CONFIG, "partial_rotary_factor", 0.5, "partial_rotary_factor is 0.5"),
    (LLAMA_CONFIG, "quantization_config", {"bits": 4}, "quantization_config is"),
]


@pytest.mark.parametrize(("config", "key", "value", "message"), REFUSED)
def test_configs_of_other_models_are_refused(config, key, value, message):
    read_architecture(config)
    with pytest.raises(ValueError, match=message):
        read_architecture({**config, key: value})


def test_both_ways_of_writing_rotary_positions():
    old = {"rope_theta": 7.0, "rope_scaling": {"type": "linear", "factor": 2}}
    new = {"rope_parameters": {"rope_theta": 7.0, "rope_type": "linear", "factor": 2}}
    read = [read_architecture({**LLAMA_CONFIG, **keys}).config for keys in (old, new)]
    assert read[0] == read[1]
    assert read[0]["rope_base"] == 7
    assert read[0]["rope_scaling"] == {"rope_type": "linear", "factor": 2}
    plain = {"rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}}
    assert read_architecture({**LLAMA_CONFIG, **plain}).config["rope_scaling"] is None


@pytest.mark.parametrize(
    ("scaling", "without_effect"),
    [
        (YARN, {"mscale": 1.0}),
        (YARN, {"mscale_all_dim": 1.0, "truncate": True, "finetuned": True}),
        ({"rope_type": "linear", "factor": 2.0}, {"original_max_position_embeddings": 8}),
    ],
)
def test_what_has_no_effect_in_transformers_has_none_here(scaling, without_effect):
    config = {**LLAMA_CONFIG, "rope_scaling": {**scaling, **without_effect}}
    assert read_architecture(config).config["rope_scaling"] == scaling


def test_files_that_are_missing_or_broken(tmp_path, make_gpt):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_pretrained(tmp_path)
    save_pretrained(tmp_path, make_gpt())
    weights = tmp_path / "model.safetensors"
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="its pickled weights are not read"):
        load_pretrained(tmp_path)
    for content in ("{", "[]", "[" * 100_000, '{"model_type": "bert"}'):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=r"config\.json") as caught:
            load_pretrained(tmp_path)
        assert str(caught.value).count("config.json") == 1
    with pytest.raises(ValueError, match="dtype must be float32 or float64, got int64"):
        load_pretrained(tmp_path, np.int64)


def test_what_transformers_has_not_is_not_written(tmp_path):
    with pytest.raises(TypeError, match="transformers has no LSTMLanguageModel"):
        write_config(LSTMLanguageModel(vocab_size=3, embed_size=2, hidden_size=2))
    with pytest.raises(ValueError, match="must be float32, float64 or int64, got complex128"):
        save_pretrained(tmp_path, GPT(3, 4, 6, 1, 2, dtype=np.complex128))


def test_a_model_may_have_more_rows_than_its_tokenizer_has_tokens(tmp_path, make_llama, capsys):
    tokenizer = BytePairTokenizer.train("", 257, special=["</s>"])
    save_pretrained(tmp_path, make_llama(vocab_size=320), None, tokenizer)
    found = load_pretrained(tmp_path)
    assert found.tokenizer().padding == 63
    assert found.tokenizer().decode([300, 257, 319]) == ""
    for seed in range(3):  # among so many draws some are of no token
        arguments = ("--prompt=hi", "--tokens=10", "--temperature=5", f"--seed={seed}")
        assert main(["generate", "--model", str(tmp_path), *arguments]) == 0
    assert capsys.readouterr().out.startswith("hi")
