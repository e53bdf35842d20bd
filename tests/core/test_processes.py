"""Workers side by side: what they reach together."""

from medi.core.processes import Summed


def test_a_summed_show_adds_up_its_workers() -> None:
    shown: list[tuple[int, int]] = []
    with Summed(lambda count, total: shown.append((count, total))).bars("0", "1") as (first, second):
        first(2, 10)
        second(3, 6)
        first(10, 10)
    assert shown == [(2, 10), (5, 16), (13, 16)]
