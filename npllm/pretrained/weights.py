"""A file's tensors, checked and brought into a model, whichever format they came in."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from npllm.models import GPT, Llama
from npllm.pretrained.names import (
    GGUF_TRANSPOSED,
    Architecture,
    gguf_name,
    parameter_shapes,
    unpermuted,
    within_block,
)
from npllm.tensor_file import TensorFile

_NAMED = 5  # tensors in a message, before they are only counted
# buffers that files carry along, and what GGUF says of rotary positions beside the metadata
_IGNORED = re.compile(
    r"transformer\.h\.\d+\.attn\.(masked_)?bias|model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
    r"|rope_freqs\.weight"
)


def read_model(
    file: TensorFile,
    architecture: Architecture,
    dtype: npt.DTypeLike = np.float32,
    *,
    gguf: bool = False,
) -> GPT | Llama:
    """Return a model with a file's weights, which are read one at a time.

    Args:
        file: of the tensors.
        architecture: what they are weights of.
        dtype: float32 or float64.
        gguf: the file has GGUF's names and layout, not transformers'.

    Raises:
        ValueError: tensors are missing or unknown, or have other shapes or types that are not read,
            all of which is found before a model is made; the config makes no model; a head that
            should be the token embedding is not.
    """
    kind, config = architecture
    if config["num_layers"] > len(file.tensors):
        raise ValueError(
            f"{file.path} does not fit: {config['num_layers']} blocks are not made of "
            f"{len(file.tensors)} tensors"
        )
    model_class, shapes = architecture.model_class, parameter_shapes(architecture)
    sources = _sources(file, kind, [*shapes, model_class.HEAD], gguf)
    tokens, head = sources[model_class.TOKENS], sources.pop(model_class.HEAD)
    if model_class.HEAD in shapes:
        sources[model_class.HEAD] = head
    elif tokens not in file.tensors:
        sources[model_class.TOKENS] = head
    elif head in file.tensors and not np.array_equal(file.load(tokens), file.load(head)):
        raise ValueError(f"{file.path} does not fit: {head} is not {tokens}, to which it is tied")
    transposed = GGUF_TRANSPOSED[kind] if gguf else set()
    check_tensors(file, shapes, sources, {head}, transposed)
    try:
        model = model_class(**config, dtype=dtype, seed=None)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{file.path} does not describe a model: {error}") from None
    heads = {"q_proj": config["heads"], "k_proj": config.get("kv_heads")} if gguf else {}
    for name, source in sources.items():
        array = file.load(source, dtype)
        if (of := heads.get(name.split(".")[-2])) is not None:
            array = unpermuted(array, of)
        model.parameters[name] = array.T if within_block(name) in transposed else array
    return model


def _sources(file: TensorFile, kind: str, names: list[str], gguf: bool) -> dict[str, str]:
    """Return the file's name of each parameter."""
    if gguf:
        return {name: gguf_name(name, kind) for name in names}
    # a file of the model without its head has names without the model's
    base = "transformer." if kind == "gpt" else "model."
    bare = not any(name.startswith(base) for name in file.tensors)
    return {name: name.removeprefix(base) if bare else name for name in names}


def check_tensors(
    file: TensorFile,
    shapes: Mapping[str, tuple[int, ...]],
    sources: Mapping[str, str],
    optional: Collection[str],
    transposed: Collection[str] = (),
) -> None:
    """Raise ValueError, of one line, where a file's tensors are not those of a model.

    Args:
        file: of the tensors.
        shapes: of each parameter, by its name.
        sources: the file's name of each parameter.
        optional: names that the file may have besides.
        transposed: names within a block of matrices that the file has the other way round.
    """
    problems = []
    if missing := [source for source in sources.values() if source not in file.tensors]:
        problems.append(f"it lacks {_listed(missing)}")
    known = {*sources.values(), *optional}
    unknown = [
        name
        for name in file.tensors
        if name not in known
        and not any(_IGNORED.fullmatch(base + name) for base in ("", "transformer.", "model."))
    ]
    if unknown:
        problems.append(f"it holds {_listed(unknown)}, which the model has not")
    wrong = []
    for name, source in sources.items():
        if source not in file.tensors:
            continue
        expected = shapes[name][::-1] if within_block(name) in transposed else shapes[name]
        shape, type_name, *_ = file.tensors[source]
        if shape != expected:
            wrong.append(f"{source} has shape {shape} and should have {expected}")
        elif file.types[type_name].read is None:
            wrong.append(f"{source} has type {type_name}, which is not read here")
    if wrong:
        problems.append(_listed(wrong))
    if problems:
        raise ValueError(f"{file.path} does not fit: {'; '.join(problems)}")


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(f"{item:.160}" for item in items[:_NAMED]) + more
