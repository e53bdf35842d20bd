"""Annotations are enforced by beartype, and the sizes that a call has shown are kept in mind where shapes are written.

jaxtyping's own decorator checks the arguments of every call twice and binds them to their names; ours does so where a
shape names an argument alone. Studies take a tenth less time.
"""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial, wraps
from types import FunctionType
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import _storage
from jaxtyping._decorator import jaxtyped as WITH_NAMES  # the package's own name is ours after `install`

PACKAGE, ENFORCER = "medi", "shape_checks.by_beartype"
CALL = WITH_NAMES("context")  # holds nothing itself
Typechecker = Callable[..., Any]

by_beartype = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))


def install() -> None:
    """Every function and dataclass of medi that is imported from now on is checked."""
    _storage.clear_treeflatten_memo()  # or else each check begins with an exception
    jaxtyping.jaxtyped = enforced  # which the hook writes above all of them
    jaxtyping.install_import_hook(PACKAGE, ENFORCER)


def enforced(thing: Any = None, *, typechecker: Typechecker) -> Any:
    """The function, or the dataclass, whose annotations hold or else a call is an error."""
    if thing is None:
        return partial(enforced, typechecker=typechecker)
    if inspect.isclass(thing):
        if is_dataclass(thing) and not hasattr(thing.__init__, "is_enforced"):
            thing.__init__ = enforced(thing.__init__, typechecker=typechecker)
        return thing
    found = _checked(thing, typechecker)
    found.is_enforced = True
    return found


def _checked(function: FunctionType, typechecker: Typechecker) -> Any:
    hints = list(function.__annotations__.values())
    shapes = [shape for hint in hints for shape in _shapes(hint)]
    if inspect.isgeneratorfunction(function) or any("{" in shape.dim_str for shape in shapes):
        return WITH_NAMES(function, typechecker=typechecker)
    if shapes or any(map(_is_quoted, hints)):
        return _with_sizes(function, typechecker(_unquoted(function)))
    return typechecker(function)


def _with_sizes(function: FunctionType, strict: Typechecker) -> Callable[..., Any]:
    """In one call "n" is one number; what it calls has an "n" of its own."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with CALL:
            return strict(*args, **kwargs)

    return call


def _unquoted(function: FunctionType) -> FunctionType:
    """The function with its annotations in quotes as what they say; those that are not known yet say nothing."""
    twin = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__qualname__, twin.__kwdefaults__ = function.__qualname__, function.__kwdefaults__
    twin.__annotations__ = {name: _known(hint, function) for name, hint in function.__annotations__.items()}
    return twin


def _known(hint: Any, function: FunctionType) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, function.__globals__)
    except NameError:
        return Any


def _shapes(annotation: Any) -> list[Any]:
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return [annotation]
    return [shape for part in get_args(annotation) for shape in _shapes(part)]


def _is_quoted(annotation: Any) -> bool:
    """A name in quotes, which beartype would ask for where it is not known yet."""
    return isinstance(annotation, str | ForwardRef) or any(map(_is_quoted, get_args(annotation)))
