"""The verbs transfer and adapt as a user runs them: cohorts, single images, folders; mistakes are one line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from command_line import Medi, fine, refused
from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort, concatenate
from medi.core import seeds
from medi.models.checkpoint import Checkpoint, load_model, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.training.style import StyleSettings, train_style

SCHEMA = Schema(Attribute("class", levels=("LUAD", "LUSC")), (Attribute("site", levels=("NA", "X", "Y")),))
QUICK = ("--steps", 2, "--batch", 4)


@pytest.fixture
def verb(medi: Medi, tmp_path: Path) -> Medi:
    """medi in a folder that has a model, a packed cohort, and the same patches as images."""
    torch.manual_seed(0)
    denoiser = Denoiser(NetworkSettings(size=8, fold=4, channels=(8,), layers=1), SCHEMA)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    known = {"columns": ["class", "site"], "rows": [["LUAD", "X", 9], ["LUSC", "Y", 9]]}
    config = {"recipe": {"dropout": 0.1}, "combinations": known, "mpp": 0.5}
    save_model(Path("m/model.safetensors"), denoiser, Checkpoint.of(denoiser, **config))
    images = seeds.generator("patches").integers(90, 200, (6, 8, 8, 3), dtype=np.uint8)
    table = pd.DataFrame({"sample_id": [f"s{i}" for i in range(6)], "class": ["LUAD", "LUSC"] * 3})
    table = table.assign(patient="p", slide="p", site=["X", "Y", "Y"] * 2)
    Cohort(table, SCHEMA, Pixels.of(images)).save(Path("c"))
    Path("images").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(f"images/{i}.png")
    return medi


@pytest.mark.slow
def test_a_cohort_at_another_level(verb: Medi) -> None:
    shown = fine(verb("transfer", "m", "c", "--to", "X", "--out", "t", *QUICK))
    assert "translated: 4 patches to site X, dpm_solver_2m, 2 steps" in shown
    made = Cohort.load(Path("t"))
    assert set(made.table["site"]) == {"X"}
    assert Image.open("t/grid.png").size == (2 * 96, 6 * 96), "patches of 8 px, enlarged"
    before = Path("t/pixels.npy").stat().st_mtime_ns
    fine(verb("transfer", "m", "c", "--to", "X", "--out", "t", *QUICK))
    assert Path("t/pixels.npy").stat().st_mtime_ns == before, "done before"


@pytest.mark.slow
def test_a_style_model_shows_patches_too(verb: Medi) -> None:
    """As of a study: levels without a training patch are unknown to it, options of a MeDi model are refused."""
    table = pd.DataFrame({"sample_id": list("abcd"), "class": ["LUAD", "LUAD", "LUSC", "LUSC"], "site": list("XYXY")})
    images = Pixels.of(np.full((4, 8, 8, 3), 128, dtype=np.uint8))
    cohort = Cohort(table.assign(patient="p", slide="p"), SCHEMA, images)
    train_style(cohort, "site", Path("run/style-model"), StyleSettings(4, 4, 4, 1), seed=0)
    given = ("transfer", "run/style-model", "c")
    shown = fine(verb(*given, "--to", "all", "--out", "t"))
    assert "translated: 6 patches to site X, Y, style" in shown
    assert Cohort.load(Path("t")).table["site"].tolist() == ["Y", "X", "X"] * 2
    refused(
        verb("transfer", "run/style-model", "c", "--to", "NA", "--out", "u"), "site 'NA' (row 0) is unknown", "X, Y"
    )
    refused(verb("transfer", "run/style-model", "c", "--to", "X", "--steps", 4, "--out", "u"), "of a MeDi model")
    refused(verb("transfer", "run/style-model", "images", "--to", "X", "--out", "u"), "site of a patch is not known")


@pytest.mark.slow
def test_one_image_at_all_levels(verb: Medi) -> None:
    """A level called NA is a level (P6); the class is not known and goes by the null vector."""
    fine(verb("transfer", "m", "images/0.png", "--known", "site=Y", "--to", "all", "--own", "--out", "t", *QUICK))
    made = Cohort.load(Path("t"))
    assert made.table["site"].tolist() == ["NA", "X", "Y"]
    assert made.table["class"].tolist() == ["", "", ""]
    singles = sorted(Path("t/images").glob("*.png"))
    assert len(singles) == 3
    grid = np.asarray(Image.open("t/grid.png"))[::12, ::12]
    np.testing.assert_array_equal(grid[:, :8], np.asarray(Image.open("images/0.png")))
    np.testing.assert_array_equal(grid[:, 8:16], made.images[:][0])


@pytest.mark.slow
def test_a_common_change(verb: Medi) -> None:
    """For whole cohorts; a few patches have nothing in common."""
    shared = ("transfer", "m", "c", "--to", "all", *QUICK)
    refused(verb(*shared, "--common", 1, "--out", "few"), "are too few to learn a common change from")
    cohort = Cohort.load(Path("c"))
    twice = [cohort.with_columns(sample_id=cohort.table["sample_id"] + str(i)) for i in range(5)]
    concatenate(twice).save(Path("c"))
    fine(verb(*shared, "--common", 9, "--out", "t"))
    made = Cohort.load(Path("t"))
    assert len(made) == 2 * 30
    for _, rows in made.table.groupby(["translated_from", "site", made.table["source"].str[:2]]):
        images = made.images[rows.index.to_numpy()]
        assert (images == images[0]).all(), "the same patch, the same change"


@pytest.mark.slow
def test_a_grid_of_mixes_and_shards(verb: Medi) -> None:
    shared = ("transfer", "m", "images", "--known", "site=Y,class=LUAD", "--to", "X:0.5+Y:0.5", "--out", "t", *QUICK)
    assert "shard 1/2 is done" in fine(verb(*shared, "--shard", "1/2"))
    assert "translated: 6 patches" in fine(verb(*shared, "--shard", "0/2"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["c", "--to", "Mars"], "site 'Mars' (row 0) is unknown; known levels: NA, X, Y"),
        (["c", "--to", "X", "--attribute", "stain"], "'stain' is no attribute; known: class, site"),
        (["c", "--to", "X", "--strength", "2"], "strength 2: expected more than 0"),
        (["c", "--to", "X", "--known", "site"], "--known 'site': expected NAME=LEVEL"),
        (["c", "--to", "X", "--known", "class=Mars"], "class 'Mars' (row 0) is unknown"),
        (["none", "--to", "X"], "none: no such file or folder"),
        (["m", "--to", "X"], "m: no images here"),
        (["large.png", "--to", "X"], "the patches have 16 px, the model makes 8 px; pack them with --size 8"),
        (["long.png", "--to", "X"], "long.png: has 16 x 8 px, patches must be square"),
        (["broken.png", "--to", "X"], "broken.png: not readable as an image"),
        (["t.csv", "--to", "X"], "t.csv: is no image (.jpg,"),
        (
            ["fine", "--to", "X"],
            "have 0.25 micrometres per pixel, the model was trained at 0.5; pack them with --to-mpp",
        ),
    ],
)
def test_mistakes_are_one_line(options: list[str], words: str, verb: Medi) -> None:
    Cohort.load(Path("c")).with_columns(mpp="0.25").save(Path("fine"))
    Image.new("RGB", (16, 16)).save("large.png")
    Image.new("RGB", (16, 8)).save("long.png")
    Path("broken.png").write_bytes(b"no image")
    Path("t.csv").write_text("image\nlarge.png\n")
    refused(verb("transfer", "m", *options, "--out", "t", *QUICK), words)
    assert not Path("t").exists()


@pytest.mark.slow
def test_a_new_hospital_from_a_folder_of_images(verb: Medi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapt, then sample, then join: a name with blanks and dots is a level like any other."""
    from medi.training.adaptation import adapt

    quick = adapt.AdaptSettings(vector_images=32, tune_images=32, batch=16)
    monkeypatch.setattr(adapt, "AdaptSettings", lambda seed: quick)
    shown = fine(verb("adapt", "m", "images", "--name", "St. Elsewhere", "--out", "a"))
    assert "site St. Elsewhere from 6 patches: vector" in shown
    Path("plan.csv").write_text("class,site,n\nLUAD,St. Elsewhere,3\n")
    fine(verb("sample", "a", "plan.csv", "--out", "s", *QUICK))
    assert "joined 1 levels" in fine(verb("adapt", "join", "m", "a/level.safetensors", "--out", "j"))
    assert load_model(Path("j/model.safetensors"))[0].schema == load_model(Path("a/model.safetensors"))[0].schema
    shown = fine(verb("adapt", "m", "images", "--name", "Z", "--rehearse", "c", "--known", "class=LUAD", "--out", "b"))
    assert "loss on old patches" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["images", "--name", "X"], "site 'X' exists; known levels: NA, X, Y; choose another name"),
        (["images", "--name", "Z", "--attribute", "stain"], "'stain' is no attribute; known: class, site"),
        (["images", "--name", "Z", "--out", "m"], "m: holds a model already; choose another folder for --out"),
        (["images/0.png", "--name", "Z"], "1 patches are too few to learn a level from; give at least 5"),
        (["large", "--name", "Z"], "the patches have 16 px, the model makes 8 px; pack them with --size 8"),
        (["fine", "--name", "Z"], "have 0.25 micrometres per pixel, the model was trained at 0.5"),
        (
            ["glass", "--name", "Z"],
            "4.png: 0% of its pixels are tissue (1 of 6 patches under 10%); leave such patches out",
        ),
        (["images", "--name", "Z", "--rehearse", "large"], "large: no cohort"),
        (["none", "--name", "Z"], "none: no such file or folder"),
    ],
)
def test_patches_that_no_level_is_learned_from(options: list[str], words: str, verb: Medi) -> None:
    """One line, nothing written, the old checkpoint untouched."""
    Cohort.load(Path("c")).with_columns(mpp="0.25").save(Path("fine"))
    for folder in ("large", "glass"):
        Path(folder).mkdir()
    for i in range(6):
        pink = Image.new("RGB", (8, 8), (200, 120, 180))
        pink.resize((16, 16)).save(f"large/{i}.png")
        (Image.new("RGB", (8, 8), "white") if i == 4 else pink).save(f"glass/{i}.png")
    before = Path("m/model.safetensors").read_bytes()
    refused(verb("adapt", "m", *(["--out", "d"] if "--out" not in options else []), *options), words)
    assert not Path("d").exists()
    assert Path("m/model.safetensors").read_bytes() == before
