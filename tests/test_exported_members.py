"""What a room names as public is there, and what it imports to show is named."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import npllm

PACKAGES = {module.name for module in pkgutil.iter_modules(npllm.__path__) if module.ispkg}
# the command line's own file is no front of a room, it is the room
ROOMS = ["npllm", *(f"npllm.{name}" for name in sorted(PACKAGES - {"cli"}))]


def shown(module: ModuleType) -> set[str]:
    """Return the public names that a room imports from its own files."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", "").startswith(f"{module.__name__}.")
    }


@pytest.mark.parametrize("room", ROOMS)
def test_the_public_names_are_those_that_are_shown(room: str) -> None:
    module = importlib.import_module(room)
    named = getattr(module, "__all__", [])
    assert sorted(set(named)) == sorted(named)
    assert [name for name in named if not hasattr(module, name)] == []
    assert shown(module) <= set(named)


def test_a_name_that_is_shown_and_not_named_is_found() -> None:
    module = ModuleType("npllm.room")
    layer = type("Layer", (), {"__module__": "npllm.room.layer"})
    module.__dict__.update(Layer=layer, _private=layer, sys=sys, Elsewhere=pytest.Item)
    assert shown(module) == {"Layer"}


def test_the_front_door_gives_what_it_names() -> None:
    assert npllm.layers.softmax_forward is importlib.import_module("npllm.layers").softmax_forward
    assert npllm.gradcheck is npllm.checking.gradcheck
    assert npllm.assert_gradients is npllm.checking.assert_gradients
    assert npllm.load is importlib.import_module("npllm.loading").load
    assert npllm.generate is importlib.import_module("npllm.generation").generate
    assert [name for name in dir(npllm) if not name.startswith("__")] == sorted(npllm.__all__)
    with pytest.raises(AttributeError, match="module 'npllm' has no attribute 'gradchek'") as error:
        npllm.gradchek  # noqa: B018
    assert (error.value.name, error.value.obj) == ("gradchek", npllm)  # so Python suggests a name


def test_the_front_door_imports_nothing_until_it_is_used() -> None:
    code = "import sys, npllm; print(*sorted(m for m in sys.modules if m.startswith(('n', 's'))))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = found.stdout.split()
    assert "npllm" in modules
    assert not {"numpy", "scipy", "npllm.layers"} & set(modules)
