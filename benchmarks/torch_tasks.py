"""Runs of npllm once more in torch: the same model, from the same weights, on the same batches.

    python -m benchmarks.torch_tasks runs/bag-1

trains torch's modules as the run was trained, and prints both models' measures on the texts for the
end. The run must be one of ``--task classification`` or ``translation``, without dropout, whose
random numbers differ. ``tests/test_parity_of_tasks.py`` holds the curves of both against each other
in float64.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from npllm.checkpoint import load_model_and_vocabularies
from npllm.text.padded_batches import padded, paired
from npllm.training.classification import Classification, log_probabilities, told
from npllm.training.description import load_options
from npllm.training.translation import Translation


def module(torch: Any, name: str, model: Any) -> Any:
    """Return torch's module of a model's weights, by their names, and its forward."""
    nn, c = torch.nn, model.config
    dtype = torch.tensor(model.parameters.vector[:0]).dtype
    known: dict[str, Any] = {"dtype": dtype, "batch_first": True}
    lstm = (c.get("embed_size"), c.get("hidden_size"), c.get("num_layers"))
    one = nn.Module()
    if name.startswith(("encoder", "transformer")):
        sizes = (c["width"], c["heads"], 4 * c["width"])
        options = {"dropout": 0.0, "activation": "gelu", **known}
        numbers, stack = range(c["num_layers"]), nn.Module()
        stack.layers = nn.ModuleList(
            [nn.TransformerEncoderLayer(*sizes, **options) for _ in numbers]
        )
    weights = {n: nn.Parameter(torch.tensor(a)) for n, a in model.parameters.items()}
    if name == "encoder_classifier":
        one.layers = stack.layers
    elif name == "transformer_translator":
        one.encoder, one.decoder = stack, nn.Module()
        layers = [nn.TransformerDecoderLayer(*sizes, **options) for _ in numbers]
        one.decoder.layers = nn.ModuleList(layers)
    elif name == "lstm_classifier":
        one.rnn = nn.LSTM(*lstm, bidirectional=True, **known)
    elif name == "lstm_translator":
        one.encoder, one.decoder = nn.LSTM(*lstm, **known), nn.LSTM(*lstm, **known)
    for full, weight in weights.items():
        *path, last = full.split(".")
        part = one
        for step in path:
            if not hasattr(part, step):
                setattr(part, step, nn.Module())
            part = getattr(part, step)
        setattr(part, last, weight)  # of a layer of torch's, or of an empty module
    return one


def read(torch: Any, rnn: Any, e: Any, lengths: Any) -> Any:
    """Return an LSTM's outputs and final state over texts of unequal lengths."""
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        e, lengths, batch_first=True, enforce_sorted=False
    )
    h, final = rnn(packed)
    return torch.nn.utils.rnn.pad_packed_sequence(h, batch_first=True)[0], final


def classified(torch: Any, name: str, m: Any, ids: Any, lengths: Any) -> Any:
    """Return the scores of a classifier."""
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    x = m.embedding.weight[ids]
    if name == "lstm_classifier":
        x, _ = read(torch, m.rnn, x, lengths)
        u = torch.tanh(x @ m.attention.weight.T + m.attention.bias) @ m.context.weight[0]
        shares = u.masked_fill(~real, -torch.inf).softmax(-1)
    else:
        if name == "encoder_classifier":
            x = x + m.position.weight[: ids.shape[1]]
            for layer in m.layers:
                x = layer(x, src_key_padding_mask=~real)
        shares = real / lengths[:, None].to(x.dtype)
    return torch.einsum("bt,bte->be", shares, x) @ m.fc.weight.T + m.fc.bias


def translated(torch: Any, name: str, m: Any, source: Any, lengths: Any, ids: Any) -> Any:
    """Return the logits of a translator."""
    real = torch.arange(source.shape[1]) < lengths[:, None]
    x, y = m.source.weight[source], m.target.weight[ids]
    if name == "transformer_translator":
        x = x + m.source_position.weight[: source.shape[1]]
        for layer in m.encoder.layers:
            x = layer(x, src_key_padding_mask=~real)
        steps = ids.shape[1]
        later = torch.triu(torch.ones(steps, steps, dtype=torch.bool), 1)
        y = y + m.target_position.weight[:steps]
        for layer in m.decoder.layers:
            y = layer(y, x, tgt_mask=later, memory_key_padding_mask=~real)
        return y @ m.target.weight.T + m.head.bias
    x, final = read(torch, m.encoder, x, lengths)
    h, _ = m.decoder(y, final)
    scores = (h @ m.score.weight.T) @ x.transpose(1, 2)
    c = scores.masked_fill(~real[:, None], -torch.inf).softmax(-1) @ x
    o = torch.tanh(torch.cat([c, h], -1) @ m.joined.weight.T)
    return o @ m.head.weight.T + m.head.bias


def logits_of(torch: Any, name: str, theirs: Any, inputs: Any) -> Any:
    """Return the scores of labels, or of the words that follow."""
    run = classified if name.endswith("classifier") else translated
    return run(torch, name, theirs, *(torch.tensor(array) for array in inputs))


def trained(torch: Any, task: Any, name: str) -> Any:
    """Return torch's module, trained as the options of a task say."""
    options = task.options
    model = task.make_model(np.random.default_rng(options.seed))
    theirs = module(torch, name, model)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    rule = kinds[options.optimizer](
        theirs.parameters(), lr=options.lr, weight_decay=options.weight_decay
    )
    schedule = options.make_schedule()
    smoothing = getattr(options, "label_smoothing", 0.0)
    for step in range(options.steps):
        *inputs, targets = task.batches[step].arguments
        loss = torch.nn.functional.cross_entropy(
            logits_of(torch, name, theirs, inputs).flatten(0, -2),
            torch.tensor(targets).flatten(),
            label_smoothing=smoothing,
        )
        rule.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), options.clip or float("inf"))
        for group in rule.param_groups:
            group["lr"] = schedule(step)
        rule.step()
    return theirs


def main() -> None:
    """Train a run in torch, and print both measures."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="a run of npllm train, without dropout")
    directory = parser.parse_args().run
    options, digest = load_options(directory)
    if getattr(options, "dropout", 0.0):
        parser.error("the run has dropout, whose random numbers differ: train it with --dropout 0")
    if options.optimizer not in ("adam", "adamw") or options.patience is not None:
        parser.error("the run must be of adam or adamw, and without --patience")
    if getattr(options, "share_words", False):
        parser.error("the run has one table for both languages, which is not tied here")
    model, vocabularies = load_model_and_vocabularies(directory)
    name = type(model).__module__.rpartition(".")[2]
    task: Any = options.make_task(vocabularies, digest)
    torch.set_num_threads(1)
    theirs = trained(torch, task, name).eval()
    with torch.no_grad():
        if isinstance(task, Classification):
            print_labels(torch, task, name, model, theirs)
        elif isinstance(task, Translation):
            print_losses(torch, task, name, model, theirs)


def print_labels(torch: Any, task: Classification, name: str, model: Any, theirs: Any) -> None:
    """Print how well both tell the labels of the texts for the end."""
    test = task.parts[2]
    texts, classes = [task.encode(text) for text in test.texts], task.classes(test)
    other = [
        logits_of(torch, name, theirs, padded([text])).log_softmax(-1).double().numpy()
        for text in texts
    ]
    ours = log_probabilities(model, texts)
    for label, found in {"npllm": ours, "torch": np.concatenate(other)}.items():
        measured = told(found, classes)
        print(
            f"{label}  accuracy {measured.accuracy:.4f}  F1 {measured.f1:.4f}  "
            f"loss {measured.loss:.6f}"
        )


def print_losses(torch: Any, task: Translation, name: str, model: Any, theirs: Any) -> None:
    """Print the loss of both on the pairs for the end, in nats a token."""
    sums = np.zeros(3)
    for source, target in zip(*task.encoded(task.parts[2]), strict=True):
        batch = paired([source], [target], task.mark)
        *inputs, targets = batch.arguments
        other = torch.nn.functional.cross_entropy(
            logits_of(torch, name, theirs, inputs).flatten(0, -2),
            torch.tensor(targets).flatten(),
            reduction="sum",
        )
        sums += model.score(*batch.arguments)[0], other.item(), batch.counted
    print(f"npllm  {sums[0] / sums[2]:.6f} nats a token")
    print(f"torch  {sums[1] / sums[2]:.6f} nats a token")


if __name__ == "__main__":
    main()
