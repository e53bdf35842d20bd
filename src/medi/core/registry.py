"""Extension points: what a user adds by name, by one call or by an entry point of an installed package.

`medi.register("solver", "euler")` above a function adds a solver of that name. A package that is installed beside medi
adds the same with an entry point in the group `medi.solvers`. Study files, the command line and the library find both.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

from medi.core.errors import MediError, did_you_mean

Thing = TypeVar("Thing")
Kind = Literal["reader", "encoder", "network", "solver", "arm", "head", "metric"]


@dataclass
class Registry(Generic[Thing]):
    """The things of one kind by name: those that medi brings, those registered here, those of installed packages."""

    kind: str
    things: dict[str, Thing] = field(default_factory=dict)
    searched: bool = False  # for entry points, at the first name that is not known

    @property
    def group(self) -> str:
        """The group of entry points that is looked at: "medi.solvers" for solvers."""
        return f"medi.{self.kind}s"

    def add(self, name: str, thing: Thing) -> Thing:
        """Add a thing under a new name; a name that another thing has is refused."""
        if self.things.setdefault(name, thing) is not thing:
            raise MediError(f"{self.kind} {name!r} is there already; choose another name")
        return thing

    def fill(self, things: Mapping[str, Thing]) -> "Registry[Thing]":
        """Add several things, those that medi brings; gives the registry itself."""
        for name, thing in things.items():
            self.add(name, thing)
        return self

    def __getitem__(self, name: str) -> Thing:
        if name not in self.things:
            self._search()
        if name not in self.things:
            near = did_you_mean(name, self.things)
            raise MediError(f"{self.kind} {name!r} is unknown; known: {', '.join(self.things)}{near}")
        return self.things[name]

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> tuple[str, ...]:
        """All names, those of installed packages too."""
        self._search()
        return tuple(self.things)

    def _search(self) -> None:
        """Load the entry points of the group once; one that fails to load is an error that names it."""
        if self.searched:
            return
        self.searched = True
        for point in entry_points(group=self.group):
            _loading.append(point.name)  # a module may register what it brings itself
            try:
                self.things.setdefault(point.name, point.load())
            except Exception as error:
                raise MediError(f"entry point {point.name} of {self.group}: cannot be loaded ({error})") from error
            finally:
                _loading.remove(point.name)


_loaded: list[str] = []  # extensions of this process
_loading: list[str] = []  # those that are being loaded
_registered_here: list[str] = []  # names of things that no extension registered
REGISTRIES: dict[str, Registry[Any]] = {kind: Registry(kind) for kind in get_args(Kind)}


def registry(kind: Kind) -> Registry[Any]:
    """The one registry of a kind."""
    if kind not in REGISTRIES:
        raise MediError(f"nothing of kind {kind!r} can be registered; kinds: {', '.join(REGISTRIES)}")
    return REGISTRIES[kind]


def register(kind: Kind, name: str) -> Callable[[Thing], Thing]:
    """Add the decorated function or class under a name that study files and the command line then know.

    kind: "reader", "encoder", "network", "solver", "arm", "head" or "metric"; docs/how-to/extending.md says what each
    must be.
    MediError where the kind is unknown or the name is taken.

    >>> from medi.core.registry import register, registry
    >>> @register("solver", "one-jump")
    ... def one_jump(denoise, x, sigmas):
    ...     return denoise(x, float(sigmas[0]))
    >>> registry("solver")["one-jump"] is one_jump
    True
    """

    def add(thing: Thing) -> Thing:
        registry(kind).add(name, thing)
        if not _loading and not getattr(thing, "__module__", "").startswith("medi."):
            _registered_here.append(name)
        return thing

    return add


def registered_here() -> bool:
    """Whether this process registered things that the processes it starts do not know: those of no extension."""
    return bool(_registered_here)


def load_extensions(places: Sequence[str]) -> None:
    """Run what registers a user's things: modules by name, or Python files by path; each once in a process.

    MediError where one is not there or fails, with its name and the reason.
    """
    for place in places:
        if place in _loaded:
            continue
        _loading.append(place)
        try:
            _run_file(Path(place)) if place.endswith(".py") else import_module(place)
        except MediError:
            raise
        except FileNotFoundError as error:
            raise MediError(f"extension {place}: no such file") from error
        except Exception as error:
            line = (str(error).strip().splitlines() or ["no message"])[0]
            raise MediError(f"extension {place}: cannot be loaded ({type(error).__name__}: {line})") from error
        finally:
            _loading.remove(place)
        _loaded.append(place)


def extensions() -> tuple[str, ...]:
    """The extensions that this process has loaded, for processes that it starts."""
    return tuple(_loaded)


def _run_file(path: Path) -> None:
    """Import a file as a module of its own, so that classes in it have one."""
    name = f"medi_extension_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(path)
    sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
