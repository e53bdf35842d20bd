"""One self-contained source file from definitions of this package, for folders that load where it is not installed.

Each definition is taken as it is written here, after those that it uses; imports of this package fall away, and what
nothing uses is left out. So there is one text of every formula.
"""

import ast
import inspect
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module

LEFT_OUT = ("validated",)  # decorators, first in line, that check what a user writes and would need pydantic there
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
    homes: dict[str, str] = field(default_factory=dict)  # a taken name, and its module or its line of import

    def take(self, module: str, name: str) -> None:
        """Add a definition after those that it uses; LookupError where two modules mean different things by a name."""
        source = _read(module)
        if name not in source.definitions:
            raise LookupError(f"{module} has no top-level {name}")
        self._own(name, module)
        definition = source.definitions[name]
        piece = _text(source.text, definition)
        if piece in self.pieces:
            return
        for used in _names(definition):
            home, own_name = source.ours.get(used, (module, used))
            if own_name != used:
                raise LookupError(f"{module} calls {home}.{own_name} {used}; import it by its own name")
            if used in source.others:
                self._own(used, source.others[used])
                self.imports.add(source.others[used])
            elif (used in source.ours or used in source.definitions) and self.homes.get(used) != home:
                self.take(home, used)
        self.pieces.append(piece)

    def _own(self, name: str, home: str) -> None:
        """Note that a name means what it means in this module, or in this line of import; refuse a second meaning."""
        if (found := self.homes.setdefault(name, home)) != home:
            raise LookupError(f"{name} is defined in {home} and in {found}; rename one")


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
    """The names that a definition uses, in the order of the text; not those of its LEFT_OUT decorators."""
    parts = [part for part in ast.iter_child_nodes(node) if not _is_left_out(part)]
    found = (name for part in parts for name in ast.walk(part))
    return list(dict.fromkeys(name.id for name in found if isinstance(name, ast.Name)))


def _is_left_out(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in LEFT_OUT


def _text(text: str, node: ast.stmt) -> str:
    """The lines of a definition with its decorators, but for those of LEFT_OUT."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
    kept = [decorator.lineno for decorator in decorators if not _is_left_out(decorator)]
    return "\n".join(text.splitlines()[min([node.lineno, *kept]) - 1 : node.end_lineno])
