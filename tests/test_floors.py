"""An import points down only, and there are no circles; the table of CONTRIBUTING.md is made of it.

Run as a program, ``python tests/test_floors.py``, it writes the table anew.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import npllm

ROOT = Path(npllm.__file__).parent
PAGE = ROOT.parent / "CONTRIBUTING.md"
BEGIN = "<!-- floors: python tests/test_floors.py writes them -->\n"
END = "<!-- end of floors -->\n"
# rooms that must know nothing of what the others are for, whatever floor they would come to
MAY_IMPORT: dict[str, set[str]] = {
    "layers": {"threads"},
    "text": {"datasets", "extras", "files"},
    "extras": set(),
    "optim": set(),
    "files": set(),
    "threads": set(),
    "heap": set(),
    "checking": {"threads"},
    "models": {"layers"},
}


def room_of(path: Path) -> str:
    """Return the room that a file of npllm belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
    """Return the rooms of npllm that a source imports from."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                f"{node.module}.{a.name}" if node.module == "npllm" else node.module
                for a in node.names
            }
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("npllm.")}


def rooms() -> dict[str, set[str]]:
    """Return what each room imports of the others."""
    found: dict[str, set[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        room = room_of(path)
        if room != "__init__":  # the front door shows every room
            found.setdefault(room, set()).update(imported(path.read_text(encoding="utf-8")))
    return {room: names & found.keys() - {room} for room, names in found.items()}


def floors(imports: dict[str, set[str]]) -> dict[str, int]:
    """Return each room's floor: above all that it imports.

    Raises:
        ValueError: rooms import each other in a circle.
    """
    found: dict[str, int] = {}
    while len(found) < len(imports):
        ready = {room for room, names in imports.items() if names <= found.keys()} - found.keys()
        if not ready:
            raise ValueError(f"a circle: {', '.join(sorted(imports.keys() - found.keys()))}")
        found |= {r: 1 + max((found[name] for name in imports[r]), default=0) for r in ready}
    return found


def table() -> str:
    """Return the rooms from the highest floor down, each with its docstring's first line."""
    imports = rooms()
    found = floors(imports)
    lines = ["| floor | room | what lives there | imports |", "|---|---|---|---|"]
    for room in sorted(found, key=lambda room: (-found[room], room)):
        package = (ROOT / room).is_dir()
        file = ROOT / room / "__init__.py" if package else ROOT / f"{room}.py"
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        what = " ".join(text.split("\n\n")[0].split()).replace("``", "`").rstrip(".")
        names = ", ".join(sorted(imports[room], key=lambda name: (-found[name], name)))
        shown = f"`npllm/{room}/`" if package else f"`npllm/{room}.py`"
        lines.append(f"| {found[room]} | {shown} | {what} | {names} |")
    return "\n".join(lines) + "\n"


def parts(page: str) -> tuple[str, str, str]:
    """Return what stands before the table, the table, and what stands behind it."""
    before, rest = page.split(BEGIN)
    middle, after = rest.split(END)
    return before + BEGIN, middle, END + after


def test_imports_point_down_without_a_circle() -> None:
    imports = rooms()
    found = floors(imports)
    assert all(found[name] < found[room] for room, names in imports.items() for name in names)
    for room, allowed in MAY_IMPORT.items():
        assert imports[room] <= allowed, room
    assert imports["cli"] > {"training", "evidence", "inspection"}


def test_a_circle_is_found() -> None:
    assert floors({"a": {"b"}, "b": set(), "c": {"a", "b"}}) == {"b": 1, "a": 2, "c": 3}
    with pytest.raises(ValueError, match="a circle: a, b"):
        floors({"a": {"b"}, "b": {"a"}, "c": set()})
    assert imported(
        "import npllm.text\nfrom npllm import files\nfrom npllm.cli.train import x"
    ) == {
        "cli",
        "files",
        "text",
    }


def test_the_table_is_made_of_the_imports() -> None:
    _, written, _ = parts(PAGE.read_text(encoding="utf-8"))
    assert written == table(), "python tests/test_floors.py writes the table anew"


if __name__ == "__main__":
    first, _, last = parts(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(first + table() + last, encoding="utf-8")
