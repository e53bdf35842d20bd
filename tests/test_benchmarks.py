"""The benchmark that needs a GPU: its code runs here on tiny networks, so that it works where a GPU is paid for."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


def test_gpu_benchmark_runs_small_on_any_machine(gpu: ModuleType, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--quick", "--presets", "paper"])
    gpu.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["topic"] == "gpu"
    figures = found["figures"]
    assert figures["training_paper_over_plain"]["target"] == ">= 2"
    assert all(
        figures[f"{what}_images_per_second"]["value"] > 0 for what in ("training_paper_recorded", "sampling_paper_bf16")
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU to measure")
def test_gpu_benchmark_says_that_there_is_none(gpu: ModuleType, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    gpu.main()
    assert capsys.readouterr().out == (
        "skipped: this machine has no GPU that torch can use; --quick runs the code on a CPU\n"
    )
