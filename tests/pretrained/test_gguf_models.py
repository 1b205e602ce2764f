"""Models of GGUF files: Llama and GPT-2, and what is refused."""

import importlib

import numpy as np
import pytest
from gguf_writer import gguf_bytes, llama_gguf

from npllm.layers import rotary_frequencies
from npllm.pretrained import GGUFFile, load_pretrained
from npllm.pretrained.gguf_config import gguf_architecture
from npllm.pretrained.weights import read_model


def architecture(write, model, tensors=None, **changed):
    metadata, own = llama_gguf(model, **changed)
    path = write(gguf_bytes(metadata, own if tensors is None else tensors(own)))
    return gguf_architecture(GGUFFile(path))


@pytest.mark.parametrize("tied", [True, False])
def test_a_llama_comes_back_as_it_was(write, make_llama, ids, tied):
    model = make_llama(tie_weights=tied, eps=2.0**-17, rope_base=500000.0)
    metadata, tensors = llama_gguf(model)
    path = write(gguf_bytes(metadata, tensors))
    read = load_pretrained(path, np.float64)
    assert read.model.config == model.config
    np.testing.assert_array_equal(read.model.parameters.vector, model.parameters.vector)
    np.testing.assert_array_equal(read.model.predict(ids)[0], model.predict(ids)[0])
    assert read.metadata == metadata
    assert set(read.tokenizer_data) == {k for k in metadata if k.startswith("tokenizer.")}
    assert read.chat.stop == (2,)
    assert load_pretrained(path).model.parameters.vector.dtype == np.float32


def test_rows_that_are_not_brought_back_compute_something_else(write, make_llama, ids):
    """Negative control: the pairing matters, and Llama's own option pairs the rows as they lie."""
    model = make_llama(rope_base=100.0, eps=2.0**-17)
    file = GGUFFile(write(gguf_bytes(*llama_gguf(model))))
    kept = gguf_architecture(file)
    read = read_model(file, kept, np.float64, gguf=True)
    for n in range(2):
        for part in "qk":
            name = f"model.layers.{n}.self_attn.{part}_proj.weight"
            read.parameters[name] = file.load(f"blk.{n}.attn_{part}.weight", np.float64)
    expected = model.predict(ids)[0]
    assert np.abs(read.predict(ids)[0] - expected).max() > 1e-3
    read.config["interleaved"] = True
    np.testing.assert_allclose(read.predict(ids)[0], expected, rtol=0, atol=1e-12)


def test_scalings_of_rotary_positions(write, make_llama):
    model = make_llama()

    def scaling(tensors=None, **changed):
        changed = {f"llama.rope.scaling.{name}": item for name, item in changed.items()}
        return architecture(write, model, tensors, **changed).config["rope_scaling"]

    assert scaling() is scaling(type="none") is None
    assert scaling(type="linear", factor=4.0) == {"rope_type": "linear", "factor": 4.0}
    yarn = scaling(type="yarn", factor=4.0, original_context_length=8)
    assert yarn["original_max_position_embeddings"] == 8
    assert yarn["attention_factor"] == pytest.approx(0.1 * np.log(4) + 1)
    with pytest.raises(ValueError, match=r"llama\.rope\.scaling\.type is 'longrope'"):
        scaling(type="longrope", factor=4.0)
    with pytest.raises(ValueError, match=r"llama\.rope\.scaling\.factor is None"):
        scaling(type="linear")


def test_llama_3_s_divisors_are_recognized(write, make_llama):
    model = make_llama(head_size=64, rope_base=500000.0)
    published = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    plain, _ = rotary_frequencies(64, 500000.0)
    divisors = plain / rotary_frequencies(64, 500000.0, published)[0]
    assert 1 == divisors.min() < divisors.max() == 32
    read = architecture(write, model, lambda own: {**own, "rope_freqs.weight": divisors})
    assert read.config["rope_scaling"] == published
    for wrong in (divisors + 0.01, divisors[:-1], divisors * np.nan, 0 * divisors):
        with pytest.raises(ValueError, match=r"rope_freqs\.weight is not of Llama 3's scaling"):
            architecture(write, model, lambda own, w=wrong: {**own, "rope_freqs.weight": w})


REFUSED = {
    "llama.block_count": (None, r"llama\.block_count is None: must be a positive integer"),
    "llama.embedding_length": ("x", "embedding_length is 'x'"),
    "llama.attention.head_count": ([4, 4], r"head_count is \[4, 4\]"),
    "llama.attention.layer_norm_rms_epsilon": (float("nan"), "rms_epsilon is nan"),
    "llama.rope.freq_base": (-1.0, "freq_base is -1.0: must be a positive number"),
    "llama.rope.dimension_count": (4, "dimension_count is 4: must be 6 for npllm's model"),
    "llama.expert_count": (8, "expert_count is 8: must be 0"),
    "general.architecture": ("qwen2", "a model of architecture 'qwen2'; llama and gpt2 are read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_metadata_of_other_models_are_refused(write, make_llama, name):
    item, message = REFUSED[name]
    with pytest.raises(ValueError, match=r"some\.gguf .*" + message):
        architecture(write, make_llama(), **{name: item})


def test_tensors_that_do_not_fit_are_all_named(write, make_llama):
    def read(change, **changed):
        metadata, tensors = llama_gguf(make_llama(), **changed)
        change(tensors)
        return load_pretrained(write(gguf_bytes(metadata, tensors)))

    read(
        lambda tensors: (
            tensors.update({"rope_freqs.weight": np.ones(3)}) or tensors.pop("rope_freqs.weight")
        )
    )
    with pytest.raises(
        ValueError, match=r"some\.gguf does not fit: it lacks blk\.1\.attn_q\.weight"
    ):
        read(lambda tensors: tensors.pop("blk.1.attn_q.weight"))
    with pytest.raises(ValueError, match=r"it holds blk\.0\.attn_q\.bias, which the model has not"):
        read(lambda tensors: tensors.update({"blk.0.attn_q.bias": np.ones(24)}))
    with pytest.raises(
        ValueError, match=r"output_norm\.weight has shape \(3,\) and should have \(12,\)"
    ):
        read(lambda tensors: tensors.update({"output_norm.weight": np.ones(3)}))
    with pytest.raises(ValueError, match=r"type I8, which is not read here"):
        read(lambda tensors: tensors.update({"output_norm.weight": (24, (12,), bytes(12))}))
    with pytest.raises(ValueError, match="4000000000 blocks are not made of 21 tensors"):
        read(lambda tensors: None, **{"llama.block_count": 4_000_000_000})
    with pytest.raises(ValueError, match=r"should have .* and 16 more"):
        read(lambda tensors: None, **{"llama.embedding_length": 2**31})
    with pytest.raises(ValueError, match="does not describe a model: head_size must be even"):
        read(
            lambda tensors: None,
            **{
                "llama.attention.head_count": 8,
                "llama.attention.head_count_kv": 4,
                "llama.attention.key_length": 3,
                "llama.rope.dimension_count": 3,
            },
        )


def gpt_gguf(model):
    c = model.config
    metadata = {
        "general.architecture": "gpt2",
        "gpt2.block_count": c["num_layers"],
        "gpt2.context_length": c["context"],
        "gpt2.embedding_length": c["width"],
        "gpt2.feed_forward_length": 4 * c["width"],
        "gpt2.attention.head_count": c["heads"],
        "gpt2.attention.layer_norm_epsilon": c["eps"],
    }
    renamed = {"transformer.wte": "token_embd", "transformer.wpe": "position_embd"}
    renamed |= {"transformer.ln_f": "output_norm", "attn.c_attn": "attn_qkv", "ln_1": "attn_norm"}
    renamed |= {"attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    renamed |= {"ln_2": "ffn_norm", "transformer.h": "blk"}
    tensors = {}
    for name in model.parameters.shapes:
        array = model.parameters[name]
        array = array.T if ".h." in name and array.ndim == 2 else array
        for long, short in renamed.items():
            name = name.replace(long, short)
        tensors[name] = array
    return metadata, tensors


def test_a_gpt_comes_back_as_it_was(write, make_gpt):
    model = make_gpt(eps=2.0**-17)
    metadata, tensors = gpt_gguf(model)
    read = load_pretrained(write(gguf_bytes(metadata, tensors)), np.float64).model
    assert read.config == model.config
    np.testing.assert_array_equal(read.parameters.vector, model.parameters.vector)
    # a head that is the embedding is one; another is no GPT-2
    head = {"output.weight": tensors["token_embd.weight"]}
    load_pretrained(write(gguf_bytes(metadata, {**tensors, **head})))
    head["output.weight"] = head["output.weight"] + 1
    with pytest.raises(ValueError, match=r"output\.weight is not token_embd\.weight, to which"):
        load_pretrained(write(gguf_bytes(metadata, {**tensors, **head})))


def test_rows_come_back_as_transformers_brings_them(transformers, gguf, write, make_llama):
    """By the processor that transformers reads GGUF files with, which shares no line with this."""
    module = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    path = write(gguf_bytes(*llama_gguf(make_llama())))
    processor = module.LlamaTensorProcessor({"num_attention_heads": 4, "num_key_value_heads": 2})
    raw = {t.name: t.data for t in gguf.GGUFReader(path).tensors}
    read = load_pretrained(path).model.parameters
    for part in "qk":
        name = f"blk.1.attn_{part}.weight"
        theirs = processor.process(raw[name], name).weights
        ours = read[f"model.layers.1.self_attn.{part}_proj.weight"]
        np.testing.assert_array_equal(ours, theirs)
        assert not np.array_equal(ours, raw[name])  # negative control: as they lie
