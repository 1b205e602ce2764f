"""Which forward a test of this room computes in many directions."""

from __future__ import annotations

from pathlib import Path

import pytest

from npllm.evidence.trial import forward_of


def forward_tested(item: pytest.Item) -> str | None:
    """Return the forward that a test asks for its derivatives; None where it asks for none."""
    given = item.callspec.params if hasattr(item, "callspec") else {}
    if item.path.parent != Path(__file__).parent:
        return None
    if "mistake" in given:
        return forward_of(given["mistake"].layer, given["mistake"].label)
    return forward_of(given["name"], given["case"].label) if "case" in given else None
