"""The node tests of the ONNX standard: npllm gives the outputs that the standard's reference gives.

Every case that the ``onnx`` package generates for the operators below is run through npllm, or it
is listed with the reason why not, and a table is printed. Nothing is downloaded.
"""

import importlib
import re
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx_operators
import pytest
from left_out import need
from onnx_operators import OPERATORS

need("onnx")
onnx = importlib.import_module("onnx")

EXPANDED = "_expanded"
PASSED, FAILED = "passed", "failed"
SPELLED_OUT = "the operator spelled out in other operators, without a node of its own"


class NotApplicableError(Exception):
    """The case asks for something that npllm has no function for."""


def collected():
    """Return the cases of the operators, and of which operator each is, by the cases' names."""
    from onnx.backend.test.case import node

    with warnings.catch_warnings():  # the cases of other operators overflow and divide by zero
        warnings.simplefilter("ignore")
        every_case = {case.name: case for case in node.collect_testcases()}
    operators = {}
    for name, case in every_case.items():
        spelled_out = every_case.get(name.partition(EXPANDED)[0], case)
        types = {node.op_type for node in spelled_out.model.graph.node}
        for operator in types & {*OPERATORS}:
            operators[name] = operator
    return {name: every_case[name] for name in operators}, operators


def listed_reason(name):
    """Return why a case is listed as not applicable, or None where it must pass."""
    return SPELLED_OUT if EXPANDED in name else None


CASES, OPERATOR_OF = collected()
MUST_PASS = [name for name in CASES if listed_reason(name) is None]


def run(case, inputs):
    """Return the outputs that the case's node names, from npllm."""
    operator = OPERATOR_OF[case.name]
    if operator not in {node.op_type for node in case.model.graph.node}:
        raise NotApplicableError(SPELLED_OUT)
    (node,) = case.model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
    present = iter(inputs)
    arguments = [next(present) if name else None for name in node.input]
    outputs = OPERATORS[operator](*arguments, **attributes)
    return [y for name, y in zip(node.output, outputs, strict=False) if name]


def widened(x):
    """Return float32 for the floats of two bytes, in which npllm does not compute."""
    return x.astype(np.float32) if x.dtype.name in ("float16", "bfloat16") else x


def check(case):
    """Assert that npllm's outputs are those of the case: their number, shapes, types and values.

    The tolerances are those that the case carries. A float of two bytes is computed in float32 and
    rounded to its own type at the end. For bfloat16 alone the case's 1e-3 is less than one rounding
    (the reference rounds after each operation); there it is two units in the last place, as in
    ONNX's own runner.
    """
    for inputs, expected in case.data_sets:
        outputs = run(case, [widened(np.asarray(x)) for x in inputs])
        assert len(outputs) == len(expected)
        for got, want in zip(outputs, map(np.asarray, expected), strict=True):
            assert (got.shape, got.dtype) == (want.shape, widened(want).dtype)
            rtol = 2**-6 if want.dtype.name == "bfloat16" else case.rtol
            got, want = widened(got.astype(want.dtype)), widened(want)
            np.testing.assert_allclose(got, want, rtol=rtol, atol=case.atol)


def outcome(case):
    """Return whether the case passes, or why it does not apply."""
    try:
        check(case)
    except NotApplicableError as reason:
        return str(reason)
    except AssertionError:
        return FAILED
    return PASSED


@pytest.mark.parametrize("name", CASES)
def test_the_outputs_are_those_of_onnx(name):
    reason = listed_reason(name)
    if reason is None:
        check(CASES[name])
    else:
        with pytest.raises(NotApplicableError, match=f"^{re.escape(reason)}$"):
            check(CASES[name])
        pytest.skip(reason)


def test_every_case_passes_or_is_listed(request):
    outcomes = {name: outcome(case) for name, case in CASES.items()}
    listed = {name: listed_reason(name) for name in CASES if name not in MUST_PASS}
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print_table(outcomes)
    assert Counter(outcomes.values())[PASSED] + len(listed) == len(CASES)
    assert {name: why for name, why in outcomes.items() if why != PASSED} == listed


def print_table(outcomes):
    rows = [("operator", "cases", "passed", "not applicable")]
    for operator in [*sorted(OPERATORS, key=str.lower), "all"]:
        own = [why for name, why in outcomes.items() if operator in (OPERATOR_OF[name], "all")]
        passed, failed = own.count(PASSED), own.count(FAILED)
        rows.append((operator, *map(str, (len(own), passed, len(own) - passed - failed))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"\n\nThe node tests of onnx {onnx.__version__}:")
    for operator, *numbers in rows:
        print("  ".join([operator.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]))
    print("not applicable:")
    for reason in sorted(set(outcomes.values()) - {PASSED, FAILED}):
        of = Counter(OPERATOR_OF[name] for name, why in outcomes.items() if why == reason)
        print(f"  {of.total()}, {reason}:")
        print(f"    {', '.join(f'{operator} {count}' for operator, count in of.items())}")


def test_every_operator_has_cases():
    assert set(OPERATOR_OF.values()) == {*OPERATORS}
    assert Counter(OPERATOR_OF[name] for name in MUST_PASS)["Attention"] >= 93


def with_random_weights(case, **attributes):
    """Return the case with other inputs and attributes, and what ONNX's reference makes of them.

    In ONNX's cases of the LSTM and the GRU all weights are the same number, so that no case could
    tell one gate from another; and no case of the GRU resets the product.
    """
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    for name, value in attributes.items():
        model.graph.node[0].attribute.append(onnx.helper.make_attribute(name, value))
    rng = np.random.default_rng(0)
    (given, _), *_ = case.data_sets
    inputs = [
        rng.standard_normal(x.shape).astype(x.dtype) if x.dtype.kind == "f" else x for x in given
    ]
    names = [value.name for value in model.graph.input]
    reference = onnx.reference.ReferenceEvaluator(model)
    outputs = reference.run(None, dict(zip(names, inputs, strict=True)))
    return replace(case, model=model, data_sets=[(inputs, outputs)])


LSTM_CASES = [name for name in MUST_PASS if OPERATOR_OF[name] == "LSTM"]
GRU_CASES = [name for name in MUST_PASS if OPERATOR_OF[name] == "GRU"]


@pytest.mark.parametrize("name", LSTM_CASES)
def test_the_lstm_with_random_weights_is_that_of_the_reference(name):
    check(with_random_weights(CASES[name]))


@pytest.mark.parametrize("name", LSTM_CASES)
def test_gates_in_the_order_of_onnx_are_rejected(monkeypatch, name):
    monkeypatch.setattr(onnx_operators, "GATES", [0, 1, 2, 3])
    assert outcome(with_random_weights(CASES[name])) == FAILED


@pytest.mark.parametrize("reset_after", [0, 1])
@pytest.mark.parametrize("name", GRU_CASES)
def test_the_gru_with_random_weights_is_that_of_the_reference(monkeypatch, name, reset_after):
    case = with_random_weights(CASES[name], linear_before_reset=reset_after)
    check(case)
    with monkeypatch.context() as patch:
        patch.setattr(onnx_operators, "GRU_GATES", [0, 1, 2])
        assert outcome(case) == FAILED


def test_peepholes_in_the_order_of_onnx_are_rejected(monkeypatch):
    monkeypatch.setattr(onnx_operators, "PEEPHOLES", [0, 1, 2])
    assert outcome(with_random_weights(CASES["test_lstm_with_peepholes"])) == FAILED


@pytest.mark.parametrize(
    ("operator", "attribute", "value"),
    [
        ("Attention", "is_causal", 0),
        ("Attention", "left_window_size", -1),
        ("Attention", "scale", None),
        ("Attention", "softcap", 0.0),
        ("Gather", "axis", 0),
        ("Gelu", "approximate", "none"),
        ("GRU", "direction", "forward"),
        ("LayerNormalization", "epsilon", 1e-5),
        ("LogSoftmax", "axis", -1),
        ("LSTM", "direction", "forward"),
        ("NegativeLogLikelihoodLoss", "reduction", "mean"),
        ("RMSNormalization", "epsilon", 1e-5),
        ("RotaryEmbedding", "interleaved", 0),
        ("SoftmaxCrossEntropyLoss", "reduction", "mean"),
    ],
)
def test_a_forgotten_attribute_is_rejected(monkeypatch, operator, attribute, value):
    right = OPERATORS[operator]

    def wrong(*inputs, **attributes):
        return right(*inputs, **attributes | {attribute: value})

    monkeypatch.setitem(OPERATORS, operator, wrong)
    cases = [CASES[name] for name in MUST_PASS if OPERATOR_OF[name] == operator]
    assert FAILED in map(outcome, cases)


@pytest.mark.parametrize("name", MUST_PASS)
def test_an_output_that_is_a_little_off_is_rejected(monkeypatch, name):
    operator = OPERATOR_OF[name]
    right = OPERATORS[operator]

    def wrong(*inputs, **attributes):
        outputs = right(*inputs, **attributes)
        return [y * y.dtype.type(1.05) if y.dtype.kind == "f" else y for y in outputs]

    monkeypatch.setitem(OPERATORS, operator, wrong)
    assert outcome(CASES[name]) == FAILED
