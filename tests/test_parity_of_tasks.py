"""Translators and classifiers beside torch's modules of the same weights: curves, and beams."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.torch_tasks import classified, module, translated
from npllm.datasets import tasks
from npllm.models import KINDS
from npllm.optim import Adam
from npllm.text import CharacterTokenizer
from npllm.text.padded_batches import LabelledBatches, PairedBatches
from npllm.training.translation import translate

STEPS = 200
TOLERANCE = 1e-12  # of the curves; weights, which Adam moves by rounding too, 1e-9
SMOOTHING = 0.1
SIZES: dict[str, dict[str, Any]] = {
    "bag_classifier": {"embed_size": 12},
    "lstm_classifier": {"embed_size": 8, "hidden_size": 6},
    "encoder_classifier": {"context": 20, "width": 12, "num_layers": 2, "heads": 2},
    "transformer_translator": {"context": 20, "width": 12, "num_layers": 2, "heads": 2},
    "lstm_translator": {"embed_size": 10, "hidden_size": 12},
}


def made(name: str) -> tuple[Any, Any, tuple[CharacterTokenizer, CharacterTokenizer]]:
    """Return a fresh model, its batches and the tokenizers: dates, or which month they name."""
    pairs = list(islice(tasks.dates(Path()), 600))
    source, target = (CharacterTokenizer.train("".join(side)) for side in zip(*pairs, strict=True))
    texts = [source.encode(text) for text, _ in pairs]
    known = {"dtype": np.float64, "seed": 3, **SIZES[name]}
    if name.endswith("classifier"):
        labels = np.array([int(right[5:7]) - 1 for _, right in pairs])
        batches: Any = LabelledBatches(texts, labels, 16, seed=0)
        return KINDS[name](len(source.vocabulary), 12, **known), batches, (source, target)
    size, mark = len(target.vocabulary), len(target.vocabulary)
    batches = PairedBatches(texts, [target.encode(right) for _, right in pairs], mark, 16, seed=0)
    known["label_smoothing"] = SMOOTHING
    return KINDS[name](len(source.vocabulary), size, **known), batches, (source, target)


def curves(torch: Any, name: str, model: Any, batches: Any) -> tuple[Any, np.ndarray]:
    """Train both from the same weights; return torch's module, and both curves."""
    theirs = module(torch, name, model)
    if name == "transformer_translator":
        assert theirs.head.bias.shape == theirs.target.weight.shape[:1]  # the table is the head
    optimizer = torch.optim.Adam(theirs.parameters(), lr=3e-3)
    ours, found = Adam(model.parameters, lr=3e-3), []
    for step in range(STEPS):
        *inputs, targets = batches[step].arguments
        result = model.loss_and_gradients(*inputs, targets, rng=np.random.default_rng(0))
        result.gradients.vector /= result.tokens
        ours.step(result.gradients)
        tensors = [torch.tensor(array) for array in inputs]
        run = classified if name.endswith("classifier") else translated
        logits, wanted = run(torch, name, theirs, *tensors), torch.tensor(targets)
        smoothing = SMOOTHING if run is translated else 0.0
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, -2), wanted.flatten(), label_smoothing=smoothing
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append((result.loss / result.tokens, loss.item()))
    return theirs, np.array(found).T


@pytest.mark.parametrize("name", SIZES)
def test_the_loss_curve_is_torchs(torch: Any, name: str) -> None:
    model, batches, _ = made(name)
    theirs, (ours, other) = curves(torch, name, model, batches)
    assert ours[-1] < 0.95 * ours[0]  # they learn
    assert (np.abs(ours - other) / other).max() <= TOLERANCE
    weights = {n: w.detach().numpy() for n, w in theirs.named_parameters()}
    for n in model.parameters.shapes:  # and back: what torch has learned is ours
        difference = np.abs(weights[n] - model.parameters[n]).max()
        assert difference <= 1e-9 * np.abs(weights[n]).max(), n


def beams_of(torch: Any, name: str, m: Any, source: np.ndarray, mark: int, most: int) -> list[int]:
    """Search as translate does, the whole of each beam read anew by torch."""
    alive, finished = [((), 0.0)], []
    text, lengths = torch.tensor(source[None]), torch.tensor([len(source)])
    for _ in range(most):
        grown = []
        for ids, total in alive:
            given = torch.tensor([[mark, *ids]])
            with torch.no_grad():
                logits = translated(torch, name, m, text, lengths, given)[0, -1]
            log_p = logits.log_softmax(-1).numpy()
            grown += [((*ids, i), total + p) for i, p in enumerate(log_p)]
        best = sorted(grown, key=lambda beam: -beam[1])[:8]
        finished += [(b[0][:-1], b[1] / max(len(b[0]) - 1, 1)) for b in best if b[0][-1] == mark]
        alive = [b for b in best if b[0][-1] != mark][:4]
        if not alive:
            break
    finished += [(ids, total / len(ids)) for ids, total in alive]
    return list(max(finished, key=lambda beam: beam[1])[0])


@pytest.mark.parametrize("name", ["transformer_translator", "lstm_translator"])
def test_finished_weights_find_the_same_beams_in_torch(torch: Any, name: str) -> None:
    model, batches, (source, target) = made(name)
    rule = Adam(model.parameters, lr=5e-3)
    for step in range(STEPS):
        result = model.loss_and_gradients(*batches[step].arguments)
        result.gradients.vector /= result.tokens
        rule.step(result.gradients)
    theirs = module(torch, name, model)
    found = []
    for text in ("3 May 1984", "December 31, 2099", "Feb 7 1901"):
        ids = source.encode(text)
        ours = translate(model, ids, beams=4, tokens=12)
        other = beams_of(torch, name, theirs, ids, model.mark, 12)
        assert ours == other
        found.append(target.decode(ours))
    assert len(set(found)) > 1  # they are translations, and not always the same
