"""Learning rates as functions of the step."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.optim import constant, step_decay, warmup_cosine

LR = 0.3


def torch_rates(torch, steps, scheduler, **options):
    """Return the learning rates that a scheduler of torch sets in each step."""
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=LR)
    scheduler = getattr(torch.optim.lr_scheduler, scheduler)(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "args", "steps", "scheduler", "options"),
    [
        (constant, (LR,), 20, "ConstantLR", {"factor": 1.0}),
        (step_decay, (LR, 7), 50, "StepLR", {"step_size": 7}),
        (step_decay, (LR, 1, 0.9), 50, "StepLR", {"step_size": 1, "gamma": 0.9}),
        (warmup_cosine, (LR, 0, 40), 41, "CosineAnnealingLR", {"T_max": 40}),
        (warmup_cosine, (LR, 0, 9, 0.1), 10, "CosineAnnealingLR", {"T_max": 9, "eta_min": 0.1}),
        (warmup_cosine, (LR, 8, 99), 8, "LinearLR", {"start_factor": 1 / 8, "total_iters": 7}),
    ],
)
def test_agrees_with_torch(torch, schedule, args, steps, scheduler, options):
    rate = schedule(*args)
    expected = torch_rates(torch, steps, scheduler, **options)
    assert [rate(step) for step in range(steps)] == pytest.approx(expected, rel=0, abs=1e-13)


@pytest.mark.parametrize("every", [1, 7])
def test_as_a_factor_of_lambda_lr(torch, every):
    rates = torch_rates(torch, 30, "LambdaLR", lr_lambda=step_decay(1.0, every, 0.7))
    schedule = step_decay(LR, every, 0.7)
    assert [schedule(step) for step in range(30)] == pytest.approx(rates, rel=1e-12)


@given(warmup=st.integers(0, 30), rest=st.integers(1, 30), final=st.floats(0, LR), lr=st.just(LR))
def test_warmup_rises_in_a_line_and_the_cosine_falls_from_the_peak_to_the_end(
    warmup, rest, final, lr
):
    schedule = warmup_cosine(lr, warmup, warmup + rest, final)
    rise = [schedule(step) for step in range(warmup)]
    assert rise == pytest.approx([lr * (step + 1) / warmup for step in range(warmup)])
    fall = [schedule(step) for step in range(warmup, warmup + rest + 3)]
    assert fall[0] == pytest.approx(lr)
    assert fall[rest:] == pytest.approx([final] * 3)
    assert all(a >= b - 1e-15 for a, b in pairwise(fall))
    # the cosine is symmetric about the middle of its way
    assert [a + b for a, b in zip(fall, fall[rest::-1], strict=False)] == pytest.approx(
        [lr + final] * (rest + 1)
    )


@pytest.mark.parametrize("every", [0, -1])
def test_step_decay_refuses(every):
    with pytest.raises(ValueError, match=f"every must be at least 1, got {every}"):
        step_decay(LR, every)


@pytest.mark.parametrize(("warmup", "total"), [(-1, 5), (5, 5), (0, 0)])
def test_warmup_cosine_refuses(warmup, total):
    with pytest.raises(
        ValueError, match=rf"warmup must lie in \[0, total = {total}\), got {warmup}"
    ):
        warmup_cosine(LR, warmup, total)
