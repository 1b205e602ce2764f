"""An import points down only: the floors of CONTRIBUTING.md."""

import ast
from pathlib import Path

import npllm

ROOT = Path(npllm.__file__).parent
MAY_IMPORT = {
    "figures": {"files"},
    "threads": set(),
    "layers": {"layers"},
    "checking": {"checking", "threads"},
    "text": {"text"},
    "optim": {"optim"},
    "files": {"files"},
    "tensor_file": {"tensor_file"},
    "safetensors_file": {"safetensors_file", "tensor_file", "files"},
    "models": {"models", "layers"},
}
GROUND = set(MAY_IMPORT)
UPSTAIRS = {
    "checkpoint",
    "evidence",
    "generation",
    "inspection",
    "loading",
    "pretrained",
    "sampling",
    "training",
}


def imported(path: Path) -> set[str]:
    """Return the rooms of npllm that a file imports from."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                f"{node.module}.{a.name}" if node.module == "npllm" else node.module
                for a in node.names
            }
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("npllm.")}


def test_imports_point_down() -> None:
    seen = set()
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        allowed = MAY_IMPORT.get(
            room, GROUND | UPSTAIRS | ({"cli"} if room in ("cli", "__main__") else set())
        )
        assert imported(path) <= allowed, path
        seen.add(room)
    assert seen >= GROUND | UPSTAIRS
