"""Section 5's model trained in npllm and in torch: the same losses, step after step, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npllm.layers import cross_entropy_backward, cross_entropy_forward
from npllm.models import LSTMLanguageModel
from npllm.optim import SGD, Adam, clip_global_norm
from npllm.text import CharacterTokenizer, ShuffledWindows, load_text

EMBED, HIDDEN, BATCH, LENGTH = 24, 32, 8, 16


def language_model(torch: Any, vocab_size: int) -> Any:
    """Return section 5's module, written as its script writes it."""

    class LanguageModel(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(vocab_size, EMBED)
            self.rnn = torch.nn.LSTM(EMBED, HIDDEN, batch_first=True)
            self.fc = torch.nn.Linear(HIDDEN, vocab_size)

        def forward(self, x: Any) -> Any:
            output, _ = self.rnn(self.embedding(x))
            return self.fc(output)

    return LanguageModel().to(torch.float64)


def losses(torch: Any, rule: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Train both from the same weights on the same batches; return both loss curves."""
    text = load_text()
    tokenizer = CharacterTokenizer.train(text)
    vocab_size = len(tokenizer.vocabulary)
    batches = ShuffledWindows(tokenizer.encode(text), BATCH, LENGTH, seed=0)
    ours = LSTMLanguageModel(vocab_size, EMBED, HIDDEN, seed=0, dtype=np.float64)
    theirs = language_model(torch, vocab_size)
    theirs.load_state_dict({n: torch.tensor(a) for n, a in ours.parameters.items()})
    clip = rule == "sgd"
    # the script's learning rate. With ten times that, Adam amplifies rounding: torch's own curve
    # moves by 7e-13 when its initial weights move by one unit in the last place
    if rule == "adam":
        our_rule: Any = Adam(ours.parameters)
        their_rule = torch.optim.Adam(theirs.parameters())
    else:
        our_rule = SGD(ours.parameters, lr=0.5, momentum=0.9)
        their_rule = torch.optim.SGD(theirs.parameters(), lr=0.5, momentum=0.9)

    def our_step(x: np.ndarray, y: np.ndarray) -> float:
        logits, cache = ours.forward(x)
        loss, loss_cache = cross_entropy_forward(logits, y)
        gradients = ours.backward(cross_entropy_backward(1.0, loss_cache), cache)
        if clip:
            clip_global_norm(gradients, 0.25)
        our_rule.step(gradients)
        return float(loss)

    def their_step(x: np.ndarray, y: np.ndarray) -> float:
        logits = theirs(torch.tensor(x))
        loss = torch.nn.functional.cross_entropy(
            logits.view(-1, vocab_size), torch.tensor(y).view(-1)
        )
        their_rule.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.25)
        their_rule.step()
        return float(loss.detach())

    curves = [
        (our_step(batch.ids, batch.targets), their_step(batch.ids, batch.targets))
        for batch in map(batches.__getitem__, range(steps))
    ]
    return np.array(curves)[:, 0], np.array(curves)[:, 1]


@pytest.mark.parametrize("rule", ["adam", "sgd"])
@pytest.mark.parametrize("steps", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_loss_curve_is_torchs(torch: Any, rule: str, steps: int) -> None:
    ours, theirs = losses(torch, rule, steps)
    difference = np.abs(ours - theirs) / theirs
    print(f"{rule}, {steps} steps: {ours[0]:.4f} to {ours[-1]:.4f}, worst {difference.max():.1e}")
    assert ours[-1] < 0.9 * ours[0]  # they learn
    assert difference.max() <= 1e-12
