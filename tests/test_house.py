"""The house's own rules: sizes of files and functions, options with names, types that tell."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from npllm.evidence import SUBJECTS
from npllm.models import KINDS

ROOT = Path(__file__).parents[1]
LINES, FUNCTION_LINES = 500, 70
FUNCTIONS_OF_ANY = 60  # fewer may say Any, or an alias of it, of their arguments or result
FILES = sorted(
    path
    for folder in ("npllm", "tests", "benchmarks", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".css", ".js", ".md", ".toml")
)
# a layer's arguments are arrays, or trees of them; whatever else has a default is an option
ARRAYS = {"bias", "bias_hh", "bias_ih", "past", "state", "weight", "weight_ch"}


def long_functions(source: str) -> list[str]:
    """Return the functions whose lines, docstring aside, are too many."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = ast.get_docstring(node) is not None
            lines = (node.end_lineno or 0) - node.lineno + 1
            if documented:
                lines -= (first.end_lineno or 0) - first.lineno + 1
            if lines > FUNCTION_LINES:
                found.append(f"{node.name}: {lines}")
    return found


def says(annotation: ast.expr | None, names: set[str]) -> bool:
    """Return whether an annotation mentions a name; an array of Any says that it is an array."""
    text = "" if annotation is None else ast.unparse(annotation).replace("NDArray[Any]", "")
    return not names.isdisjoint(re.findall(r"\w+", text))


def aliases_of_any(trees: Sequence[ast.Module]) -> set[str]:
    """Return Any and the names, on the floor of a module, of what mentions it or another alias."""
    values: list[tuple[str, ast.expr]] = []
    for node in (node for tree in trees for node in tree.body):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            values += [
                (target.id, node.value) for target in targets if isinstance(target, ast.Name)
            ]
    found = {"Any"}
    while more := {name for name, value in values if says(value, found)} - found:
        found |= more
    return found


def functions_of_any(trees: Sequence[ast.Module]) -> list[str]:
    """Return the functions whose arguments or result are of Any."""
    found, names = [], aliases_of_any(trees)
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)]
            if any(says(a, names) for a in (node.returns, *(arg.annotation for arg in arguments))):
                found.append(node.name)
    return found


def nameless_options(function: Callable[..., object]) -> list[str]:
    """Return the options of a forward that can be given without their names."""
    return [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is not p.empty and p.kind is not p.KEYWORD_ONLY and p.name not in ARRAYS
    ]


def test_no_file_has_outgrown_its_subject() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in FILES}
    assert [path for path, text in texts.items() if len(text.splitlines()) > LINES] == []
    long = {path: long_functions(text) for path, text in texts.items() if path.suffix == ".py"}
    assert {path: found for path, found in long.items() if found} == {}


def test_a_long_function_is_found() -> None:
    body = "    x = 1\n" * FUNCTION_LINES
    assert long_functions(f"def f():\n{body}") == ["f: 71"]
    assert long_functions(f'def f():\n    """Words,\n    and more."""\n{body[10:]}') == []


def test_the_options_of_every_forward_have_names() -> None:
    homes = {s.name: importlib.import_module(s.home) for s in SUBJECTS if s.stem != "model"}
    forwards = {name: getattr(home, f"{name}_forward") for name, home in homes.items()}
    forwards |= {name: model.forward for name, model in KINDS.items()}
    assert len(forwards) > 25
    assert {name: nameless_options(f) for name, f in forwards.items() if nameless_options(f)} == {}


def test_an_option_without_a_name_is_found() -> None:
    def forward(x: float, bias: float | None = None, eps: float = 1e-5, *, p: float = 0.0) -> None:
        """Do nothing."""

    assert nameless_options(forward) == ["eps"]


def test_few_functions_say_any() -> None:
    files = [path for path in FILES if ROOT / "npllm" in path.parents and path.suffix == ".py"]
    found = functions_of_any([ast.parse(path.read_text(encoding="utf-8")) for path in files])
    assert len(found) < FUNCTIONS_OF_ANY, found


def test_a_function_that_says_any_is_found() -> None:
    source = """
Array = npt.NDArray[Any]
Tree = Any
Nested: TypeAlias = "dict[str, Nested] | Tree"
def array(x: Array, company: int) -> Array: ...
def tree(x: Tree) -> None: ...
class Layer:
    def nested(self, *, x: Nested) -> None: ...
    def result(self) -> tuple[int, Any]: ...
"""
    assert functions_of_any([ast.parse(source)]) == ["tree", "nested", "result"]
