"""Jobs tell how far they are and end where they are stopped, between two evaluations of the network."""

from threading import Event

import pytest
import torch
from torch import nn

from medi.app.jobs import Jobs, Progress, Stopped, Tell, counted, watch
from medi.core.errors import MediError


def steps(network: nn.Module, n: int, done: list[int]):
    def work(tell: Tell) -> None:
        with counted(network, n, "steps", tell):
            for i in range(n):
                network(torch.zeros(1))
                done.append(i)
        tell("result")

    return work


def test_every_evaluation_is_told_and_the_result_comes_last() -> None:
    told = list(watch(steps(nn.Identity(), 3, []), Event()))
    assert told == [Progress(0, 3, "steps"), Progress(1, 3, "steps"), Progress(2, 3, "steps"), "result"]


def test_a_stop_ends_the_work_at_the_next_step_and_leaves_the_network_clean() -> None:
    stop, network, done = Event(), nn.Identity(), []
    job = watch(steps(network, 10_000, done), stop)
    next(job)
    stop.set()
    with pytest.raises(Stopped):
        assert "result" not in list(job)
    assert len(done) < 10_000
    assert list(watch(steps(network, 1, []), Event())) == [Progress(0, 1, "steps"), "result"], "no hook is left behind"


def test_who_no_longer_listens_stops_the_work() -> None:
    stop = Event()
    listening = watch(steps(nn.Identity(), 10_000, []), stop)
    next(listening)
    listening.close()
    assert stop.is_set()


def test_an_error_comes_through() -> None:
    def work(tell: Tell) -> None:
        raise MediError("no such level")

    with pytest.raises(MediError, match="no such level"):
        list(watch(work, Event()))


def test_a_new_job_of_the_same_page_ends_the_one_before() -> None:
    jobs = Jobs()
    first, other = jobs.start("a"), jobs.start("b")
    second = jobs.start("a")
    assert first.is_set()
    assert not second.is_set()
    jobs.stop("a")
    assert second.is_set()
    assert not other.is_set()
