"""The verb app refuses what it cannot show; tests/browser runs it."""

import sys
from pathlib import Path

import pytest

from command_line import Medi, refused


@pytest.mark.slow
def test_a_folder_that_is_no_run(medi: Medi, tmp_path: Path) -> None:
    refused(medi("app", "nowhere"), "nowhere: no such run folder; `medi demo --out nowhere` makes one")
    Path("empty").mkdir()
    refused(medi("app", "empty"), "empty: no run to show (run.json is missing)")
    assert not list(Path("empty").iterdir()), "its own folder goes away"
    refused(medi("app", "empty", "--port", "0"), "--port")


def test_without_gradio_it_says_what_to_install(medi: Medi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    Path("run").mkdir()
    refused(medi("app", "run"), "the app needs gradio: pip install 'medi-histo[app]'")
