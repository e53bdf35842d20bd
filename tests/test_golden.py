"""Files of format_version 1, written once and kept: what is older is read, what is newer is refused (DESIGN 2)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from golden.make import ROWS, SCHEMA
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.models.checkpoint import load_model
from medi.sampling.sampler import SamplerSettings, sample_images

GOLDEN = Path(__file__).parent / "golden"


def test_golden_checkpoint_still_makes_the_same_images_p1() -> None:
    """Vocabularies, weights, noise and sampler of then, within one grey level on any machine."""
    denoiser, _ = load_model(GOLDEN / "model.safetensors")
    assert denoiser.schema == SCHEMA
    images = sample_images(denoiser, ROWS, 7, SamplerSettings(steps=4, batch=3, precision="fp32"))
    then = np.array(json.loads((GOLDEN / "images.json").read_text()))
    assert then.std() > 10
    assert abs(images.astype(int) - then).max() <= 1


def test_golden_cohort_is_read_p6() -> None:
    cohort = Cohort.load(GOLDEN / "cohort")
    assert cohort.schema == SCHEMA
    assert cohort.table["sample_id"].tolist() == ["x", "y", "NA"]
    assert cohort.table["site"].tolist() == ["NA", "02", "not reported"]
    expected = seeds.generator("golden").integers(0, 256, (3, 8, 8, 3), dtype="uint8")
    assert (cohort.images[:] == expected).all()


def test_newer_files_are_refused(tmp_path: Path) -> None:
    with safe_open(GOLDEN / "model.safetensors", "pt") as handle:
        metadata = handle.metadata()
    save_file(load_file(GOLDEN / "model.safetensors"), tmp_path / "m.safetensors", metadata | {"format_version": "2"})
    with pytest.raises(MediError, match="format_version 2 is newer than 1"):
        load_model(tmp_path / "m.safetensors")
    shutil.copytree(GOLDEN / "cohort", tmp_path / "c")
    head = json.loads((tmp_path / "c/cohort.json").read_text())
    (tmp_path / "c/cohort.json").write_text(json.dumps(head | {"format_version": 2}))
    with pytest.raises(MediError, match="format_version 2 is newer than 1"):
        Cohort.load(tmp_path / "c")
