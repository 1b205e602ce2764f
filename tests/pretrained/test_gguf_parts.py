"""A GGUF model in several files is read together, or refused in one line."""

import numpy as np
import pytest
from gguf_writer import gguf_bytes, llama_gguf

from npllm.pretrained import load_pretrained


@pytest.fixture
def parts(tmp_path, make_llama):
    """A model, and its three parts: the metadata in the first, the tensors dealt out."""
    model = make_llama(eps=2.0**-17)
    metadata, tensors = llama_gguf(model)
    paths = []
    for n in range(3):
        said = {"split.no": n, "split.count": 3, "split.tensors.count": len(tensors)}
        own = dict(list(tensors.items())[n::3])
        path = tmp_path / f"model-{n + 1:05}-of-00003.gguf"
        path.write_bytes(gguf_bytes({**(metadata if n == 0 else {}), **said}, own))
        paths.append(path)
    return model, paths


@pytest.mark.parametrize("named", [0, 1, 2])
def test_any_part_leads_to_the_model(parts, named):
    model, paths = parts
    read = load_pretrained(paths[named], np.float64)
    np.testing.assert_array_equal(read.model.parameters.vector, model.parameters.vector)
    assert read.metadata["general.architecture"] == "llama"
    assert read.chat.stop == (2,)


def test_a_part_that_is_missing_is_named(parts):
    _, paths = parts
    paths[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"one of 3 parts; .*-00002-of-00003.* missing"):
        load_pretrained(paths[0])


def test_a_name_that_does_not_say_which_part(parts):
    _, paths = parts
    renamed = paths[0].rename(paths[0].with_name("model.gguf"))
    with pytest.raises(ValueError, match="is one of 3 parts, and its name does not say which"):
        load_pretrained(renamed)


def test_parts_of_two_models_do_not_make_one(parts):
    _, paths = parts
    paths[1].write_bytes(paths[2].read_bytes())
    with pytest.raises(ValueError, match=r"it says that it is part \(2, 3\) of the model"):
        load_pretrained(paths[0])


def test_a_tensor_of_two_parts_is_refused(tmp_path, make_llama):
    metadata, tensors = llama_gguf(make_llama())
    for n in range(2):
        said = {**metadata, "split.no": n, "split.count": 2}
        path = tmp_path / f"m-{n + 1:05}-of-00002.gguf"
        path.write_bytes(gguf_bytes(said, tensors))
    with pytest.raises(ValueError, match="another part holds"):
        load_pretrained(path)


def test_tensors_that_no_part_holds_are_counted(parts):
    _, paths = parts
    said = {"split.no": 2, "split.count": 3}
    paths[2].write_bytes(gguf_bytes(said, {}))
    with pytest.raises(ValueError, match="tensors in its parts, and should have"):
        load_pretrained(paths[0])


def test_a_whole_file_may_say_that_it_is_one_part(write, make_llama):
    metadata, tensors = llama_gguf(make_llama())
    for count in (0, 1):
        path = write(gguf_bytes({**metadata, "split.count": count}, tensors))
        assert load_pretrained(path).model.config["num_layers"]


@pytest.mark.parametrize(
    "key",
    [
        "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_log_multiplier",
        "rope.unheard_of",
        "attention.clamp_kqv",
        "attention.max_alibi_bias",
        "attention.scale",
    ],
)
def test_what_is_said_of_attention_or_positions_and_not_read_is_refused(write, make_llama, key):
    metadata, tensors = llama_gguf(make_llama(), **{f"llama.{key}": 1.0})
    with pytest.raises(ValueError, match=rf"says llama\.{key} is 1.0, which is not read here"):
        load_pretrained(write(gguf_bytes(metadata, tensors)))


def test_what_has_no_effect_is_no_matter(write, make_llama):
    said = {"llama.rope.scaling.finetuned": False, "llama.attention.causal": True}
    metadata, tensors = llama_gguf(make_llama(), **said)
    assert load_pretrained(write(gguf_bytes(metadata, tensors))).model
