"""Annotations are enforced: by jaxtyping where a shape is written, elsewhere by beartype alone, which is quicker."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, ForwardRef, get_args

import jaxtyping

PACKAGE, ENFORCER = "medi", "beartype.beartype"
WITH_SHAPES = jaxtyping.jaxtyped


def install() -> None:
    """Every function and dataclass of medi that is imported from now on is checked."""
    jaxtyping.jaxtyped = enforced  # which the hook writes above all of them
    jaxtyping.install_import_hook(PACKAGE, ENFORCER)


def enforced(thing: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """jaxtyping's `jaxtyped` keeps in mind the sizes that a call has shown, which only a function with shapes needs."""
    if thing is None:
        return partial(enforced, typechecker=typechecker)
    if inspect.isfunction(thing) and not any(map(_for_jaxtyping, thing.__annotations__.values())):
        found = typechecker(thing)
        found.is_enforced = True
        return found
    if inspect.isclass(thing) and hasattr(thing.__init__, "is_enforced"):  # one that was put in a dataclass's place
        return thing
    return WITH_SHAPES(thing, typechecker=typechecker)


def _for_jaxtyping(annotation: Any) -> bool:
    """It has a shape, or a name in quotes, which beartype would ask for and jaxtyping leaves alone."""
    if isinstance(annotation, str | ForwardRef):
        return True
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(map(_for_jaxtyping, get_args(annotation)))
