"""Checkpoints: whole or one clear error (P11, P12)."""

import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from medi.cohort.combinations import counts
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.models import checkpoint
from medi.models.checkpoint import Checkpoint, load_checkpoint, load_model, load_tensors, save_model, save_tensors
from medi.models.denoiser import Denoiser
from medi.models.missing_conditions import check_met


def test_round_trip(denoiser: Denoiser, tmp_path) -> None:
    known = Checkpoint.of(denoiser, info={"note": "x"}, images=8, mpp=0.5)
    loaded, found = load_model(save_model(tmp_path / "m.safetensors", denoiser, known))
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), denoiser.state_dict().values()))
    assert loaded.schema == denoiser.schema
    assert replace(found, hash="") == known
    assert list(tmp_path.iterdir()) == [tmp_path / "m.safetensors"]  # nothing half-written is left


@pytest.mark.slow
def test_the_same_weights_and_settings_have_the_same_hash_p3(denoiser: Denoiser, tmp_path) -> None:
    """Whatever the order in which the file's header was written; it goes into every synthetic row as `origin`."""
    notes = ["x"] * 6 + ["y"]
    known = [Checkpoint.of(denoiser, info={"note": note}) for note in notes]
    paths = [save_model(tmp_path / f"{i}.safetensors", denoiser, each) for i, each in enumerate(known)]
    hashes = [load_model(path)[1].hash for path in paths]
    assert len(set(hashes[:6])) == 1
    assert len({path.read_bytes() for path in paths[:6]}) == 1, "and the files are the same to the last bit"
    assert hashes[6] != hashes[0]


def test_truncated_file_is_one_clear_error(denoiser: Denoiser, tmp_path) -> None:
    path = save_model(tmp_path / "m.safetensors", denoiser)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MediError, match=r"m\.safetensors: not a whole checkpoint"):
        load_model(path)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on files to stand for a full disk")
def test_a_full_disk_is_one_clear_error_and_the_old_file_stays(denoiser: Denoiser, tmp_path) -> None:
    """P12: here the system refuses to write more than 10 kB to a file."""
    import resource

    path = save_model(tmp_path / "m.safetensors", denoiser, Checkpoint.of(denoiser, info={"note": "old"}))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(
            MediError, match=r"m\.safetensors: cannot be written .*; free space or choose another folder"
        ):
            save_model(path, denoiser, Checkpoint.of(denoiser, info={"note": "new"}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_model(path)[1].info == {"note": "old"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_refused(denoiser: Denoiser, tmp_path) -> None:
    """One flipped bit in the weights; a site renamed in the header, which would make wrong images (P1)."""
    path = save_model(tmp_path / "m.safetensors", denoiser)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    (tmp_path / "bit.safetensors").write_bytes(content)
    with safe_open(path, "pt") as handle:
        metadata = handle.metadata()
    swapped = metadata["config"].replace('"levels": ["A", "B"]', '"levels": ["B", "A"]')
    assert swapped != metadata["config"]
    save_file(load_file(path), tmp_path / "header.safetensors", metadata | {"config": swapped})
    for name in ("bit", "header"):
        with pytest.raises(MediError, match=rf"{name}\.safetensors: its weights or settings are not those .* written"):
            load_model(tmp_path / f"{name}.safetensors")
    load_model(path)


def test_newer_format_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 2)
    path = save_tensors(tmp_path / "m.safetensors", {"a": torch.zeros(1)}, {})
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 1)
    with pytest.raises(MediError, match="format_version 2 is newer than 1"):
        load_tensors(path)


def test_foreign_weights_are_refused(denoiser: Denoiser, tmp_path) -> None:
    path = save_tensors(tmp_path / "m.safetensors", {"a": torch.zeros(1)}, denoiser.config())
    with pytest.raises(MediError, match="weights do not fit"):
        load_model(path)


def test_a_file_of_another_network_is_refused(tmp_path) -> None:
    save_tensors(tmp_path / "c.safetensors", {"w": torch.zeros(1)}, {"classifier": {}})
    with pytest.raises(MediError, match=r"c\.safetensors: is no diffusion model; `medi train` writes one"):
        load_model(tmp_path / "c.safetensors")


def test_absent_file_names_the_remedy(tmp_path) -> None:
    with pytest.raises(MediError, match="no such checkpoint; train the model first"):
        load_tensors(tmp_path / "none.safetensors")
    with pytest.raises(MediError, match=r"is a folder; name the file in it, such as .*model\.safetensors"):
        load_model(tmp_path)


def test_settings_of_version_0_1_are_read_by_their_names_of_today(denoiser: Denoiser, tmp_path) -> None:
    config = denoiser.config() | {"recipe": {"images": 96, "early": 32}}
    path = save_tensors(tmp_path / "m.safetensors", denoiser.state_dict(), config)
    assert load_checkpoint(path).recipe == {"images": 96, "early_average": 32}


def test_who_may_read_new_files_may_read_a_model(denoiser: Denoiser, tmp_path) -> None:
    """safetensors gives its files to their owner alone."""
    other = tmp_path / "any"
    other.touch()
    save_model(tmp_path / "model.safetensors", denoiser, Checkpoint.of(denoiser))
    assert (tmp_path / "model.safetensors").stat().st_mode == other.stat().st_mode


def test_a_number_that_every_training_row_had_was_never_met_missing(denoiser: Denoiser, cohort: Cohort) -> None:
    age = denoiser.schema.attribute("age")
    whole = cohort.with_columns(age="61")
    met = Checkpoint.of(denoiser, combinations=counts(whole.table, cohort.schema))
    assert not met.met_missing(age)
    assert Checkpoint.of(denoiser, combinations=counts(cohort.table, cohort.schema)).met_missing(age)
    assert Checkpoint.of(denoiser).met_missing(age), "taken for granted where the file does not say"
    rows = whole.table.assign(age=["61", "", *["61"] * (len(whole) - 2)])
    with pytest.raises(MediError, match="age is empty in row 1 to sample"):
        check_met("m", met, rows)
