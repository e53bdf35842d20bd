"""What every other test relies on: a wrong shape, type or result of any function of medi is an error."""

from dataclasses import dataclass

import numpy as np
import pytest
from jaxtyping import Float64, TypeCheckError

from medi.core.locks import Holder
from medi.evaluation.statistics import Estimate, holm
from shape_checks import by_beartype, enforced


def kept(values: Float64[np.ndarray, " n"], weights: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    return values[weights > 0]


def inner(values: Float64[np.ndarray, " n"]) -> "Float64[np.ndarray, ' n']":
    return kept(values[1:], values[1:])[:0]


@dataclass
class Pair:
    left: Float64[np.ndarray, " n"]
    right: Float64[np.ndarray, " n"]
    next: "Pair | None" = None


def test_the_sizes_of_one_call_agree() -> None:
    check, ones = enforced(kept, typechecker=by_beartype), np.ones(3)
    assert check(ones, weights=ones).tolist() == [1, 1, 1]
    for wrong in ((ones, np.ones(2)), (ones, ones.astype(np.float32)), (ones, [1.0]), (ones, np.arange(3.0))):
        with pytest.raises(TypeCheckError):
            check(*wrong)
    with pytest.raises(TypeCheckError):
        enforced(inner, typechecker=by_beartype)(ones)
    made = enforced(Pair, typechecker=by_beartype)
    assert made(ones, ones, made(ones, ones)).next.next is None
    with pytest.raises(TypeCheckError):
        made(ones, np.ones(2))


def test_functions_and_dataclasses_of_medi_are_checked() -> None:
    for wrong in (lambda: holm(np.ones((2, 2))), lambda: Estimate("1"), lambda: Holder(host=1), lambda: holm([1.0])):
        with pytest.raises(TypeCheckError):
            wrong()
    assert Estimate(1.0).noting("a").reason == "a"
