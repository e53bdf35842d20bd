"""Where tensors go, as the user says."""

import os

import pytest
import torch

from medi.core.devices import VISIBLE, device, use_device
from medi.core.errors import MediError


def test_the_cpu_can_be_asked_for_and_workers_inherit_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0")
    use_device("auto")
    assert os.environ[VISIBLE] == "0"
    use_device("cpu")
    assert os.environ[VISIBLE] == ""


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", ""])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(MediError, match="known: auto, cpu, cuda, cuda:N"):
        use_device(name)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(VISIBLE, "2,5")
    with pytest.raises(MediError, match="cuda:9: there is no such GPU here"):
        use_device("cuda:9")
    with pytest.raises(MediError, match="no such GPU"):
        use_device("cuda:1")
    assert os.environ[VISIBLE] == "-1", "after cuda:9 nothing is left to choose from"
    assert device().type == "cpu"


def test_a_gpu_is_one_of_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv(VISIBLE, "2,5")
    use_device("cuda:1")
    assert os.environ[VISIBLE] == "5"
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MediError, match="torchrun gives every process its own GPU"):
        use_device("cuda:0")
