"""A tiny finished run, and the workbench on it."""

from pathlib import Path

import pytest

import tiny_run
from medi.app.workbench import Workbench


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.write_run(tmp_path_factory.mktemp("app") / "run")


@pytest.fixture
def bench(run_folder: Path, tmp_path: Path) -> Workbench:
    return Workbench(run_folder, tmp_path)
