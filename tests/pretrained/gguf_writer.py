"""A GGUF writer of a few lines, so that the reader is tested where no other writer is installed."""

import struct

import numpy as np

NUMBERS = {"F32": (0, "<f4"), "F16": (1, "<f2"), "F64": (28, "<f8")}


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(item):
    """A value's type and bytes, as llama.cpp would choose them."""
    if isinstance(item, bool):
        return 7, struct.pack("<?", item)
    if isinstance(item, int):
        return (4, struct.pack("<I", item)) if item >= 0 else (5, struct.pack("<i", item))
    if isinstance(item, float):
        return 6, struct.pack("<f", item)
    if isinstance(item, str):
        return 8, string(item)
    kinds, parts = zip(*map(value, item), strict=True) if item else ((4,), ())
    return 9, struct.pack("<IQ", kinds[0], len(item)) + b"".join(parts)


def pad(size, alignment=32):
    return bytes(-size % alignment)


def gguf_bytes(metadata, tensors, version=3, kind="F32"):
    """A file of arrays; a pair (type number, shape, bytes) is a tensor that is written as it is."""
    head, data = b"", b""
    for key, item in metadata.items():
        number, raw = value(item)
        head += string(key) + struct.pack("<I", number) + raw
    for name, array in tensors.items():
        if isinstance(array, tuple):
            number, shape, raw = array
        else:
            number, dtype = NUMBERS[kind]
            shape, raw = array.shape, np.asarray(array, dtype).tobytes()
        head += string(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *shape[::-1])
        head += struct.pack("<IQ", number, len(data))
        data += raw + pad(len(raw))
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata)) + head
    return head + pad(len(head)) + data


def permuted(rows, heads):
    """Rows of q or k as llama.cpp's converter orders them: the halves of a head interleaved."""
    size = len(rows) // heads
    order = [
        n * size + half * size // 2 + i
        for n in range(heads)
        for i in range(size // 2)
        for half in (0, 1)
    ]
    return rows[order]


BLOCK = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def llama_gguf(model, **changed):
    """The bytes of a Llama's file, in float32, and its metadata and tensors."""
    c, p = model.config, model.parameters
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": c["num_layers"],
        "llama.context_length": c["context"],
        "llama.embedding_length": c["width"],
        "llama.feed_forward_length": c["hidden_size"],
        "llama.attention.head_count": c["heads"],
        "llama.attention.head_count_kv": c["kv_heads"],
        "llama.attention.layer_norm_rms_epsilon": c["eps"],
        "llama.rope.freq_base": c["rope_base"],
        "llama.rope.dimension_count": c["head_size"],
        "llama.attention.key_length": c["head_size"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [f"t{n}" for n in range(c["vocab_size"])],
        "tokenizer.ggml.token_type": [1] * c["vocab_size"],
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": 2,
    }
    metadata = {key: item for key, item in {**metadata, **changed}.items() if item is not None}
    tensors = {
        "token_embd.weight": p["model.embed_tokens.weight"],
        "output_norm.weight": p["model.norm.weight"],
    }
    if not c["tie_weights"]:
        tensors["output.weight"] = p["lm_head.weight"]
    for n in range(c["num_layers"]):
        for short, long in BLOCK.items():
            array = p[f"model.layers.{n}.{long}.weight"]
            if short in ("attn_q", "attn_k"):
                array = permuted(array, c["heads" if short == "attn_q" else "kv_heads"])
            tensors[f"blk.{n}.{short}.weight"] = array
    return metadata, tensors
