"""The dry run says what a study takes, checks what the run checks, and warns where a cohort is small."""

import re
from pathlib import Path

import pytest

from medi.core.errors import MediError
from medi.study.rehearsal import rehearse
from medi.study.settings import embedded_study, parse_study


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the quick study is rehearsed."""
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(scope="module")
def lines(empty: Path) -> list[str]:
    """What the dry run of the quick study says, with a classifier that guides."""
    quick = embedded_study(quick=True)
    sampling = {
        "sampling": {"guidance": {"classifier": 2}},
        "classifier": {"images": 6400, "batch": 16, "channels": [8]},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(empty)
        return rehearse(parse_study(quick.model_dump(mode="json") | sampling, "x.yaml"))


@pytest.mark.slow
def test_time_memory_disk_and_passes_are_said(lines: list[str], empty: Path) -> None:
    assert any(
        re.search(r"^classifier: 6,400 images train it: about [\d.]+ (s|minutes) on this machine", line)
        for line in lines
    )
    (training,) = [line for line in lines if line.startswith("training: ")]
    assert re.search(r"about [\d.]+ (s|minutes|hours) for both models on this machine", training)
    assert "by 3 updates of 16 images" in training
    assert re.search(r"[\d.]+ (MB|GB) of memory a model", training)
    assert re.search(r"each of the \d+ training patches is shown \d+ times", training)
    assert re.search(r"^disk: about [\d.]+ (MB|GB)$", lines[-1])
    assert list(empty.iterdir()) == [], "nothing is written"


def test_what_the_run_refuses_the_dry_run_refuses() -> None:
    with pytest.raises(MediError, match=r"evaluation\.stains: 'macenco' is unknown"):
        rehearse(parse_study({"evaluation": {"stains": ["macenco"]}}, "x.yaml"))
    with pytest.raises(MediError, match="nowhere"):
        rehearse(parse_study({"evaluation": {"encoders": ["torchscript:nowhere.pt"]}}, "x.yaml"))


@pytest.mark.slow
def test_a_long_training_names_one_that_is_soon_done(lines: list[str]) -> None:
    """The images that it names take about ten minutes by the rate that it says, and none are named below twenty."""
    quick = embedded_study(quick=True)
    long = quick.model_copy(update={"training": quick.training.changed(images=4_000_000)})
    told = rehearse(long)
    (named,) = [line for line in told if "for a first verdict in less time" in line]
    (rate,) = [
        float(found[1].replace(",", "")) for line in told if (found := re.search(r"\(([\d.,]+) images/s, by", line))
    ]
    (images,) = [int(found[1]) for found in [re.search(r"`training: \{images: (\d+)\}`", named)] if found]
    assert images % 1_000 == 0
    assert 2 * images / rate == pytest.approx(600, abs=2 * 1_000 / rate + 6)
    assert not any("for a first verdict" in line for line in lines)


@pytest.mark.slow
def test_small_cohorts_are_warned(lines: list[str]) -> None:
    """30 % of the combinations can take most of the patches; a few reserved patches cannot tell copies."""
    warned = [line for line in lines if line.startswith("warning: ")]
    assert any("training patches are reserved; the test for memorisation needs 19: --reserve 0." in w for w in warned)
