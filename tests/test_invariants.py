"""Every invariant of the design is named by tests that guard it; `pytest -m p4` runs those of P4."""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from invariants import INVARIANTS, guarded

TESTS = Path(__file__).parent


@cache
def guards() -> dict[str, list[str]]:
    """The tests of each invariant, as "file::name"."""
    found = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for name in guarded(node.name, ast.get_docstring(node)):
                    found[name].append(f"{path.relative_to(TESTS)}::{node.name}")
    return found


@pytest.mark.parametrize("name", INVARIANTS)
def test_an_invariant_has_tests_that_name_it(name: str) -> None:
    assert guards()[name], f"{name}, {INVARIANTS[name]}: no test names it in its docstring or at the end of its name"


def test_names_and_docstrings_are_read() -> None:
    assert guarded("test_x_p12", "P3, P4: both.") == {"P3", "P4", "P12"}
    assert guarded("test_p100", "P99 of the images") == set()
