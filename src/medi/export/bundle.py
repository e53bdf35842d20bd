"""One self-contained source file from definitions of this package, for folders that load where it is not installed.

Each definition is taken as it is written here, after those that it uses; imports of this package fall away, and what
nothing uses is left out. So there is one text of every formula.
"""

import ast
import inspect
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module

PACKAGE = __name__.partition(".")[0]


def bundle(module: str, name: str) -> str:
    """The source of `name` in `module` with everything that it needs from this package."""
    found = _Bundle()
    found.take(module, name)
    return "\n".join(sorted(found.imports)) + "".join(f"\n\n\n{piece}" for piece in found.pieces) + "\n"


@dataclass(frozen=True)
class _Source:
    """A module's text, its top-level definitions, and what it imports: names of ours and lines of others."""

    text: str
    definitions: dict[str, ast.stmt]
    ours: dict[str, tuple[str, str]]
    others: dict[str, str]


@dataclass
class _Bundle:
    imports: set[str] = field(default_factory=set)
    pieces: list[str] = field(default_factory=list)
    homes: dict[str, str] = field(default_factory=dict)  # a taken name and its module

    def take(self, module: str, name: str) -> None:
        source = _read(module)
        if name not in source.definitions:
            raise LookupError(f"{module} has no top-level {name}")
        if self.homes.setdefault(name, module) != module:
            raise LookupError(f"{name} is defined in {module} and in {self.homes[name]}; rename one")
        definition = source.definitions[name]
        piece = _text(source.text, definition)
        if piece in self.pieces:
            return
        for used in _names(definition):
            if used in source.ours and used not in self.homes:
                self.take(*source.ours[used])
            elif used in source.definitions and used not in self.homes:
                self.take(module, used)
            elif used in source.others:
                self.imports.add(source.others[used])
        self.pieces.append(piece)


@cache
def _read(module: str) -> _Source:
    text = inspect.getsource(import_module(module))
    source = _Source(text, {}, {}, {})
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            source.ours.update({alias.asname or alias.name: (str(node.module), alias.name) for alias in node.names})
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                line = type(node)(**{**vars(node), "names": [alias]})
                source.others[alias.asname or alias.name.partition(".")[0]] = ast.unparse(line)
        else:
            source.definitions.update(dict.fromkeys(_defined(node), node))
    return source


def _defined(node: ast.stmt) -> list[str]:
    """The names that a top-level statement defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def _names(node: ast.stmt) -> list[str]:
    """The names that a definition uses, in the order of the text."""
    return list(dict.fromkeys(found.id for found in ast.walk(node) if isinstance(found, ast.Name)))


def _text(text: str, node: ast.stmt) -> str:
    """The lines of a definition, decorators included."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
