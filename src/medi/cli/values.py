"""What the text of an option means: lists, numbers, pairs, shards. A wrong text is an error that names its option."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from medi.core.errors import MediError
from medi.core.lists import join_commas, split_commas

RANGE = "LOW,HIGH"


def columns(given: Sequence[str] | None) -> list[str] | None:
    """The names of a list option, None where it was not given."""
    return split_commas(given) if given else None


def refuse_beside(what: str, others: Mapping[str, object]) -> None:
    """An error for the first other option that was given (true), where it would be passed over."""
    if given := [name for name, value in others.items() if value]:
        raise MediError(f"{what} does not go with {given[0]}; leave one of them out")


def number(text: str, option: str, example: str) -> float:
    """A number, or an error that shows an example."""
    try:
        return float(text)
    except ValueError as error:
        raise MediError(f"{option} {text!r} is not a number; expected {example}") from error


def interval(text: str, option: str) -> tuple[float, float]:
    """Two numbers from LOW,HIGH."""
    ends = [number(part, option, "0.2,5") for part in text.split(",")]
    if len(ends) != 2:
        raise MediError(f"{option} {text!r}: expected {RANGE}, such as 0.2,5")
    return ends[0], ends[1]


def three_numbers(text: str, option: str) -> tuple[float, ...]:
    """R,G,B as numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise MediError(f"{option} {text!r}: expected three numbers, such as 0.485,0.456,0.406") from error


def shard_of(text: str) -> tuple[int, int]:
    """Part and number of parts from I/N.

    >>> shard_of("0/4")
    (0, 4)
    """
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal()):
        raise MediError(f"--shard {text!r}: expected I/N, such as 0/4")
    return int(i), int(n)


def named_numbers(given: Sequence[str], option: str, example: str) -> dict[str, float]:
    """{"site": 0.1} from site=0.1; a number alone has the name "".

    >>> named_numbers(["class=1.5", "0.1"], "--guidance", "class=1.5")
    {'class': 1.5, '': 0.1}
    """
    pairs = [text.rpartition("=") for text in given]
    return {name: number(text, option, example) for name, _, text in pairs}


def folders(given: Sequence[str], form: str = "NAME=COHORT, such as medi=my-samples") -> dict[str, Path]:
    """{"medi": folder} from medi=FOLDER; a name stands for one folder. form: what is expected, with an example.

    >>> folders(["medi=my-samples"])
    {'medi': PosixPath('my-samples')}
    """
    pairs = [text.partition("=") for text in given]
    if wrong := next((text for text, pair in zip(given, pairs) if not (pair[0] and pair[2])), None):
        raise MediError(f"{wrong!r}: expected {form}")
    names = [name for name, _, _ in pairs]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise MediError(f"the name {twice[0]!r} is taken; give each name once")
    return {name: Path(folder) for name, _, folder in pairs}


def real_and_others(
    real: Path, synthetic: list[str] | None, features: Path | None
) -> tuple[Path, list[str] | None, Path | None]:
    """REAL, the synthetic sets and REAL's features; without REAL the features themselves, with columns of a table.

    >>> real_and_others(Path("medi=made.h5"), None, Path("real.h5"))
    (PosixPath('real.h5'), ['medi=made.h5'], None)
    """
    if features is None or "=" not in str(real) or real.exists():
        return real, synthetic, features
    return features, [str(real), *(synthetic or [])], None


def over_words(given: Sequence[str] | None) -> list[str]:
    """--over as it is typed again for the next verb."""
    return ["--over", join_commas(split_commas(given))] if given else []
