"""The report: as text, as a table, as JSON, and its verdicts."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from npllm.checking import (
    ArgumentReport,
    Cause,
    Comparison,
    GradcheckReport,
    assert_gradients,
    gradcheck,
)
from npllm.checking.report import aligned, finite


def comparison(error: float, rounding: float = 0.0, **changes: Any) -> Comparison:
    values: dict[str, Any] = {
        "method": "complex step",
        "error": error,
        "tolerance": 1e-12,
        "rounding": rounding,
        "index": (1, 2),
        "analytic": 3.0,
        "numeric": 2.0,
        "checked": 12,
    }
    return Comparison(**{**values, **changes})


def argument(name: str, *comparisons: Comparison, **changes: Any) -> ArgumentReport:
    return ArgumentReport(name, changes.pop("shape", (3, 4)), comparisons, **changes)


RIGHT, WRONG = comparison(1e-16), comparison(0.5)

VERDICTS = {
    "ok": argument("x", RIGHT, RIGHT),
    "ok (rounding)": argument("x", RIGHT, comparison(1e-9, rounding=1e-8)),
    "ok (zero)": argument("x", RIGHT, structural_zero=True),
    "ok (empty)": argument("x", RIGHT, shape=(0, 4)),
    "FAILED": argument("x", RIGHT, WRONG),
}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_verdicts(verdict: str) -> None:
    report = VERDICTS[verdict]
    assert report.verdict == verdict
    assert report.passed == (verdict != "FAILED")
    assert GradcheckReport((report,)).table().splitlines()[1].endswith(verdict)


def test_what_was_not_compared_has_failed() -> None:
    missing = argument("x", causes=(Cause("missing", "there is none"),))
    assert not missing.passed
    assert missing.verdict == "FAILED"
    assert missing.worst is None
    report = GradcheckReport((argument("y", WRONG), missing))
    assert report.worst is missing


def test_a_report_of_nothing_has_not_passed() -> None:
    report = GradcheckReport(())
    assert report.worst is None
    assert not report.passed
    assert not report
    assert str(report) == ""
    assert report.causes == ()
    assert GradcheckReport((VERDICTS["ok"],)).passed


def test_a_finding_fails_whatever_the_numbers() -> None:
    finding = Cause("stale", "the cache is stale")
    report = GradcheckReport((VERDICTS["ok"],), (finding,))
    assert not report.passed
    assert report.causes == (finding,)
    assert str(report).splitlines()[0] == "FAILED: the cache is stale"


def test_not_a_number_passes_nothing_and_is_worst() -> None:
    nan = comparison(math.nan)
    assert not nan.passed
    assert nan.excess == math.inf
    report = GradcheckReport((argument("x", comparison(1e9)), argument("y", RIGHT, nan)))
    assert report.worst is not None
    assert report.worst.name == "y"
    assert report.worst.worst is nan


def test_the_excess_is_in_units_of_what_passes() -> None:
    assert comparison(2e-12).excess == pytest.approx(2)
    assert comparison(2e-12, rounding=1e-11).excess == pytest.approx(0.2)
    assert comparison(1.0, tolerance=0.0).excess == math.inf
    assert not comparison(1.0, tolerance=0.0).passed
    assert comparison(0.0, tolerance=0.0).passed


def test_a_comparison_as_text() -> None:
    assert str(WRONG) == (
        "complex step, index [1, 2]: backward 3, numeric 2, ratio 1.5; error 5.0e-01 of the "
        "largest gradient, at most 1e-12 passes"
    )
    text = str(comparison(0.5, index=None, numeric=0.0, rounding=1e-3))
    assert text == (
        "complex step, a random direction: backward 3, numeric 0; error 5.0e-01 of the largest "
        "gradient, at most 1e-03 passes"
    )


def square(x: Any, w: Any) -> Any:
    return x * x * w.sum(), (x, w)


def backward(dy: Any, cache: Any) -> Any:
    x, w = cache
    return 2 * x * w.sum() * dy, (x * x * dy).sum() * np.ones_like(w)


def wrong(dy: Any, cache: Any) -> Any:
    dx, dw = backward(dy, cache)
    return 3 * dx, dw


ARGS = [np.random.default_rng(0).normal(size=(5, 4)), np.ones(7)]


def test_the_table_has_a_row_an_argument_and_a_column_a_method() -> None:
    header, *rows = gradcheck(square, wrong, ARGS).table().splitlines()
    assert header.split("  ")[0] == "argument"
    assert "complex step  central difference  verdict" in header
    assert [row.split()[:2] for row in rows] == [["x", "5x4"], ["w", "7"]]
    assert [row.split()[-1] for row in rows] == ["FAILED", "ok"]
    starts = {
        line.index(word) for line, word in zip([header, *rows], ("v", "F", "ok"), strict=True)
    }
    assert len(starts) == 1  # in columns


def test_the_text_says_where_and_why_under_what_failed() -> None:
    report = gradcheck(square, wrong, ARGS, methods=("complex", "fourth"))
    _, x, *why, w, tolerances = str(report).splitlines()
    assert x.startswith("x")
    assert w.startswith("w")
    assert why[0] == "    it is 3 times what it must be: 3"
    assert [line.split(",")[0].strip() for line in why[1:]] == ["complex step", "fourth order"]
    assert tolerances == (
        "what passes in float64, of the largest gradient: complex step 1e-12, fourth order 1e-09"
    )
    right = str(gradcheck(square, backward, ARGS))
    assert "times" not in right
    assert len(right.splitlines()) == 4


def test_an_argument_that_was_not_compared_has_a_dash() -> None:
    report = gradcheck(square, lambda dy, c: (None, backward(dy, c)[1]), ARGS)
    row = report.table().splitlines()[1]
    assert row.split() == ["x", "5x4", "-", "-", "FAILED"]
    assert "    the backward returned no gradient for it" in str(report).splitlines()


def test_a_scalar_is_called_one() -> None:
    report = gradcheck(lambda x: (x * x, x), lambda dy, x: 2 * x * dy, np.array(3.0))
    assert report.table().splitlines()[1].split()[:2] == ["x", "scalar"]


@pytest.mark.parametrize("made", [backward, wrong])
def test_json_holds_all_of_it(made: Any) -> None:
    report = gradcheck(square, made, ARGS, allow=())
    read = json.loads(report.to_json())
    assert read == json.loads(json.dumps(finite(report.to_dict())))
    assert read["passed"] == report.passed == (made is backward)
    assert read["dtype"] == "float64"
    for values, argument in zip(read["arguments"], report.arguments, strict=True):
        assert values["name"] == argument.name
        assert values["shape"] == list(argument.shape)
        assert values["verdict"] == argument.verdict
        assert [c["key"] for c in values["causes"]] == [c.key for c in argument.causes]
        for given, comparison in zip(values["comparisons"], argument.comparisons, strict=True):
            assert given["method"] == comparison.method
            assert given["error"] == comparison.error
            assert given["analytic"] == comparison.analytic
            assert given["index"] == (None if comparison.index is None else [*comparison.index])


def test_json_has_strings_for_what_are_no_numbers() -> None:
    report = GradcheckReport(
        (argument("x", comparison(math.nan, analytic=math.inf, numeric=-math.inf)),)
    )
    text = report.to_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    (values,) = json.loads(text)["arguments"][0]["comparisons"]
    assert (values["error"], values["analytic"], values["numeric"]) == ("nan", "inf", "-inf")
    assert values["tolerance"] == 1e-12
    with pytest.raises(ValueError, match="JSON compliant"):
        json.dumps(report.to_dict(), allow_nan=False)


def test_finite_leaves_the_rest_alone() -> None:
    tree = {"a": [1.5, math.nan], "b": ({"c": -math.inf},), "d": "text", "e": True, "f": None}
    assert finite(tree) == {
        "a": [1.5, "nan"],
        "b": [{"c": "-inf"}],
        "d": "text",
        "e": True,
        "f": None,
    }


def test_rows_are_aligned() -> None:
    assert aligned([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]


def test_assert_gradients_fails_with_the_report() -> None:
    assert_gradients(square, backward, ARGS)
    with pytest.raises(AssertionError) as caught:
        assert_gradients(square, wrong, ARGS, methods=("central",), seed=3)
    report = gradcheck(square, wrong, ARGS, methods=("central",), seed=3)
    names = ", ".join(a.name for a in report.arguments if not a.passed)
    assert str(caught.value) == f"wrong gradients: {names}\n{report}"
    assert "it is 3 times what it must be" in str(caught.value)
    # options are passed on: what is allowed does not fail
    with pytest.raises(AssertionError, match="shares its memory with dy"):
        assert_gradients(lambda x: (x + 0, None), lambda dy, _: dy, [ARGS[0]])
    assert_gradients(lambda x: (x + 0, None), lambda dy, _: dy, [ARGS[0]], allow={"aliased"})


def test_a_cause_prints_as_its_sentence() -> None:
    assert str(Cause("sign", "its sign is wrong")) == "its sign is wrong"
