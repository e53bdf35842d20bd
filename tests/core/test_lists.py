"""Lists in one text: names with commas, quotes and blanks come back as they were."""

import pytest

from medi.core.errors import MediError
from medi.core.lists import join_commas, split_at, split_commas

NAMES = ["A", "Adenocarcinoma, NOS", '"quoted"', '5" slide', " blank ", "a x b", 'both, "of them"', "é,ü"]


def test_names_come_back_as_they_were() -> None:
    assert split_commas([join_commas(NAMES)]) == NAMES
    assert [split_commas([join_commas([name])]) for name in NAMES] == [[name] for name in NAMES]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ["a", "b"]),
        (" a , , b ,", ["a", "b"]),
        ('"a, b" , c', ["a, b", "c"]),
        ('5" slide,c', ['5" slide', "c"]),
        ("", []),
    ],
)
def test_names_between_commas(text: str, names: list[str]) -> None:
    assert split_commas([text]) == names


@pytest.mark.parametrize("text", ['"a, b', '"a" b,c', 'a,"b'])
def test_an_open_quote_is_refused(text: str) -> None:
    with pytest.raises(MediError, match="a quote is not closed"):
        split_commas([text])


def test_levels_between_other_marks() -> None:
    assert list(split_at("LUAD x Rome", " x ")) == ["LUAD", "Rome"]
    assert list(split_at('"10 x 10" x "a, b"', " x ")) == ["10 x 10", "a, b"]
