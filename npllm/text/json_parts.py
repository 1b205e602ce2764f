"""Pieces of somebody else's JSON, checked as they are taken."""

from __future__ import annotations

from npllm.files import Json


def object_of(value: Json, name: str) -> dict[str, Json]:
    """Return a JSON object; raise ValueError, naming it, where it is something else."""
    if not isinstance(value, dict):
        raise ValueError(f"the {name} must be a JSON object, got {type(value).__name__}")
    return value


def list_of(value: Json, name: str) -> list[Json]:
    """Return a list; raise ValueError, naming it, where it is something else."""
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, got {type(value).__name__}")
    return value


def kind_of(part: Json) -> str:
    """Return the type that a part says it is of; the part itself, as text, where it says none."""
    return str(part.get("type") if isinstance(part, dict) else part)
