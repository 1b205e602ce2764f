"""Second derivatives: exact beside torch's double backward, and symmetric, or no gradient's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npllm import layers
from npllm.checking import gradcheck, hessian_symmetry, hvp
from npllm.evidence import CASES, MISTAKES, Mistake
from npllm.models import LSTMLanguageModel

TOLERANCE = 1e-12  # it is some 1e-15


def assert_near(ours: Any, theirs: Any, name: str) -> None:
    """Compare relative to the largest number."""
    largest = np.abs(theirs).max()
    assert largest > 0, name
    assert ours.shape == theirs.shape, name
    assert np.abs(ours - theirs).max() <= TOLERANCE * largest, name
    # another number there would not be near
    assert np.abs(1.001 * ours - theirs).max() > 1e-4 * largest


# a language model

CONFIGS: dict[str, dict[str, Any]] = {
    "section 5": {"vocab_size": 7, "embed_size": 3, "hidden_size": 4},
    "two layers, tied": {
        "vocab_size": 17,
        "embed_size": 4,
        "hidden_size": 4,
        "num_layers": 2,
        "tie_weights": True,
    },
}


class LanguageModel:
    """A loss of a dict of parameters, its backward, and the same in torch."""

    def __init__(self, config: dict[str, Any]) -> None:
        rng = np.random.default_rng(0)
        self.config = config
        shapes = LSTMLanguageModel(**config).parameters.shapes
        self.parameters = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        self.vectors = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        self.ids, self.targets = rng.integers(config["vocab_size"], size=(2, 3, 5))
        self.targets[1, 2] = -100
        size = (2, config.get("num_layers", 1), 3, config["hidden_size"])
        self.state = rng.normal(size=size)

    def forward(self, parameters: Any) -> Any:
        dtype = parameters["fc.bias"].dtype
        model = LSTMLanguageModel(**self.config, dtype=dtype)
        model.parameters.load(parameters)
        logits, cache = model.forward(self.ids, tuple(self.state.astype(dtype)))
        loss, loss_cache = layers.cross_entropy_forward(logits, self.targets)
        return loss, (model, cache, loss_cache)

    def backward(self, dloss: Any, cache: Any) -> Any:
        model, model_cache, loss_cache = cache
        gradients = model.backward(layers.cross_entropy_backward(dloss, loss_cache), model_cache)
        return {name: gradients[name] for name in gradients.shapes}

    def in_torch(self, torch: Any, p: Any) -> Any:
        config = self.config
        rnn = torch.nn.LSTM(
            config["embed_size"], config["hidden_size"], config.get("num_layers", 1)
        ).double()
        weights = {name[4:]: a for name, a in p.items() if name.startswith("rnn.")}
        x = torch.nn.functional.embedding(torch.tensor(self.ids.T), p["embedding.weight"])
        state = tuple(torch.tensor(a) for a in self.state)
        h, _ = torch.func.functional_call(rnn, weights, (x, state))
        fc = p.get("fc.weight", p["embedding.weight"])
        logits = torch.nn.functional.linear(h, fc, p["fc.bias"])
        targets = torch.tensor(self.targets.T.ravel())
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets)


def double_backward(torch: Any, loss: Any, tensors: list[Any], vectors: list[Any]) -> list[Any]:
    """Return torch's Hessian-vector product."""
    gradients = torch.autograd.grad(loss, tensors, create_graph=True)
    along = sum((g * torch.tensor(v)).sum() for g, v in zip(gradients, vectors, strict=True))
    return [h.numpy() for h in torch.autograd.grad(along, tensors)]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_hessian_of_a_language_model(torch: Any, name: str) -> None:
    model = LanguageModel(CONFIGS[name])
    (ours,) = hvp(model.forward, model.backward, model.parameters, model.vectors)
    p = {n: torch.tensor(a, requires_grad=True) for n, a in model.parameters.items()}
    loss = model.in_torch(torch, p)
    theirs = double_backward(torch, loss, list(p.values()), list(model.vectors.values()))
    assert ours.keys() == model.parameters.keys()
    for n, h in zip(p, theirs, strict=True):
        assert_near(ours[n], h, n)


# attention

SIZES = {"q": (2, 3, 4, 5), "k": (2, 3, 6, 5), "v": (2, 3, 6, 7), "bias": (3, 1, 6)}
MASK = np.random.default_rng(1).random((4, 6)) < 0.5
MASK[:, 0] = True  # every query sees something: torch has NaN where it does not
ATTENTION: dict[str, dict[str, Any]] = {
    "plain": {},
    "mask": {"mask": MASK},
    "causal": {"causal": True},
    "bias": {"bias": True},
    "softcap": {"softcap": 0.8},
    "all of them": {"mask": MASK, "causal": True, "bias": True, "softcap": 1.5},
}


def attention_in_torch(torch: Any, tensors: Any, options: dict[str, Any]) -> Any:
    q, k, v, *bias = tensors
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if "softcap" in options:
        scores = options["softcap"] * torch.tanh(scores / options["softcap"])
    if bias:
        scores = scores + bias[0]
    seen = torch.tensor(options.get("mask", np.ones((4, 6), bool)))
    if options.get("causal"):
        seen = seen & torch.ones(4, 6, dtype=torch.bool).tril()
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v


def attention(options: dict[str, Any]) -> Any:
    def forward(q: Any, k: Any, v: Any, bias: Any = None) -> Any:
        return layers.attention_forward(q, k, v, **{**options, "bias": bias})

    return forward


@pytest.mark.parametrize("name", ATTENTION)
def test_the_hessian_of_attention(torch: Any, name: str) -> None:
    options, rng = ATTENTION[name], np.random.default_rng(2)
    sizes = [size for n, size in SIZES.items() if n != "bias" or options.get("bias")]
    args, vectors = ([rng.normal(size=size) for size in sizes] for _ in range(2))
    dy = rng.normal(size=(2, 3, 4, 7))
    ours = hvp(attention(options), layers.attention_backward, args, vectors, dy)
    tensors = [torch.tensor(a, requires_grad=True) for a in args]
    loss = (attention_in_torch(torch, tensors, options) * torch.tensor(dy)).sum()
    theirs = double_backward(torch, loss, tensors, vectors)
    for h, expected in zip(ours, theirs, strict=True):
        assert_near(h, expected, name)


# symmetry

SYMMETRIC = [name for name in CASES if name not in ("dropout", "relu")]


def first_case(name: str) -> Any:
    return next(CASES[name](np.random.default_rng(0)))


@pytest.mark.parametrize("name", SYMMETRIC)
def test_the_derivative_of_a_gradient_is_symmetric(name: str) -> None:
    case = first_case(name)
    found = hessian_symmetry(case.forward, case.backward, case.args)
    assert found.passed, str(found)


# a slip in behaviour leaves the numbers right; one factor makes it the gradient of another function
UNSEEN = {"accumulated", "aliased", "float32", "mutated_dy", "mutated_input", "scale", "sign"}
BENT = ("softmax", "attention", "lstm_cell", "LSTMLanguageModel")
SLIPS = [
    mistake
    for mistake in MISTAKES
    if mistake.layer in BENT
    and mistake.label == first_case(mistake.layer).label
    and mistake.cause not in UNSEEN
]


@pytest.mark.parametrize("mistake", SLIPS, ids=lambda m: f"{m.layer}: {m.slip}")
def test_a_wrong_backward_is_the_gradient_of_nothing(mistake: Mistake) -> None:
    case = first_case(mistake.layer)
    with mistake.applied():
        found = hessian_symmetry(case.forward, case.backward, case.args)
    assert not found.passed
    assert found.error > 1e-6  # by far


def test_the_slips_are_of_every_layer() -> None:
    assert {mistake.layer for mistake in SLIPS} == set(BENT)
    assert len(SLIPS) >= 15


def test_a_wrong_term_is_rejected_and_the_right_one_passes() -> None:
    x = np.random.default_rng(0).normal(size=5)

    def forward(x: Any) -> Any:
        return np.tanh(x).sum() ** 2, x

    def backward(dy: Any, x: Any, factor: Any = 1.0) -> Any:
        return 2 * dy * np.tanh(x).sum() * (1 - np.tanh(x) ** 2) * factor

    assert hessian_symmetry(forward, backward, x).passed
    assert hessian_symmetry(forward, backward, x, dy=np.array(1.0), seed=4).passed
    # a factor is a gradient still, of another function; a factor a row is none
    assert hessian_symmetry(forward, lambda dy, x: backward(dy, x, 3.0), x).passed
    found = hessian_symmetry(forward, lambda dy, x: backward(dy, x, np.arange(1, 6)), x)
    assert not found.passed
    assert found.error > 1e-3
    assert found.analytic != pytest.approx(found.numeric, rel=1e-6)
    # and so is a term that was forgotten
    assert not hessian_symmetry(forward, lambda dy, x: 2 * dy * np.tanh(x).sum() * x, x).passed


def test_two_arguments_one_of_which_is_wrong() -> None:
    args = [np.random.default_rng(0).normal(size=(3, 4)), np.random.default_rng(1).normal(size=4)]

    def forward(x: Any, w: Any) -> Any:
        return np.tanh(x @ w), (x, w)

    def backward(dy: Any, cache: Any, by: float = 1.0) -> Any:
        x, w = cache
        ds = dy * (1 - np.tanh(x @ w) ** 2)
        return ds[:, None] * w, by * (x.T @ ds)

    assert hessian_symmetry(forward, backward, args).passed
    found = hessian_symmetry(forward, lambda dy, c: backward(dy, c, 1.001), args)
    assert not found.passed


def test_not_a_number_is_not_symmetric() -> None:
    found = hessian_symmetry(
        lambda x: ((x * x).sum(), x), lambda dy, x: dy * np.full(x.shape, np.nan + 0j), np.ones(3)
    )
    assert not found.passed


# the rest of the product


def cube(x: Any) -> Any:
    return (x**3).sum(), x


def cube_backward(dy: Any, x: Any) -> Any:
    return 3 * x * x * dy


def test_the_structure_is_that_of_the_arguments() -> None:
    def forward(tree: Any, ids: Any, x: Any) -> Any:
        return (tree["a"][0][ids] ** 2 * x).sum() + (tree["b"] ** 3).sum(), (tree, ids, x)

    def backward(dy: Any, cache: Any) -> Any:
        tree, ids, x = cache
        a = tree["a"][0]
        da = np.zeros_like(a)
        np.add.at(da, ids, 2 * a[ids] * x * dy)
        return {"a": [da], "b": 3 * tree["b"] ** 2 * dy}, a[ids] ** 2 * dy

    tree = {"a": [np.array([1.0, 2.0, 3.0])], "b": np.array([1.0, -2.0])}
    ids, x = np.array([0, 2, 2]), np.array([1.0, 10.0, 100.0])
    vectors = ({"a": [np.array([1.0, 1.0, 2.0])], "b": np.array([1.0, 1.0])}, np.ones(3))
    of_tree, of_x = hvp(forward, backward, [tree, ids, x], vectors)
    # d2/da2 = 2 x summed over the places, d2/dadx = 2 a; d2/db2 = 6 b
    expected = [2 * 1 + 2 * 1, 0, 2 * 110 * 2 + 2 * 3 * 2]
    np.testing.assert_allclose(of_tree["a"][0], expected, rtol=1e-14)
    np.testing.assert_allclose(of_tree["b"], [6, -12], rtol=1e-14)
    np.testing.assert_allclose(of_x, [2 * 1 * 1, 2 * 3 * 2, 2 * 3 * 2], rtol=1e-14)


def test_it_is_linear_in_dy() -> None:
    x, v = np.array([1.0, 2.0]), np.array([1.0, 10.0])
    (once,), (thrice,) = (hvp(cube, cube_backward, x, v, dy) for dy in (1.0, np.array(3.0)))
    np.testing.assert_allclose(once, [6, 120], rtol=1e-14)
    np.testing.assert_allclose(thrice, [18, 360], rtol=1e-14)


def test_arguments_are_left_as_they_were() -> None:
    x, v = np.array([1.0, 2.0]), np.array([1.0, 10.0])
    hvp(cube, cube_backward, x, v)
    hessian_symmetry(cube, cube_backward, x)
    assert (x.tolist(), v.tolist()) == ([1, 2], [1, 10])


def test_another_number_of_vectors_is_an_error() -> None:
    def forward(a: Any, b: Any) -> Any:
        return (a * b).sum(), (a, b)

    def backward(dy: Any, cache: Any) -> Any:
        return cache[1] * dy, cache[0] * dy

    one = np.ones(2)
    assert len(hvp(forward, backward, [one, one], [one, one])) == 2
    with pytest.raises(ValueError, match="one for each of a, b, got 1"):
        hvp(forward, backward, [one, one], one)
    with pytest.raises(ValueError, match="one for each of a, b, got 3"):
        hvp(forward, backward, [one, one], [one] * 3)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.ones(3), r"the vector for x must have shape \(2,\), got \(3,\)"),
        (np.ones(1), r"the vector for x must have shape \(2,\), got \(1,\)"),
        ({"x": np.ones(2)}, r"the vector for x must have shape \(2,\), got none"),
    ],
)
def test_a_vector_of_another_shape_is_an_error(vector: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hvp(cube, cube_backward, np.ones(2), [vector])


def test_a_backward_that_casts_to_real_is_an_error() -> None:
    with pytest.raises(TypeError, match="must keep complex numbers, got float64 for x"):
        hvp(cube, lambda dy, x: np.real(cube_backward(dy, x)), np.ones(2), np.ones(2))
    with pytest.raises(TypeError, match="must keep complex numbers, got nothing for x"):
        hessian_symmetry(cube, lambda dy, x: None, np.ones(2))


def softsign(x: np.ndarray) -> Any:
    d = 1 + np.abs(x)
    return x / d, d


def norm_of_rows(x: np.ndarray) -> Any:
    n = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / n, (x / n, n)


def test_what_is_not_analytic_is_refused() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    dy = np.ones((3, 4))

    def norm_backward(dy: Any, cache: Any) -> Any:
        y, n = cache
        return (dy - y * (dy * y).sum(axis=-1, keepdims=True)) / n

    for forward, backward in ((softsign, lambda dy, d: dy / d**2), (norm_of_rows, norm_backward)):
        assert gradcheck(forward, backward, x)
        with pytest.raises(TypeError, match="is not analytic"):
            hvp(forward, backward, x, x, dy)
        with pytest.raises(TypeError, match="is not analytic"):
            hessian_symmetry(forward, backward, x)


def test_a_symmetry_is_printed_as_one() -> None:
    x = np.array([1.0, 2.0])
    text = str(hessian_symmetry(lambda x: ((x**3).sum(), x), lambda dy, x: 3 * x * x * dy, x))
    assert text.startswith("derivative of the backward: u . Hv ")
    assert "largest gradient" not in text
