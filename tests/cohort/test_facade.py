"""The road of a study in Python: a table becomes a split, packed cohort that shows itself."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medi
from medi.core.errors import MediError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with the names that a user's columns have, and its images."""
    drawn = medi.phantom(patches=400, seed=0)
    names = [f"{i}.png" for i in range(len(drawn))]
    for name, image in zip(names, drawn.images[:]):
        Image.fromarray(image).save(tmp_path / name)
    renamed = {"class": "diagnosis", "patient": "case", "slide": "wsi"}
    rows = drawn.table.rename(columns=renamed).assign(file=names)
    rows[["file", "diagnosis", "case", "wsi", "site"]].to_csv(tmp_path / "metadata.csv", index=False)
    return tmp_path / "metadata.csv"


@pytest.mark.slow
def test_from_a_table_to_a_plan(table: Path, tmp_path: Path) -> None:
    named = {"label": "diagnosis", "patient": "case", "slide": "wsi", "image": "file"}
    cohort = medi.read(str(table), attributes=["site"], **named)
    assert "patients" in str(cohort)
    assert "site" in str(cohort.audit())
    split = cohort.hold_out(over=["class", "site"], rate=0.2, seed=0)
    packed = split.pack(str(tmp_path / "packed"), size=32, workers=1)
    assert packed.holdout.certificate["ids"] == split.holdout.certificate["ids"]
    assert len(packed) == 400
    again = medi.read(tmp_path / "packed")
    assert again.digest() == packed.digest() == medi.Cohort.load(str(tmp_path / "packed")).digest()
    plan = packed.plan(to=30)
    assert plan.to_frame()["n"].sum() == len(plan)
    plan.save(str(tmp_path / "plan"))
    assert medi.Plan.load(str(tmp_path / "plan")).table.equals(plan.table)


@pytest.mark.slow
def test_results_show_themselves_and_escape_names_p11() -> None:
    cohort = medi.phantom(patches=100, seed=0)
    evil = cohort.with_columns(site=cohort.table["site"].replace("Alder", "<b>A"))
    schema = medi.Schema.infer(evil.table, ["site"])
    shown = medi.Cohort(evil.table, schema, evil.pixels)
    for result in (shown, shown.audit(), shown.plan(to=5)):
        assert "<b>A" not in result._repr_html_().replace("<p><b>", "")
        assert str(result)
    assert shown.audit().figure().axes


@pytest.mark.slow
def test_patches_are_shown_real_beside_synthetic() -> None:
    cohort = medi.phantom(patches=100, seed=0)
    made = medi.phantom(patches=100, seed=1).with_columns(origin="abc", patient="")
    figure = cohort.show(made, each=1)
    assert figure.axes
    assert "patients" not in str(made)
    small = medi.phantom(patches=100, seed=1, size=64)
    with pytest.raises(medi.MediError, match="differ in size"):
        cohort.show(small)


@pytest.mark.slow
def test_a_dataset_has_every_patch_once_with_its_codes_p1() -> None:
    cohort = medi.phantom(patches=60, seed=0)
    items = list(cohort.as_dataset())
    assert len(items) == 60
    codes = cohort.schema.encode(cohort.table)
    for i in (0, 17, 59):
        image, found = items[i]
        assert tuple(image.shape) == (3, 32, 32)
        np.testing.assert_allclose(image.numpy(), cohort.images[[i]][0].transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
        assert found == {name: column[i] for name, column in codes.items()}


@pytest.mark.slow
def test_what_is_missing_is_said() -> None:
    cohort = medi.phantom(patches=100, seed=0)
    with pytest.raises(medi.MediError, match="has no hold-out; call hold_out first"):
        _ = cohort.holdout
    bare = medi.Cohort(cohort.table, cohort.schema)
    with pytest.raises(medi.MediError, match="no images are known here"):
        bare.pack("anywhere", size=32)
    with pytest.raises(medi.MediError, match="these patches have 32 px already, not 64"):
        cohort.pack("anywhere", size=64)
    alone = cohort.with_columns(patient=cohort.table["sample_id"])
    assert "no column is the patient" in "".join(alone.warnings)


@pytest.mark.slow
def test_an_audit_tells_that_no_column_is_the_patient_p5(tmp_path: Path) -> None:
    """Defect 12: every patch became a patient of its own, a leak that the audit passed over."""
    cohort = medi.phantom(patches=100, seed=0)
    assert not any("no column is the patient" in note for note in cohort.audit().notes)
    found = cohort.with_columns(patient=cohort.table["sample_id"]).audit()
    assert "each of the 100 patches counts as a patient of its own" in found.notes[0]
    assert found.notes[0] in str(found)
    assert "no column is the patient" in found._repr_html_()
    assert medi.Audit.load(str(found.save(str(tmp_path)))).notes == found.notes


@pytest.mark.slow
def test_what_is_printed_tells_the_alarms() -> None:
    cohort = medi.phantom(patches=800, seed=0)
    found = cohort.with_columns(site=cohort.table["class"].replace(dict(zip(cohort.schema.classes.levels, "abcd"))))
    alarmed = medi.Cohort(found.table, medi.Schema.infer(found.table, ["site"])).audit()
    assert alarmed.alarms
    assert f"ALARM: {alarmed.alarms[0]}" in str(alarmed)


@pytest.fixture(scope="module")
def split() -> medi.Cohort:
    """All patches train."""
    return medi.phantom(patches=200, seed=0).with_columns(split="train")


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda cohort: cohort.where(site="Aldr"), "no site 'Aldr'; there are Alder, .*; did you mean 'Alder'?"),
        (lambda cohort: cohort.where(site=["Alder", "Brch"]), "no site 'Brch'; .*; did you mean 'Birch'?"),
        (
            lambda cohort: cohort.where(split="trane"),
            "no split 'trane'; there are .*test_unseen.*; did you mean 'train'?",
        ),
        (lambda cohort: cohort.audit(split="trane"), "no split 'trane'"),
        (lambda cohort: cohort.where(patient="nobody"), r"no patient 'nobody'; there are .*, and \d+ more"),
        (lambda cohort: cohort.plan(to=10, minimum=-3), "minimum = -3: give a whole number of images, 0 or more"),
    ],
)
def test_what_is_misspelled_is_refused_with_what_is_known(split: medi.Cohort, ask, words: str) -> None:
    """Defect: a level that no row has gave 0 rows, a plan for -1 images a plan of nothing, in silence."""
    with pytest.raises(MediError, match=words.replace("?", r"\?")):
        ask(split)
    assert len(split.where(split="validation")) == 0
    assert len(split.select(np.arange(1)).where(site=["Alder", "Birch"])) <= 1
    assert len(split.where(site="")) == 0
