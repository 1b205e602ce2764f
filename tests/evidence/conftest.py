"""The tests of a forward stand side by side: the process that takes them computes it once."""

from __future__ import annotations

import pytest
from side_by_side import forward_tested


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those of one forward next to each other, in the places that they have together."""
    forwards = [forward_tested(item) for item in items]
    places = [n for n, forward in enumerate(forwards) if forward]
    ordered = [items[n] for n in sorted(places, key=lambda n: str(forwards[n]))]
    for n, item in zip(places, ordered, strict=True):
        items[n] = item
