"""Settings are checked where they are made: a wrong value is one MediError that names the field, and what is known."""

import inspect
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from medi.core.errors import MediError

T = TypeVar("T")
_adapter = cache(TypeAdapter)


def validated(cls: type[T]) -> type[T]:
    """Check the fields of a dataclass against their annotations whenever one is made; stands above `@dataclass`.

    Lists become tuples and whole floats integers where the annotation says so. MediError for any other value of a
    wrong type, for one that a Literal does not list, and for a field that does not exist.

    >>> from dataclasses import dataclass
    >>> from typing import Literal
    >>> @validated
    ... @dataclass(frozen=True)
    ... class Oven:
    ...     degrees: int = 180
    ...     heat: Literal["top", "bottom"] = "top"
    >>> Oven(200.0)
    Oven(degrees=200, heat='top')
    >>> Oven(heat="left")
    Traceback (most recent call last):
    medi.core.errors.MediError: Oven: heat is 'left'; input should be 'top' or 'bottom'
    """
    signature = inspect.signature(cls.__init__)
    cls.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    cls.__init__ = _checked(cls, signature)  # type: ignore[method-assign]
    return cls


def _checked(cls: type, signature: inspect.Signature) -> Callable[..., None]:
    @wraps(cls.__init__)  # type: ignore[misc]
    def initialise(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            given = signature.bind(self, *args, **kwargs).arguments
            made = _adapter(cls).validate_python({name: value for name, value in given.items() if value is not self})
        except TypeError as error:
            known = ", ".join([*signature.parameters][1:])
            raise MediError(f"{cls.__name__}: {error}; its settings are {known}") from error
        except ValidationError as error:
            raise MediError(f"{cls.__name__}: {problems(error)}") from error
        vars(self).update(vars(made))

    return initialise


def problems(error: ValidationError) -> str:
    """What is wrong with some settings: "optimizer is 'adam'; input should be 'adamw' or 'muon'"."""
    return ", and ".join(
        f"{'.'.join(map(str, each['loc']))} is {each['input']!r}; {each['msg'][0].lower()}{each['msg'][1:]}"
        for each in error.errors()
    )
