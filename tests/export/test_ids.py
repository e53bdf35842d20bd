"""What an exported table tells of whom: codes for the names of real patches, slides and patients."""

import pandas as pd
import pytest

from medi.cohort.schema import Schema
from medi.core.codes import code_of
from medi.export.ids import without_ids

REAL = pd.DataFrame(
    {
        "sample_id": ["Doe_1", "Doe_2", "Roe_1"],
        "patient": ["Doe", "Doe", "Roe"],
        "slide": ["d", "d", "r"],
        "class": ["A", "B", "A"],
        "site": ["x", "x", "y"],
        "noise_id": ["Doe_1", "Doe_2", "Roe_1"],
        "file": ["d.svs", "d.svs", "r.svs"],
        "share": ["0.5", "0.6", "0.7"],
        "grade": ["1", "1", "1"],
        "vendor": ["u", "u", "w"],
    },
    dtype="str",
)
MADE = REAL.assign(sample_id=["m1", "m2", "m3"], patient="", slide="", noise_id=["m1", "m2", "m3"], origin="a-model")


@pytest.fixture
def schema() -> Schema:
    return Schema.infer(REAL, ["site"])


def test_names_become_codes_wherever_they_stand(schema: Schema) -> None:
    key = bytes(32)
    found = without_ids(REAL, schema, key)
    assert found["patient"].tolist() == [code_of(key, "patient", name) for name in ("Doe", "Doe", "Roe")]
    assert found["noise_id"].tolist() == found["sample_id"].tolist()
    text = found.to_csv()
    assert not [name for name in ("Doe", "Roe", "d.svs", ",d,", ",r,") if name in text]
    same = ["class", "site", "share", "grade", "vendor"]
    assert found[same].equals(REAL[same]), "an attribute may tell patients apart, and numbers are no names"
    assert found["file"].nunique() == found["slide"].nunique() == 2
    moved = REAL.assign(origin="m", translated_from="x", source=REAL["sample_id"], sample_id=REAL["sample_id"] + "@y")
    assert without_ids(moved, schema, key)["source"].equals(found["sample_id"]), "translated patches show real ones"


def test_a_real_patch_of_nobody_known_has_a_code_too(schema: Schema) -> None:
    for nobody in (REAL.assign(patient="", slide=""), REAL.assign(patient="", slide="", origin="real")):
        found = without_ids(nobody, schema, bytes(32))
        assert not [name for name in ("Doe", "Roe") if name in found.drop(columns="file").to_csv()]
        assert found["noise_id"].tolist() == found["sample_id"].tolist()


def test_images_made_from_noise_keep_their_names(schema: Schema) -> None:
    assert without_ids(MADE, schema, bytes(32))[["sample_id", "noise_id"]].equals(MADE[["sample_id", "noise_id"]])
