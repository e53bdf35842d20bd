"""A plan becomes a cohort: resumed (P12), sharded and by several processes (P3), refused where it cannot (P1)."""

import errno
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medi.cohort.schema import Attribute
from medi.cohort.table import Cohort, concatenate
from medi.core import files
from medi.core.errors import MediError
from medi.core.files import write_table
from medi.core.seals import KEY
from medi.models.checkpoint import Checkpoint, load_model, save_model
from medi.models.classifier import load_classifier
from medi.models.denoiser import Denoiser
from medi.models.level_mix import Mix
from medi.models.network import NetworkSettings
from medi.sampling.generate import generate, load_guide, worker, workers_worthwhile
from medi.sampling.guidance import Guidance
from medi.sampling.sampler import SamplerSettings
from medi.training.classifier import ClassifierSettings, train_classifier
from real_processes import begin, ended, medi

SETTINGS = SamplerSettings(steps=3, batch=8)


@pytest.fixture
def model(denoiser: Denoiser, tmp_path: Path) -> Path:
    return save_model(
        tmp_path / "model.safetensors", denoiser, Checkpoint.of(denoiser, images=0, recipe={"dropout": 0.1})
    )


@pytest.fixture
def whole(model: Path, cohort: Cohort, tmp_path: Path) -> Cohort:
    """All 24 images in one go: three batches."""
    return generate(model, cohort.table, tmp_path / "whole", 1, SETTINGS)


def stop_after(images: int):
    def progress(done: int, total: int) -> None:
        if done == images:
            raise KeyboardInterrupt

    return progress


@pytest.mark.slow
def test_resumes_after_a_kill(model: Path, cohort: Cohort, whole: Cohort, tmp_path: Path) -> None:
    """P12: batches that were finished stay; the result equals an uninterrupted run."""
    with pytest.raises(KeyboardInterrupt):
        generate(model, cohort.table, tmp_path / "cut", 1, SETTINGS, stop_after(16))
    assert not (tmp_path / "cut" / "cohort.json").exists()
    parts = list((tmp_path / "cut" / "parts").glob("*.npy"))
    assert len(parts) == 2
    stamps = [part.stat().st_mtime_ns for part in parts]
    with pytest.raises(KeyboardInterrupt):
        generate(model, cohort.table, tmp_path / "cut", 1, SETTINGS, stop_after(16))
    assert [part.stat().st_mtime_ns for part in parts] == stamps, "finished batches are not made again"
    again = generate(model, cohort.table, tmp_path / "cut", 1, SETTINGS)
    assert not (tmp_path / "cut" / "parts").exists()
    assert Cohort.load(tmp_path / "cut").digest() == again.digest() == whole.digest()


@pytest.mark.slow
def test_a_damaged_batch_is_named_and_made_again(model: Path, cohort: Cohort, whole: Cohort, tmp_path: Path) -> None:
    """P12: one wrong bit among batches that wait to be joined."""
    with pytest.raises(KeyboardInterrupt):
        generate(model, cohort.table, tmp_path / "cut", 1, SETTINGS, stop_after(16))
    part = tmp_path / "cut" / "parts" / "000000000.npy"
    data = part.read_bytes()
    part.write_bytes(data[:400] + bytes([data[400] ^ 1]) + data[401:])
    with pytest.raises(MediError, match=r"000000000\.npy: is damaged.*delete it and run the same command again"):
        generate(model, cohort.table, tmp_path / "cut", 1, SETTINGS)
    part.unlink()
    assert generate(model, cohort.table, tmp_path / "cut", 1, SETTINGS).digest() == whole.digest()


def test_done_before_is_not_done_again(model: Path, cohort: Cohort, whole: Cohort, tmp_path: Path) -> None:
    before = (tmp_path / "whole" / "pixels.npy").stat().st_mtime_ns
    assert generate(model, cohort.table, tmp_path / "whole", 1, SETTINGS).digest() == whole.digest()
    assert (tmp_path / "whole" / "pixels.npy").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pixels.npy", "pixels.sums.json", "table.parquet"])
def test_a_lost_file_is_made_again_by_the_same_command(name, model, cohort, whole, tmp_path: Path) -> None:
    """Defect: "pack the cohort again" of samples, and the same `medi sample` only said so again."""
    folder = tmp_path / "whole"
    (folder / name).unlink()
    with pytest.raises(MediError, match=rf"{re.escape(name)} is missing; run the same `medi sample` command again"):
        Cohort.load(folder)
    with pytest.raises(MediError):
        generate(model, cohort.table, folder, 2, SETTINGS)
    assert generate(model, cohort.table, folder, 1, SETTINGS).digest() == whole.digest()
    assert not (folder / "parts").exists()


def test_damaged_samples_are_to_be_sampled_again(whole: Cohort, tmp_path: Path) -> None:
    (tmp_path / "whole" / "pixels.npy").write_bytes(b"no store")
    with pytest.raises(MediError, match="delete this file and run the same `medi sample` command again"):
        Cohort.load(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "run" / "samples" / "medi")
    (tmp_path / "run" / "run.json").touch()
    with pytest.raises(MediError, match="run the same `medi run` command again"):
        Cohort.load(tmp_path / "run" / "samples" / "medi")


@pytest.mark.slow
def test_rows_say_how_they_were_made(model: Path, cohort: Cohort, whole: Cohort, tmp_path: Path) -> None:
    """Two cohorts joined stay honest about model, sampler, guidance and seed."""
    settings = SamplerSettings(steps=4, batch=8, solver="heun", guidance=Guidance({"class": 1.5}))
    rows = cohort.table.assign(sample_id="g" + cohort.table["sample_id"])
    both = concatenate([whole, generate(model, rows, tmp_path / "guided", 2, settings)]).table
    found = both[["origin", "sampler", "guidance", "seed"]].drop_duplicates().to_numpy().tolist()
    assert found == [
        [whole.info["model"], "dpm_solver_2m, 3 steps, log 40 to 0.02", "", "1"],
        [whole.info["model"], "heun, 4 steps, log 40 to 0.02", "class=1.5", "2"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 2, 1)])
def test_shards_make_the_same_cohort_in_any_order(order, model, cohort, whole, tmp_path: Path) -> None:
    """P3: the last shard to finish writes the cohort; a fourth shard of three batches has nothing to do."""
    made = [generate(model, cohort.table, tmp_path / "s", 1, SETTINGS, shard=(i, 4)) for i in order]
    finished = [found is not None for found in made]
    assert finished == sorted(finished)
    assert sum(finished) == (2 if order[-1] == 3 else 1)
    assert made[-1].digest() == whole.digest()
    assert made[-1].table["noise_id"].tolist() == cohort.table["noise_id"].tolist()


@pytest.mark.slow
def test_processes_of_a_shard_take_parts(model, cohort, whole, tmp_path: Path, monkeypatch) -> None:
    """torchrun and accelerate launch tell each process RANK and WORLD_SIZE."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, batches in ((1, 1), (0, 3)):
        monkeypatch.setenv("RANK", str(rank))
        made = generate(model, cohort.table, tmp_path / "p", 1, SETTINGS)
        assert (made is None) == (rank == 1)
        if made is None:
            assert len(list((tmp_path / "p" / "parts").glob("*.npy"))) == batches
    assert made.digest() == whole.digest()


@pytest.mark.slow
def test_two_processes_at_once_make_the_same_cohort(model, cohort, whole, tmp_path: Path) -> None:
    """P3, P12: started together, whoever finishes last writes it."""
    rows, out = tmp_path / "rows.parquet", tmp_path / "both"
    write_table(rows, cohort.table)
    command = ("sample", model, rows, "--out", out, "--seed", 1, "--steps", 3, "--batch", 8)
    running = [begin(medi, *command, WORLD_SIZE="2", RANK=str(i)) for i in range(2)]
    assert [ended(process) for process in running] == [0, 0]
    assert Cohort.load(out).digest() == whole.digest()


def test_a_worker_that_comes_late_has_nothing_to_do(whole: Cohort, tmp_path: Path) -> None:
    """Others have made all images and tidied up before it could read its task."""
    seen: list[int] = []
    worker(str(tmp_path / "whole"), "5", lambda count, total: seen.append(count))
    assert not seen
    with pytest.raises(MediError, match=r"task\.json: no such file"):
        worker(str(tmp_path / "empty"), "0", lambda count, total: None)


def test_workers_start_where_they_pay(monkeypatch) -> None:
    """One a core, with four batches each at least; none beside a GPU or other processes of torchrun."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [workers_worthwhile(images, 128) for images in (0, 128, 1023, 1024, 10**6)] == [1, 1, 1, 2, 4]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert workers_worthwhile(10**6, 128) == 1
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert workers_worthwhile(10**6, 128) == 1


@pytest.mark.slow
def test_full_disk_leaves_finished_parts(model, cohort, whole, tmp_path: Path, monkeypatch) -> None:
    """P12: one clear error; with space again the same call goes on."""
    sync, calls = os.fsync, []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(MediError, match=r"000000008\.npy: cannot be written \(No space left on device\)"):
        generate(model, cohort.table, tmp_path / "x", 1, SETTINGS)
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "x" / "parts").iterdir()) == ["000000000.npy", "made_by.json"]
    assert generate(model, cohort.table, tmp_path / "x", 1, SETTINGS).digest() == whole.digest()


@pytest.mark.slow
@pytest.mark.parametrize("finished", [True, False])
def test_another_setting_is_refused_and_named(finished: bool, model, cohort, tmp_path: Path) -> None:
    stop = stop_after(24 if not finished else -1)
    with pytest.raises(KeyboardInterrupt) if not finished else pytest.MonkeyPatch.context():
        generate(model, cohort.table, tmp_path / "x", 1, SETTINGS, stop)
    with pytest.raises(MediError, match=r"holds images of another seed \(1, now 2\); choose another folder"):
        generate(model, cohort.table, tmp_path / "x", 2, SETTINGS)
    with pytest.raises(MediError, match=r"another sampler\.batch \(8, now 9\), plan;"):
        generate(model, cohort.table.head(9), tmp_path / "x", 1, SamplerSettings(steps=3, batch=9))
    assert generate(model, cohort.table, tmp_path / "x", 1, SETTINGS) is not None


@pytest.mark.slow
def test_mixes_are_sampled_and_kept_as_text(model, cohort, whole, tmp_path: Path) -> None:
    rows = cohort.table.head(8)
    mixed = generate(model, rows.assign(site=[Mix({"A": 1.0, "B": 1.0})] * 8), tmp_path / "mixed", 1, SETTINGS)
    assert set(mixed.table["site"]) == {"A:1.0+B:1.0"}
    for level in "AB":
        pure = generate(model, rows.assign(site=level), tmp_path / level, 1, SETTINGS)
        assert (pure.images[:] != mixed.images[:]).any()
    same = generate(model, rows.assign(site="A:1+B:0"), tmp_path / "same", 1, SETTINGS)
    assert (same.images[:] == Cohort.load(tmp_path / "A").images[:]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"site": "Z"}, r"site 'Z' .* known levels: A, B"),
        ({"site": "A:0.5+Z:0.5"}, r"level 'Z' is unknown; known levels: A, B"),
        ({"age": "old"}, "age 'old' .* is not a number"),
    ],
)
def test_unknown_levels_are_refused_before_the_first_image(change, words, model, cohort, tmp_path: Path) -> None:
    """P1: never index 0."""
    with pytest.raises(MediError, match=words):
        generate(model, cohort.table.assign(**change), tmp_path / "x", 0, SETTINGS)
    assert not (tmp_path / "x").exists()


def test_plans_that_name_nothing_are_refused(model, cohort, tmp_path: Path) -> None:
    with pytest.raises(MediError, match="no rows"):
        generate(model, cohort.table.head(0), tmp_path / "x", 0, SETTINGS)
    with pytest.raises(MediError, match="lacks the columns noise_id"):
        generate(model, cohort.table.drop(columns="noise_id"), tmp_path / "x", 0, SETTINGS)
    with pytest.raises(MediError, match="shard 4/4: shards are counted from 0/4 to 3/4"):
        generate(model, cohort.table, tmp_path / "x", 0, SETTINGS, shard=(4, 4))


@pytest.mark.slow
def test_guidance_needs_a_model_that_can(denoiser, model, cohort, tmp_path: Path) -> None:
    plain = save_model(tmp_path / "plain.safetensors", denoiser, Checkpoint.of(denoiser, recipe={"dropout": 0.0}))
    asked = SamplerSettings(steps=2, batch=8, guidance=Guidance({"class": 1.0}))
    with pytest.raises(MediError, match="without conditioning dropout"):
        generate(plain, cohort.table, tmp_path / "x", 0, asked)
    torch.manual_seed(0)
    smaller = Denoiser(NetworkSettings(size=8, fold=4, channels=(8,), layers=1), cohort.schema)
    weak = save_model(tmp_path / "weak.safetensors", smaller)
    auto = SamplerSettings(steps=2, batch=8, guidance=Guidance(autoguidance=1.0))
    made = generate(plain, cohort.table.head(8), tmp_path / "auto", 0, auto, worse=weak)
    assert made.info["autoguidance_model"]
    assert set(made.table["guidance"]) == {"autoguidance=1"}
    other = Denoiser(NetworkSettings(size=8, fold=4, channels=(8,), layers=1), cohort.schema.restrict([]))
    foreign = save_model(tmp_path / "foreign.safetensors", other)
    with pytest.raises(MediError, match="knows other levels or another image size"):
        generate(plain, cohort.table, tmp_path / "y", 0, auto, worse=foreign)


def test_images_do_not_depend_on_the_table_around_them(model, cohort, whole, tmp_path: Path) -> None:
    """P3: a plan in another order, of which a part is left out, has the same images."""
    order = np.array([20, 3, 9, 4, 11])
    few = generate(model, cohort.table.iloc[order], tmp_path / "few", 1, SETTINGS)
    assert isinstance(few.table, pd.DataFrame)
    assert (few.images[:] == whole.images[order]).all()


@pytest.mark.slow
def test_a_folder_of_version_0_1_is_taken_for_what_it_is(model: Path, cohort: Cohort, tmp_path: Path) -> None:
    """Its record calls autoguidance `weak`, and the model that is drawn away from the weaker one."""
    settings = SamplerSettings(steps=2, batch=16)
    made = generate(model, cohort.table, tmp_path / "s", 0, settings)
    head = json.loads((tmp_path / "s" / "cohort.json").read_text())
    head["info"]["weaker_model"] = head["info"].pop("autoguidance_model")
    head.pop(KEY)  # which version 0.1 did not write
    guidance = head["info"]["sampler"]["guidance"]
    guidance["weak"] = guidance.pop("autoguidance")
    (tmp_path / "s" / "cohort.json").write_text(json.dumps(head))
    before = (tmp_path / "s" / "pixels.npy").stat().st_mtime_ns
    again = generate(model, cohort.table, tmp_path / "s", 0, settings)
    assert (again.images[:] == made.images[:]).all()
    assert (tmp_path / "s" / "pixels.npy").stat().st_mtime_ns == before
    guidance["weak"] = 0.5
    (tmp_path / "s" / "cohort.json").write_text(json.dumps(head))
    with pytest.raises(MediError, match="holds images of another sampler"):
        generate(model, cohort.table, tmp_path / "s", 0, settings)


@pytest.fixture
def judge(cohort: Cohort, tmp_path: Path) -> Path:
    """A classifier of the cohort's classes, hardly trained."""
    settings = ClassifierSettings(images=16, batch=8, channels=(8,), learning_rate=0.1)
    return train_classifier(cohort.with_columns(mpp=2.0), tmp_path / "judge", settings, seed=0)


def test_a_classifier_guides(model: Path, judge: Path, cohort: Cohort, whole: Cohort, tmp_path: Path) -> None:
    """Images change, each alone as it is among others (P3); the folder says by which classifier, and keeps to it."""
    settings = replace(SETTINGS, guidance=Guidance(classifier=50.0))
    found = generate(model, cohort.table, tmp_path / "guided", 1, settings, classifier=judge)
    assert (found.images[:] != whole.images[:]).any()
    assert found.info["classifier"] == load_classifier(judge).hash
    assert found.table["guidance"].unique().tolist() == ["classifier=50"]
    alone = generate(model, cohort.table[4:5], tmp_path / "alone", 1, settings, classifier=judge)
    assert (alone.images[:] == found.images[4:5]).all()
    best = replace(SETTINGS, guidance=Guidance(candidates=3))
    chosen = generate(model, cohort.table, tmp_path / "chosen", 1, best, classifier=judge)
    kept_first = (chosen.images[:] == whole.images[:]).all((1, 2, 3))
    assert kept_first.any()
    assert not kept_first.all()
    alone = generate(model, cohort.table[4:5], tmp_path / "chosen alone", 1, best, classifier=judge)
    assert (alone.images[:] == chosen.images[4:5]).all()
    assert chosen.table["guidance"].unique().tolist() == ["best of 3 candidates"]
    other = train_classifier(cohort, tmp_path / "other", ClassifierSettings(16, 8, (8,)), seed=1)
    with pytest.raises(MediError, match="guided: holds images of another classifier"):
        generate(model, cohort.table, tmp_path / "guided", 1, settings, classifier=other)


def test_a_classifier_of_other_classes_is_refused(model: Path, cohort: Cohort, tmp_path: Path) -> None:
    schema = replace(cohort.schema, classes=Attribute("class", levels=("a", "b", "c", "d")))
    table = cohort.table.assign(**{"class": ["d", *cohort.table["class"][1:]]})
    settings = ClassifierSettings(images=16, batch=8, channels=(8,))
    judge = train_classifier(replace(cohort, table=table, schema=schema), tmp_path / "judge", settings, seed=0)
    asked = replace(SETTINGS, guidance=Guidance(classifier=1.0))
    with pytest.raises(MediError, match="8 px and the classes a, b, c, d; the model has 8 px and a, b, c"):
        generate(model, cohort.table, tmp_path / "out", 1, asked, classifier=judge)
    assert not (tmp_path / "out").exists()


def test_a_classifier_of_another_magnification_is_refused(model: Path, judge: Path, cohort: Cohort) -> None:
    denoiser, _ = load_model(model)
    with pytest.raises(MediError, match=r"patches of 2 micrometres per pixel, the model was trained at 0\.5"):
        load_guide(judge, denoiser, mpp=0.5)
    assert load_guide(judge, denoiser, mpp=None).mpp == 2
