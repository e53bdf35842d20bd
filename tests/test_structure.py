"""The house: modules and functions stay short, the root holds rooms alone, and `import medi` is cheap."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import medi

PACKAGE = Path(medi.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES, MOST_FUNCTION_LINES, MEDIAN = 400, 60, 7


def functions() -> dict[str, int]:
    """Lines of every function and method, by its place."""
    found = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}"] = node.end_lineno - node.lineno + 1
    return found


def test_no_module_is_long() -> None:
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}


@pytest.mark.slow
def test_functions_are_short() -> None:
    lines = functions()
    assert not {name: count for name, count in lines.items() if count > MOST_FUNCTION_LINES}
    assert statistics.median(lines.values()) <= MEDIAN


def test_the_root_holds_rooms_alone() -> None:
    files = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert files == {"__init__.py", "py.typed"}
    for room in (path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"):
        assert ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))), room.name


def test_importing_medi_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, medi; print(sorted({'torch', 'pandas', 'numpy', 'diffusers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in medi.__all__ if not name.startswith("__")])
def test_everything_public_is_there_and_documented(name: str) -> None:
    thing = getattr(medi, name)
    assert thing.__doc__
    assert name in dir(medi)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        medi.trian  # noqa: B018
