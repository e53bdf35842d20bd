"""A study of one's own cohort through the CLI: images on disk and a table, or packed; held-out patches set aside."""

import signal
import time
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from command_line import NO_PICTURES, Medi, fine, here, refused
from medi.cohort import phantom
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import read_json, read_table
from medi.core.locks import holder
from medi.core.progress import Silent
from medi.models.checkpoint import load_model, load_tensors
from medi.models.classifier import load_classifier
from medi.models.style import load_style
from medi.study.context import reopen
from medi.study.settings import CohortSettings, find_study, read_study
from medi.study.sources import source_of
from medi.training.loop import EARLY
from medi.training.presets import preset
from real_processes import begin, ended, medi_into

SITES = ("Alder", "Birch", "Cedar")
HELD = [["solid", "Alder"], ["spindle", "Birch"]]
STUDY = {
    "title": "own",
    "attribute": "site",
    "cohort": {
        "source": "patches/metadata.csv",
        "read": {"kind": "table", "attributes": ["site"], "label": "class", "image": "file"},
        "size": 32,
    },
    "holdout": {
        "kind": "named",
        "held": HELD,
        "set_aside": True,
        "test_seen": 0.4,
        "validation": 0.1,
        "min_patients": 1,
    },
    "network": {"size": 32, "fold": 4, "channels": [16, 16]},
    "training": {"images": 128, "batch": 16, "save_every": 64, "early_average": 64},
    "plan": {"to": 20, "minimum": 12},
    "sampling": {"steps": 3, "guidance": {"autoguidance": 0.5, "interval": [0.0, 1.0], "classifier": 1}},
    "classifier": {"images": 32, "batch": 16, "channels": [8]},
    "utility": {"recommend": ["logistic"], "with_models": 1},
    "evaluation": {
        "distance_images": 12,
        "encoders": ["colour-texture", "imagenet", "learned"],
        "learned_images": 512,
        "translated": True,
        "style": True,
        "style_images": 64,
        "arms": ["group_dro", "site_centred"],
    },
}


TINY = STUDY | {
    "training": {"images": 480, "batch": 16, "save_every": 80},
    "sampling": {"steps": 2},
    "evaluation": {"distance_images": 12, "arms": ["none"]},
    "utility": {"recommend": ["none"]},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Patches of 2 classes x 3 sites as PNG files, every patient with both classes, a table and a study file.

    The class of one patch of each combination is not known.
    """
    folder = tmp_path_factory.mktemp("own")
    cells = [(name, site) for name in ("solid", "spindle") for site in SITES]
    cohort = phantom.fresh(cells, 40, 0, "own", 32, 4)
    (folder / "patches").mkdir()
    for name, image in zip(cohort.table["sample_id"], cohort.images[:]):
        Image.fromarray(image).save(folder / "patches" / f"{name}.png")
    table = cohort.table[["sample_id", "class", "site"]]
    slide = cohort.table.groupby(["class", "site"]).cumcount().floordiv(4).astype(str)
    table = table.assign(
        file=table["sample_id"] + ".png", patient=table["site"] + slide, slide=table["site"] + "s" + slide
    )
    table["class"] = table["class"].mask(np.arange(len(table)) % 40 == 39, "")
    table.to_csv(folder / "patches" / "metadata.csv", index=False)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return folder


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    """The folder of the finished study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*NO_PICTURES)
        fine(here("run", home / "study.yaml", "--out", home / "run"))
    return home / "run"


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_a_folder_of_patches_with_a_table_becomes_a_report_p5(run: Path, medi: Medi, home: Path) -> None:
    results = read_json(run / "results.json")
    assert {"real", "cls", "medi", "oracle"} <= set(results["balanced_accuracy"]["unseen"])
    assert set(results["frechet"]["unseen"]) == {"floor", "cls", "medi"}
    assert results["phantom"] == ""
    assert (run / "report.html").stat().st_size > 50_000
    assert {path.name for path in (run / "sheets").iterdir()} == {f"{site}.png" for site in SITES}
    measured = read_table(run / "tables" / "fidelity.parquet")
    assert {label.split(" ")[0] for label in measured["encoder"]} == {"colour-texture", "imagenet", "learned"}
    further = read_table(run / "tables" / "by_encoder.parquet")
    assert {"as_asked", "detectability", "mean_recall", "mean_recall_difference"} <= set(further["metric"])
    for found, name in zip(results["by_encoder"], ("imagenet", "learned"), strict=True):
        assert found["encoder"]["name"] == name
        assert set(found["frechet"]["unseen"]) == {"floor", "cls", "medi"}
        compared = {"real", "cls", "medi", "oracle", "translated", "style", "pure_noise", "group_dro", "site_centred"}
        assert compared <= set(found["mean_recall"]["all"]), "every training set, also those that need no generator"
        assert set(found["as_asked"]["class"]["unseen"]) == {"real", "cls", "medi"}
    split = read_table(run / "holdout" / "split.parquet").set_index("sample_id")["split"]
    table = Cohort.load(run / "cohort").table
    table = table.assign(split=table["sample_id"].map(split))
    held = pd.Series(list(zip(table["class"], table["site"]))).isin([tuple(cell) for cell in HELD])
    assert set(table["split"][held]) == {"test_unseen", "set_aside"}
    tests = table["split"].isin(["test_seen", "test_unseen"])
    assert not set(table["patient"][tests]) & set(table["patient"][~tests])
    utility = read_table(run / "tables" / "utility.parquet")
    overall = utility[(utility["metric"] == "balanced_accuracy") & (utility["scope"] == "all")]
    trained = dict(zip(overall["arm"], overall["n_train"]))
    assert set(utility["class"]) == {"", "solid", "spindle"}, "rows without a class are no class"
    assert not (utility["class"].eq("") & utility["scope"].isin(["class", "combination"])).any()
    known = table["class"] != ""
    assert trained["real"] == (table["split"].eq("train") & known).sum()
    assert (
        overall.set_index(["arm", "split"])["n_real"]["real", "all"]
        == (table["split"].isin(["test_seen", "test_unseen"]) & known).sum()
    )
    aside = (table["split"] == "set_aside").sum()
    assert trained["real"] < trained["oracle"] <= trained["real"] + aside
    for model in ("cls", "medi"):
        made, early = Cohort.load(run / "samples" / model), load_model(run / "models" / model / EARLY)[1]
        assert (early.images, made.info["autoguidance_model"]) == (64, early.hash)
        assert set(made.table["guidance"]) == {"autoguidance=0.5, classifier=1 for sigma 0 to 1"}
        assert made.info["classifier"] == load_classifier(run / "classifier").hash, "one guides both"
    remedies = read_table(run / "tables" / "recommend.parquet").set_index("set")
    assert remedies["reason"]["medi"] == remedies["reason"]["cls"] == "judged with models of 1 inner hold-out"
    assert remedies.loc[["real", "cls", "medi"], ["value", "true"]].notna().all(axis=None)
    translated = Cohort.load(run / "translated").table
    assert trained["translated"] == trained["real"] + len(translated) <= trained["medi"]
    assert set(translated["patient"]) <= set(table["patient"][table["split"] == "train"])
    styled, learned = Cohort.load(run / "style").table, load_style(run / "style-model" / "style.safetensors")
    assert styled["sample_id"].tolist() == translated["sample_id"].tolist(), "the same patches at the same levels"
    assert trained["style"] == trained["translated"]
    assert set(styled["origin"]) == {learned.hash}
    assert learned.config["data"] == reopen(run).split().where(split="train").digest(), "training patches alone"
    again = fine(medi("run", home / "study.yaml", "--out", run))
    assert "cohort: 240 patches" in again
    assert again.count("(done before)") >= 9


@pytest.mark.slow
@pytest.mark.usefixtures("no_page")
def test_killed_run_goes_on_and_ends_with_the_same_numbers(home: Path, tmp_path: Path) -> None:
    """P4, P12: SIGKILL in the middle; the same command gives the figures of an uninterrupted run."""
    (home / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    running = begin(medi_into, tmp_path / "said.txt", "run", home / "tiny.yaml", "--out", cut)
    log, deadline = cut / "models" / "medi" / "log.jsonl", time.monotonic() + 300
    while not log.exists() and time.monotonic() < deadline and running.is_alive():
        time.sleep(0.01)
    running.kill()
    assert ended(running) == -signal.SIGKILL, (tmp_path / "said.txt").read_text()
    assert log.exists()
    assert not (cut / "models" / "medi" / "model.safetensors").exists(), "killed in the middle of training"
    while any(holder(cut / "models" / name) for name in ("cls", "medi")) and time.monotonic() < deadline:
        time.sleep(0.1)  # workers end on their own once their parent is gone
    for out in (cut, whole):
        fine(here("run", home / "tiny.yaml", "--out", out))
    mine, theirs = (read_json(folder / "results.json") for folder in (cut, whole))
    assert mine["balanced_accuracy"] == theirs["balanced_accuracy"]
    for name in ("cls", "medi"):
        of_cut, of_whole = (folder / "samples" / name / "pixels.npy" for folder in (cut, whole))
        assert of_cut.read_bytes() == of_whole.read_bytes()


@pytest.mark.slow
def test_a_stopped_run_has_saved_both_models_p12(home: Path, tmp_path: Path) -> None:
    """SIGTERM goes to the command alone; both processes that train save, and the last line says so."""
    long = TINY | {"training": TINY["training"] | {"images": 200_000, "save_every": 64, "early_average": 64}}
    (home / "long.yaml").write_text(yaml.safe_dump(long))
    states = [tmp_path / "cut" / "models" / name / "state.safetensors" for name in ("cls", "medi")]
    running = begin(medi_into, tmp_path / "said.txt", "run", home / "long.yaml", "--out", tmp_path / "cut")
    deadline = time.monotonic() + 300
    while not all(map(Path.exists, states)) and time.monotonic() < deadline and running.is_alive():
        time.sleep(0.01)
    running.terminate()
    code, told = ended(running, 60), (tmp_path / "said.txt").read_text()
    assert code == 143, told
    reached = [load_tensors(state)[1]["images"] for state in states]
    counts = " and ".join(f"{n:,}" for n in dict.fromkeys(reached))
    assert f"medi: stopped; last saved at {counts} of 200,000 images" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_packed_cohort_is_taken_as_it_is(run: Path, home: Path, tmp_path: Path) -> None:
    settings = read_study(home / "study.yaml")
    packed = settings.model_copy(update={"cohort": CohortSettings(source=str(run / "cohort"), size=32)})
    source = source_of(packed)
    source.check()
    cohort = source.collect(tmp_path / "cohort", Silent())
    assert (tmp_path / "cohort" / "pixels.npy").samefile(run / "cohort" / "pixels.npy")
    assert cohort.digest() == Cohort.load(run / "cohort").digest()
    with pytest.raises(MediError, match=r"packed at 32 px, cohort\.size is 64"):
        source_of(settings.model_copy(update={"cohort": CohortSettings(source=str(run / "cohort"), size=64)})).collect(
            tmp_path / "other", Silent()
        )


@pytest.mark.slow
def test_dry_run_says_what_would_be_done_and_writes_nothing(medi: Medi, home: Path, tmp_path: Path) -> None:
    shown = fine(medi("run", home / "study.yaml", "--dry-run", "--out", tmp_path / "none"))
    assert "cohort: 240 patches of 30 patients" in shown
    assert "holdout: 2 combinations; train" in shown
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_the_papers_study_on_a_miniature_tcga_ut(medi: Medi, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("LUAD", "LUSC", "UCS"):
        for code in ("18", "NA", "44", "05"):
            for patient in range(3):
                folder = tmp_path / "tree" / name / "0" / f"TCGA-{code}-{name[-2:]}{patient:02d}-01Z-00-DX1"
                folder.mkdir(parents=True)
                pixels = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "0_0_521.jpg")
    study = {"attribute": "site_code", "preset": "paper", "cohort": {"source": "tree", "size": 128}}
    study["cohort"] |= {"read": {"kind": "tcga_ut", "attributes": ["site_code"]}}
    study["holdout"] = {"rate": 0.2, "min_patients": 1, "test_seen": 0.2}
    (tmp_path / "mini.yaml").write_text(yaml.safe_dump(study))
    shown = fine(medi("run", tmp_path / "mini.yaml", "--dry-run"))
    assert "cohort: 36 patches of 36 patients" in shown
    assert "415.0 M parameters, 51,200,000 images" in shown
    refused(medi("run", "tcga_ut", "--dry-run"), "does not exist", "--source")
    small = "network: {channels: [32, 32]}\ntraining: {batch: 1}\n"
    (tmp_path / "ours.yaml").write_text(f"base: tcga_ut\nevaluation: {{encoders: [colour-texture]}}\n{small}")
    refused(medi("run", tmp_path / "ours.yaml", "--source", tmp_path / "tree", "--dry-run"), "tissue_source_sites.tsv")
    codes = "".join(f"{code}\tHospital {i % 2}\tStudy\n" for i, code in enumerate(("18", "NA", "44", "05")))
    (tmp_path / "tissue_source_sites.tsv").write_text("TSS Code\tSource Site\tStudy Name\n" + codes)
    refused(medi("run", "tcga_ut", "--source", tmp_path / "tree", "--dry-run"), "encoder uni has no weights here")
    shown = fine(medi("run", tmp_path / "ours.yaml", "--source", tmp_path / "tree", "--dry-run"))
    assert "class x hospital: 6 combinations" in shown


def test_a_study_is_built_on_another_section_by_section(tmp_path: Path) -> None:
    (tmp_path / "cohort.csv").touch()
    below = {"title": "below", "cohort": {"source": "elsewhere.csv", "size": 64}, "network": {"size": 64}, "seed": 3}
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "study.yaml").write_text(yaml.safe_dump(below))
    middle = {"base": "below/study.yaml", "cohort": {"source": "cohort.csv"}, "network": {"layers": 2}}
    (tmp_path / "middle.yaml").write_text(yaml.safe_dump(middle))
    (tmp_path / "above.yaml").write_text(yaml.safe_dump({"base": "middle.yaml", "title": "above"}))
    found = read_study(tmp_path / "above.yaml")
    assert (found.title, found.seed, found.network.size, found.network.layers) == ("above", 3, 64, 2)
    assert found.cohort.source == str(tmp_path / "cohort.csv")  # paths start from the file that is run


def test_the_larger_ami_br_studies_differ_from_the_small_one_in_size_and_training_alone() -> None:
    small, second = (find_study(Path(name)) for name in ("ami_br", "ami_br_2"))
    large, whole = (find_study(Path(name)) for name in ("ami_br_64", "ami_br_128"))
    assert small.holdout.held != second.holdout.held
    assert small.model_copy(update={"holdout": second.holdout, "title": second.title}) == second
    assert find_study(Path("ami_br_2_64")).holdout == second.holdout
    for other in (large, whole):
        changed = {name for name in type(small).model_fields if getattr(small, name) != getattr(other, name)}
        assert changed == {"title", "cohort", "network", "training", "sampling"}


def test_ami_br_for_laptops_has_the_network_and_the_training_of_their_preset() -> None:
    """It draws half as many images again. What guides it knows noise levels twice those of 32 px, too."""
    study, small, laptop = find_study(Path("ami_br_laptop64")), find_study(Path("demo")), preset("laptop64")
    assert study.network == laptop.network
    assert study.training == replace(laptop.recipe, images=120_000, save_every=study.training.save_every)
    assert study.training.images == 1.5 * laptop.recipe.images
    assert study.sampling.guidance == small.sampling.guidance
    assert study.classifier.noise_mean - small.classifier.noise_mean == pytest.approx(np.log(2), abs=0.01)
    assert study.sampling.sigma_max == 2 * small.sampling.sigma_max
    assert study.holdout == find_study(Path("ami_br")).holdout


def test_noise_levels_at_64_px_are_twice_those_at_32_px() -> None:
    """The mean of 2 x 2 pixels has half the noise, so that tissue is lost at twice the sigma."""
    small, large, whole = (find_study(Path(name)) for name in ("ami_br", "ami_br_64", "ami_br_128"))
    doubled = np.exp(small.training.noise_mean) * 2
    assert np.exp(large.training.noise_mean) == pytest.approx(doubled, rel=0.02)
    assert large.training.noise_std == small.training.noise_std
    assert large.sampling.guidance.autoguidance == small.sampling.guidance.autoguidance
    for part in ("guidance.interval", "eta_interval", "sigma_max"):
        read = attrgetter(part)
        assert read(large.sampling) == pytest.approx(np.multiply(read(small.sampling), 2)), part
    assert whole.sampling.sigma_max == 4 * small.sampling.sigma_max  # the field is twice as wide too


@pytest.mark.slow
def test_wrong_bases_are_refused(medi: Medi, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    bases = {
        "a": "x/b.yaml",
        "x/b": "../x/../a.yaml",
        "none": "no-such-study",
        "number": 3,
        "empty": "",
        "bare": "list.yaml",
    }
    for name, base in bases.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"base": base}))
    (tmp_path / "list.yaml").write_text("[1, 2]")
    (tmp_path / "odd.yaml").write_text("training: {imags: 8}")
    (tmp_path / "user.yaml").write_text("base: odd.yaml")
    for name, *words in (
        ("a", "b.yaml", "built on this study itself"),
        ("none", "none.yaml: base: no-such-study: no such study file; medi brings"),
        ("number", "number.yaml: base: expected the name of a study"),
        ("empty", "empty.yaml: base: expected the name of a study"),
        ("bare", "list.yaml: holds no keys"),
        ("user", "user.yaml (on ", "odd.yaml): training.imags:"),
    ):
        refused(medi("run", tmp_path / f"{name}.yaml", "--dry-run"), *words)


def test_a_preset_replaces_network_and_training_of_the_base(tmp_path: Path) -> None:
    below = {"network": {"layers": 2}, "training": {"batch": 8, "images": 800, "save_every": 80}}
    (tmp_path / "below.yaml").write_text(yaml.safe_dump(below))
    (tmp_path / "above.yaml").write_text(
        yaml.safe_dump({"base": "below.yaml", "preset": "demo", "training": {"batch": 32}})
    )
    found, chosen = read_study(tmp_path / "above.yaml"), preset("demo")
    assert found.network == chosen.network
    assert found.training == replace(chosen.recipe, batch=32)


@pytest.mark.slow
def test_a_folder_of_the_same_name_hides_no_study(medi: Medi, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "quick").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "cohort: 400 patches" in fine(medi("run", "quick", "--dry-run"))


@pytest.mark.slow
def test_wrong_cohorts_are_refused_before_anything_is_written(medi: Medi, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for change, *words in (
        ({"attribute": "hospital"}, "'hospital' is no attribute"),
        ({"cohort": STUDY["cohort"] | {"mode": "fold"}}, "cohort.mode"),
        ({"cohort": {"source": "none.csv"}}, "none.csv does not exist"),
        ({"preset": "huge"}, "preset 'huge' is unknown"),
    ):
        (home / "wrong.yaml").write_text(yaml.safe_dump(STUDY | change))
        refused(medi("run", home / "wrong.yaml", "--out", out), *words)
        assert not out.exists() or not any(out.iterdir())
    refused(medi("run", "no-such-study"), "no such study file; medi brings ami_br")
