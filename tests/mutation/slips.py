"""mutmut, with the slips that it does not think of: ``python slips.py run`` for ``mutmut run``.

mutmut's own are all on: a number plus one; a name in a string; True and False; None for what is
assigned or passed; an argument, ``not`` or ``~`` left out; ``+=`` turned into ``=`` or ``-=``; the
other of two operators, comparisons, keywords or methods; each arm of a conditional expression.

Off is one thing: strings with a space in them, the prose of error messages. That an error is
raised, its type, and the names and numbers in it stay on. mutmut itself leaves alone what no call
evaluates: annotations, docstrings, imports, constants and attributes of modules and classes, and
defaults that are more than a number or a name; also the text in f-strings, and what is passed to
``len`` and ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import libcst as cst


def add_operators() -> None:
    """Change the list of mutmut's operators in place."""
    import libcst as cst
    from mutmut.mutation import mutators

    def word(node: cst.SimpleString) -> Iterator[cst.CSTNode]:
        if " " not in node.value:  # a name, an option or a format; not the prose of an error
            yield from mutators.operator_string(node)

    def smaller(node: cst.Integer | cst.Float) -> Iterator[cst.CSTNode]:
        yield cst.parse_expression(f"({node.evaluated_value - 1})")

    def forgotten(node: cst.Expr | cst.AugAssign | cst.Raise) -> Iterator[cst.CSTNode]:
        if not isinstance(node, cst.Expr) or isinstance(node.value, cst.Call):  # no docstring
            yield cst.Pass()

    def not_transposed(node: cst.Attribute) -> Iterator[cst.CSTNode]:
        if node.attr.value == "T":
            yield node.value

    operators: Any = mutators.mutation_operators
    operators[:] = [pair for pair in operators if pair[1] is not mutators.operator_string]
    operators += [
        (cst.SimpleString, word),
        (cst.Integer, smaller),
        (cst.Float, smaller),
        (cst.Expr, forgotten),
        (cst.AugAssign, forgotten),
        (cst.Raise, forgotten),
        (cst.Attribute, not_transposed),
        # each branch whatever the condition says, as mutmut has it for conditional expressions
        (cst.If, mutators.operator_if_exp),
        (cst.While, mutators.operator_if_exp),
        (cst.CompIf, mutators.operator_if_exp),
    ]


if __name__ == "__main__":
    add_operators()
    from mutmut.__main__ import cli

    cli()
