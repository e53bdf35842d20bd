"""Training is counted in images, resumes bitwise (P4), and keeps its last good state."""

import errno
import json
import os
import signal
from dataclasses import replace
from importlib.util import find_spec
from itertools import count
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest, norm

from medi.cohort.table import Cohort
from medi.cohort.turns import dihedral
from medi.core import files
from medi.core.errors import MediError
from medi.core.stopping import Stopped
from medi.models.checkpoint import load_checkpoint, load_model, load_tensors, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.models.noise import ddpm_sigmas
from medi.sampling.sampler import SamplerSettings, draw, sample_images
from medi.training import loop
from medi.training.data import Batches, draw_probabilities
from medi.training.log import read_log
from medi.training.loop import EARLY, train
from medi.training.recipe import Recipe
from medi.training.sheet import sheet
from medi.training.trainer import Trainer

RECIPE = Recipe(images=96, batch=4, save_every=16, warmup=16, dropout=0.2)
CPU = torch.device("cpu")


def weights(path) -> dict[str, torch.Tensor]:
    return load_tensors(path)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kill_at", "precision", "optimizer"),
    [(1, "bf16", "adamw"), (9, "fp32", "adamw"), (22, "bf16", "adamw"), (9, "bf16", "muon")],
)
def test_interrupted_equals_uninterrupted_bitwise(
    cohort: Cohort,
    tiny,
    tmp_path,
    kill_at: int,
    precision: Literal["bf16", "fp32"],
    optimizer: Literal["adamw", "muon"],
) -> None:
    """P4: killed at any update, the same call ends with the same weights, log and file."""
    recipe = replace(RECIPE, precision=precision, optimizer=optimizer)
    tiny = replace(tiny, preconditioning="blocks" if optimizer == "muon" else "pixels")
    whole = train(cohort, tmp_path / "whole", tiny, recipe, cohort.schema, 5, cohort)
    updates = count(1)

    def kill(images: int, total: int) -> None:
        if next(updates) == kill_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cohort, tmp_path / "cut", tiny, recipe, cohort.schema, 5, cohort, kill)
    again = train(cohort, tmp_path / "cut", tiny, recipe, cohort.schema, 5, cohort)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())
    logs = [[json.loads(line) for line in (p.parent / "log.jsonl").read_text().splitlines()] for p in (whole, again)]
    assert [row["validation_loss"] for row in logs[0]] == [row["validation_loss"] for row in logs[1]]
    assert [row["images"] for row in logs[1]] == [16, 32, 48, 64, 80, 96]


@pytest.mark.slow
def test_a_finished_training_is_continued_for_longer(cohort: Cohort, tiny, tmp_path) -> None:
    """P4: cut or not, bitwise; the log goes on, the model names the one that it was made from."""
    short, long = replace(RECIPE, images=48), RECIPE
    settings = (tiny, short, cohort.schema, 5)
    for name in ("whole", "cut"):
        first = train(cohort, tmp_path / name, *settings)
    base = load_checkpoint(first).hash
    whole = train(cohort, tmp_path / "whole", tiny, long, cohort.schema, 5)

    def kill(images: int, total: int) -> None:
        if images >= 72:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cohort, tmp_path / "cut", tiny, long, cohort.schema, 5, None, kill)
    assert load_checkpoint(first).images == 48, "the shorter model stays until the longer one is whole"
    again = train(cohort, tmp_path / "cut", tiny, long, cohort.schema, 5)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())
    rows = [json.loads(line)["images"] for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert rows == [16, 32, 48, 64, 80, 96]
    assert (tmp_path / "cut" / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()
    found = load_checkpoint(again)
    assert (found.images, found.recipe["images"], found.base) == (96, 96, base)
    assert train(cohort, tmp_path / "cut", tiny, long, cohort.schema, 5) == again
    with pytest.raises(MediError, match=r"recipe.images \(96, now 48\)"):
        train(cohort, tmp_path / "cut", *settings)
    with pytest.raises(MediError, match=r"recipe.batch"):
        train(cohort, tmp_path / "cut", tiny, replace(long, images=192, batch=16), cohort.schema, 5)
    (tmp_path / "cut" / "state.safetensors").unlink()
    with pytest.raises(
        MediError, match=r"was trained on 96 images, and its state.safetensors is gone.*use a new folder"
    ):
        train(cohort, tmp_path / "cut", tiny, replace(long, images=192), cohort.schema, 5)


@pytest.mark.slow
def test_lost_files_of_a_finished_training_come_back_from_its_state_p12(cohort: Cohort, tiny, tmp_path) -> None:
    """Bitwise, and without training."""
    arguments = (cohort, tmp_path, tiny, RECIPE, cohort.schema, 5)
    train(*arguments)
    before = {name: (tmp_path / name).read_bytes() for name in ("model.safetensors", "log.jsonl", "speed.jsonl")}
    for name in before:
        (tmp_path / name).unlink()
        train(*arguments, progress=lambda images, total: pytest.fail("trained"))
        assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["log.jsonl", "speed.jsonl"])
def test_a_damaged_log_is_named(cohort: Cohort, tiny, tmp_path, name: str) -> None:
    train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 5)
    assert [row.images for row in read_log(tmp_path)] == [16, 32, 48, 64, 80, 96]
    assert read_log(tmp_path)[0].images_per_second > 0
    path = tmp_path / name
    path.write_text(path.read_text().replace('"images": 48', '"images": 49'))
    with pytest.raises(MediError, match=f"{name}: line 3 is damaged .its checksum differs.*writes it again"):
        read_log(tmp_path)


@pytest.mark.slow
def test_training_learns_and_seeds_differ(cohort: Cohort, tiny, tmp_path) -> None:
    recipe = Recipe(images=1600, batch=8, save_every=800, learning_rate=3e-3, warmup=80)
    train(cohort, tmp_path / "long", tiny, recipe, cohort.schema, 1, cohort)
    rows = [json.loads(line) for line in (tmp_path / "long" / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["validation_loss"] < rows[0]["validation_loss"] < 1.5
    short = replace(recipe, images=16, save_every=16)
    one, two = (train(cohort, tmp_path / f"{seed}", tiny, short, cohort.schema, seed) for seed in (1, 2))
    assert not torch.equal(weights(one)["network.conv_in.weight"], weights(two)["network.conv_in.weight"])


@pytest.mark.slow
def test_checkpoint_carries_vocabularies_and_recipe(cohort: Cohort, tiny, tmp_path) -> None:
    """P1: labels travel with weights; CLS is the same network with the class alone."""
    path = train(cohort, tmp_path / "cls", tiny, RECIPE, cohort.schema.restrict([]), 0)
    denoiser, checkpoint = load_model(path)
    assert denoiser.schema == cohort.schema.restrict([])
    assert denoiser.conditioning.widths == (tiny.condition_width,)
    assert checkpoint.recipe["images"] == checkpoint.images == 96
    assert len(checkpoint.hash) == 16


def test_image_c_depends_on_seed_and_counter_alone(cohort: Cohort) -> None:
    batches = Batches(cohort, cohort.schema.encode(cohort.table), RECIPE, 0)
    together = batches(np.arange(10, 20), CPU)
    alone = batches(np.array([13]), CPU)
    for name in ("images", "sigma", "noise", "dropped"):
        assert torch.equal(getattr(together, name)[3:4], getattr(alone, name))
    assert all(torch.equal(column[3:4], alone.codes[name]) for name, column in together.codes.items() if name != "age")
    assert not torch.equal(together.noise[0], together.noise[1])


@pytest.mark.slow
def test_the_loader_holds_no_copy_of_the_store(cohort: Cohort, tiny, tmp_path) -> None:
    """Training reads the mapped file of a packed cohort, row by row."""
    cohort.save(tmp_path)
    packed = Cohort.load(tmp_path).select(np.arange(20))
    pixels = Trainer(packed, tiny, RECIPE, cohort.schema, 0).batches.pixels
    assert isinstance(pixels.store, np.memmap)
    assert pixels.store is packed.images.store


@pytest.mark.slow
def test_both_models_see_the_same_images_and_noise(cohort: Cohort, tiny) -> None:
    """CLS and MeDi are trained alike: only the conditions differ."""
    cls, medi = (Trainer(cohort, tiny, RECIPE, s, 0).batches for s in (cohort.schema.restrict([]), cohort.schema))
    a, b = cls(np.arange(8), CPU), medi(np.arange(8), CPU)
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.noise, b.noise)
    assert torch.equal(a.sigma, b.sigma)


def test_noise_levels_are_log_normal(cohort: Cohort) -> None:
    batches = Batches(cohort, cohort.schema.encode(cohort.table), Recipe(noise_mean=-0.5, noise_std=1.1), 0)
    logs = np.log(batches.sigmas(np.arange(2000)))
    assert kstest(logs, norm(-0.5, 1.1).cdf).statistic < 0.01  # stratified: far below the 0.03 of independent draws
    assert abs(logs[:16].mean() + 0.5) < 0.25


def test_balance_evens_out_the_combinations(cohort: Cohort) -> None:
    codes = {"class": np.array([0, 0, 0, 0, 1, 1]), "site": np.array([0, 0, 0, 0, 0, 1])}
    for balance, expected in ((0.0, [4 / 6, 1 / 6, 1 / 6]), (1.0, [1 / 3] * 3), (0.5, [0.5, 0.25, 0.25])):
        p = draw_probabilities(codes, balance)
        np.testing.assert_allclose([p[:4].sum(), p[4], p[5]], expected)


def test_nested_balance_draws_a_class_and_then_one_of_its_combinations() -> None:
    """Class 0 lives at three sites, class 1 at one: alike as classes, though not as combinations."""
    codes = {"class": np.array([0] * 6 + [1] * 4), "site": np.array([0, 0, 0, 0, 1, 2] + [3] * 4)}
    for balance, expected in (
        (0.0, [0.4, 0.1, 0.1, 0.4]),
        (1.0, [1 / 6, 1 / 6, 1 / 6, 1 / 2]),
        (0.5, np.array([2, 1, 1, 0]) / 4 * 6**0.5 / (6**0.5 + 2) + [0, 0, 0, 2 / (6**0.5 + 2)]),
    ):
        p = draw_probabilities(codes, balance, "nested")
        np.testing.assert_allclose([p[:4].sum(), p[4], p[5], p[6:].sum()], expected)
    alone = draw_probabilities({"class": codes["class"]}, 1.0, "nested")
    np.testing.assert_allclose(alone, [1 / 12] * 6 + [1 / 8] * 4)


def test_dihedral_gives_all_eight_views() -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    views = dihedral(np.repeat(image, 8, axis=0), np.arange(8))
    assert len({view.tobytes() for view in views}) == 8
    assert (np.sort(views.reshape(8, 3, 4), axis=2) == np.sort(image.reshape(1, 3, 4), axis=2)).all()
    for k in range(8):
        turned = np.rot90(image[0], k % 4, axes=(1, 2))
        assert (views[k] == (turned[:, :, ::-1] if k >= 4 else turned)).all()


@pytest.mark.slow
@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_gradients_are_clipped_as_torch_does(cohort: Cohort, tiny, clip: float) -> None:
    """To the bit, whether or not they are too long."""
    trainer = Trainer(cohort, tiny, replace(RECIPE, clip=clip), cohort.schema, 0)
    trainer.loss_of(trainer.batches(np.arange(4), CPU)).backward()
    before = [weight.grad.clone() for weight in trainer.weights]
    trainer._clip()
    ours = [weight.grad.clone() for weight in trainer.weights]
    for weight, gradient in zip(trainer.weights, before):
        weight.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(trainer.weights, clip)
    assert all(torch.equal(mine, weight.grad) for mine, weight in zip(ours, trainer.weights))
    assert all(torch.equal(a, b) for a, b in zip(ours, before)) == (clip > 1)


def test_learning_rate_warms_up_holds_and_decays_to_zero() -> None:
    recipe = Recipe(images=1000, batch=10, save_every=10, learning_rate=1.0, warmup=100, decay=0.4)
    assert recipe.rate(0) == pytest.approx(0.1)
    assert recipe.rate(90) == recipe.rate(600) == 1.0
    assert recipe.rate(800) == pytest.approx(0.5)
    assert recipe.rate(1000) == 0.0


@pytest.mark.slow
def test_a_collapse_stops_and_keeps_the_last_good_state(cohort: Cohort, tiny, tmp_path, monkeypatch) -> None:
    """Seen on real patches: the loss jumped from 0.25 to 0.75 and stayed there, finite to the end."""
    step, recipe = Trainer.step, Recipe(images=3_000, batch=100, save_every=1_000)
    monkeypatch.setattr(Trainer, "step", lambda self: step(self) * (3 if self.images > 1_000 else 1))
    with pytest.raises(MediError, match=r"collapsed: the loss was .* after 2,000 images; the last good state is kept"):
        train(cohort, tmp_path, tiny, recipe, cohort.schema, 0)
    assert load_tensors(tmp_path / "state.safetensors")[1]["images"] == 1_000


@pytest.mark.slow
def test_a_collapse_shows_in_the_validation_loss_first(cohort: Cohort, tiny, tmp_path, monkeypatch) -> None:
    """Seen on real patches: within 8,000 images 0.46 became 0.63 in training, 0.30 became 0.77 in validation."""
    monkeypatch.setattr(Trainer, "validation_loss", lambda self, patches: 0.3 if self.images < 2_000 else 0.77)
    recipe = Recipe(images=3_000, batch=100, save_every=1_000)
    with pytest.raises(MediError, match=r"collapsed: the validation loss was 0\.3 and is 0\.77 after 2,000 images"):
        train(cohort, tmp_path, tiny, recipe, cohort.schema, 0, cohort)


@pytest.mark.slow
def test_divergence_stops_and_keeps_the_last_good_state(cohort: Cohort, tiny, tmp_path, monkeypatch) -> None:
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self: step(self) * (float("nan") if self.images > 40 else 1.0))
    with pytest.raises(MediError, match="the loss is nan after 48 images; the last good state is kept"):
        train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 0)
    assert load_tensors(tmp_path / "state.safetensors")[1]["images"] == 32
    monkeypatch.undo()
    train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 0)


def test_nothing_to_train_on_is_refused(cohort: Cohort, tiny, tmp_path) -> None:
    with pytest.raises(MediError, match="no patch to train on"):
        train(cohort.select(np.arange(0)), tmp_path, tiny, RECIPE, cohort.schema, 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_changed_settings_are_refused_and_the_state_stays(cohort: Cohort, tiny, tmp_path) -> None:
    def kill(images: int, total: int) -> None:
        if images == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 0, progress=kill)
    before = (tmp_path / "state.safetensors").read_bytes()
    with pytest.raises(MediError, match=r"another seed \(0, now 1\)"):
        train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 1)
    with pytest.raises(MediError, match=r"another recipe.images \(96, now 128\)"):
        train(cohort, tmp_path, tiny, Recipe(images=128, batch=4, save_every=16), cohort.schema, 0)
    with pytest.raises(MediError, match=r"another conditions.site \(\['A', 'B'\], now not set\), conditions.age"):
        train(cohort, tmp_path, tiny, RECIPE, cohort.schema.restrict([]), 0)
    with pytest.raises(MediError, match=r"another network.channels \(\[8, 8\], now \[8, 16\]\)"):
        train(cohort, tmp_path, replace(tiny, channels=(8, 16)), RECIPE, cohort.schema, 0)
    assert (tmp_path / "state.safetensors").read_bytes() == before


@pytest.mark.slow
def test_a_finished_model_is_left_alone(cohort: Cohort, tiny, tmp_path) -> None:
    """The same call does nothing; another one is refused and the model stays usable."""
    model = train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 0)
    before = (model.stat().st_mtime_ns, model.read_bytes())
    assert train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 0) == model
    with pytest.raises(MediError, match=r"model\.safetensors: was trained with another seed \(0, now 1\)"):
        train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 1)
    with pytest.raises(MediError, match=r"another conditions\.site"):
        train(cohort, tmp_path, tiny, RECIPE, cohort.schema.restrict(["age"]), 0)
    other = cohort.select(np.arange(len(cohort) - 1))
    with pytest.raises(MediError, match=r"another cohort \(other rows, pixels or hold-out\); use a new folder"):
        train(replace(other, info={"root": "elsewhere"}), tmp_path, tiny, RECIPE, cohort.schema, 0)
    assert (model.stat().st_mtime_ns, model.read_bytes()) == before


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_good_state_p12(cohort: Cohort, tiny, tmp_path, monkeypatch) -> None:
    sync, calls = os.fsync, []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 3:  # the first state and the two files of its log
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(MediError, match=r"state\.safetensors: cannot be written \(No space left on device\)"):
        train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 0)
    monkeypatch.undo()
    assert load_tensors(tmp_path / "state.safetensors")[1]["images"] == 16
    assert load_model(train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 0))[1].images == 96


def test_patches_of_another_size_are_refused(cohort: Cohort, tmp_path) -> None:
    with pytest.raises(MediError, match="patches have 8 px, the network wants 16"):
        train(cohort, tmp_path, NetworkSettings(size=16, channels=(8, 8)), RECIPE, cohort.schema, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"images": 3, "batch": 4},
        {"shard_model": True, "compile": True},
        {"save_every": 10, "batch": 4},
        {"dropout": 1.2},
        {"dropout": {"site": -0.1}},
    ]
    + [{"early_average": early, "images": 32, "save_every": 16} for early in (8, 32, -16)],
)
def test_impossible_recipes_are_refused(settings: dict) -> None:
    with pytest.raises(MediError):
        Recipe(**settings)


def test_a_batch_in_parts_gives_the_same_update(cohort: Cohort, tiny) -> None:
    """Gradient accumulation: micro batches of 3, 3 and 2 equal one batch of 8, up to the order of summation."""
    recipe = Recipe(images=80, batch=8, save_every=8, precision="fp32")
    whole, parts = (Trainer(cohort, tiny, replace(recipe, micro_batch=size), cohort.schema, 0) for size in (0, 3))
    losses = [trainer.step().item() for trainer in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(whole.weights, parts.weights):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")
def test_a_recorded_step_is_the_eager_one_bitwise(cohort: Cohort, tiny, monkeypatch) -> None:
    """Whole batches are replayed, the smaller last one is not."""
    recipe, attending = Recipe(images=38, batch=8, save_every=8, dropout=0.2), replace(tiny, attention=(1,), head_dim=8)
    recorded = Trainer(cohort, attending, recipe, cohort.schema, 0)
    losses = [recorded.step().item() for _ in range(5)]
    assert recorded.recorded is not None
    monkeypatch.setattr(Trainer, "is_recordable", False)
    eager = Trainer(cohort, attending, recipe, cohort.schema, 0)
    assert losses == [eager.step().item() for _ in range(5)]
    assert eager.recorded is None
    assert all(torch.equal(one, other) for one, other in zip(recorded.weights, eager.weights))


@pytest.mark.slow
def test_bf16_is_for_products_alone(cohort: Cohort, tiny, tmp_path) -> None:
    """Weights, their average, moments and gradients are fp32; groups are normalised and the validation loss is taken
    in fp32, so that it is the same number in training of either precision."""
    trainer = Trainer(cohort, tiny, replace(RECIPE, precision="bf16"), cohort.schema, 0)
    seen: dict[str, set[torch.dtype]] = {}

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen.setdefault(type(module).__name__, set()).add(output.dtype)

    for module in trainer.denoiser.network.modules():
        if isinstance(module, torch.nn.GroupNorm | torch.nn.Conv2d):
            module.register_forward_hook(note)
    assert trainer.step().dtype == torch.float32
    assert seen == {"Norm": {torch.float32}, "Conv2d": {torch.bfloat16}}
    assert {value.dtype for value in trainer.state().values()} == {torch.float32}
    exact = Trainer(cohort, tiny, replace(RECIPE, precision="fp32"), cohort.schema, 0)
    exact.load(trainer.state(), trainer.images)
    assert trainer.validation_loss(cohort) == exact.validation_loss(cohort)


def test_dropout_by_name_leaves_all_other_draws(cohort: Cohort, tiny, tmp_path) -> None:
    """Only the named conditions are dropped; images, noise and levels stay, also for a model of fewer conditions."""
    codes, counters = cohort.schema.encode(cohort.table), np.arange(400)
    plain = Batches(cohort, codes, RECIPE, 0)(counters, CPU)
    recipe = replace(RECIPE, dropout={"age": 0.5})
    named = Batches(cohort, codes, recipe, 0)(counters, CPU)
    assert torch.equal(plain.images, named.images)
    assert torch.equal(plain.noise, named.noise)
    assert named.dropped[:, :2].sum() == 0
    assert 0.42 < named.dropped[:, 2].float().mean() < 0.58
    trainer = Trainer(cohort, tiny, recipe, cohort.schema.restrict(["age"]), 0)
    seen: list[torch.Tensor] = []
    trainer.denoiser.conditioning.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    trainer.loss(named)
    assert torch.equal(seen[0], named.dropped[:, [0, 2]])
    with pytest.raises(MediError, match="'stain' is no attribute; known: class, site, age"):
        train(cohort, tmp_path, tiny, replace(RECIPE, dropout={"stain": 0.1}), cohort.schema, 0)


@pytest.mark.slow
def test_a_model_of_an_older_version_without_a_newer_setting_is_the_same(cohort: Cohort, tiny, tmp_path) -> None:
    """A setting that the file does not know stood at its default: nothing is trained again."""
    model = train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 0)
    denoiser, checkpoint = load_model(model)
    older = {name: value for name, value in checkpoint.recipe.items() if name != "early_average"}
    save_model(model, denoiser, replace(checkpoint, recipe=older))
    before = model.read_bytes()
    assert train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 0).read_bytes() == before
    with pytest.raises(MediError, match=r"recipe.early_average \(0, now 16\)"):
        train(cohort, tmp_path, tiny, replace(RECIPE, early_average=16), cohort.schema, 0)


def test_cosine_falls_from_the_warm_up_to_zero_at_its_horizon() -> None:
    recipe = Recipe(images=500, batch=10, learning_rate=1.0, warmup=100, save_every=10, schedule="cosine", horizon=1100)
    assert recipe.rate(0) == pytest.approx(0.1)
    assert recipe.rate(100) == 1.0
    assert recipe.rate(600) == pytest.approx(0.5)
    assert recipe.rate(1100) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.slow
def test_snapshots_are_models_and_only_the_last_stay(cohort: Cohort, tiny, tmp_path) -> None:
    recipe = Recipe(images=96, batch=4, save_every=16, warmup=16, keep=2, early_average=80)
    model = train(cohort, tmp_path, tiny, recipe, cohort.schema, 0)
    kept = sorted((tmp_path / "snapshots").iterdir())
    assert [path.stem for path in kept] == ["000000000080", "000000000096"]
    assert load_model(kept[0])[1].images == load_model(tmp_path / EARLY)[1].images == 80
    assert all(torch.equal(value, weights(tmp_path / EARLY)[name]) for name, value in weights(kept[0]).items())
    assert all(torch.equal(value, weights(model)[name]) for name, value in weights(kept[1]).items())


@pytest.mark.slow
def test_broken_weights_stop_before_they_are_saved(cohort: Cohort, tiny, tmp_path, monkeypatch) -> None:
    """The loss of a step is of the weights before it: what a step breaks is seen in the weights first."""
    step = Trainer.step

    def breaking(self: Trainer) -> torch.Tensor:
        loss = step(self)
        if self.images == 48:
            self.weights[0].data.view(-1)[0] = float("inf")
        return loss

    monkeypatch.setattr(Trainer, "step", breaking)
    with pytest.raises(MediError, match="weights are not finite after 48 images"):
        train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 0)
    assert load_tensors(tmp_path / "state.safetensors")[1]["images"] == 32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "raised", "message"),
    [
        (
            RECIPE,
            "DefaultCPUAllocator: can't allocate memory",
            "4 images at once do not fit.*lower training.micro_batch",
        ),
        (Recipe(images=96, batch=4, save_every=16, compile=True), "no C++ compiler\nmore", "leave compile off"),
    ],
)
def test_what_the_machine_cannot_do_is_one_line(
    cohort: Cohort, tiny, tmp_path, monkeypatch, recipe: Recipe, raised: str, message: str
) -> None:
    def fail(self: Trainer) -> torch.Tensor:
        raise RuntimeError(raised)

    monkeypatch.setattr(Trainer, "step", fail)
    with pytest.raises(MediError, match=message) as stopped:
        train(cohort, tmp_path, tiny, recipe, cohort.schema, 0)
    assert "\n" not in str(stopped.value)


def test_ddpm_noise_levels_are_the_steps_drawn_evenly(cohort: Cohort) -> None:
    batches = Batches(cohort, cohort.schema.encode(cohort.table), Recipe(noise="ddpm"), 0)
    drawn = np.sort(batches.sigmas(np.arange(1000)))
    assert np.isin(drawn, ddpm_sigmas().astype(np.float32)).all()
    assert kstest(np.searchsorted(ddpm_sigmas().astype(np.float32), drawn), "uniform", (0, 1000)).statistic < 0.01


def test_balance_over_the_class_alone(cohort: Cohort) -> None:
    codes = cohort.schema.encode(cohort.table)
    share = draw_probabilities(codes, 1.0, "class")
    assert [share[codes["class"] == i].sum() for i in range(3)] == pytest.approx([1 / 3] * 3)
    assert len(set(share[codes["class"] == 0])) == 1, "the sites within a class as they come"


@pytest.mark.slow
def test_sheet_has_a_row_per_class_and_a_column_per_site(cohort: Cohort, tiny, tmp_path, denoiser) -> None:
    """Place (c, s) has the image of class c at site s and the mean age; CLS, without sites, several of each class."""
    grid = sheet(denoiser, 3, draw)
    assert grid.shape == (3 * 8, 2 * 8, 3)
    rows = pd.DataFrame({"class": ["b"], "site": ["B"], "age": ["0.0"], "noise_id": ["b B"]})
    image = grid[8:16, 8:16].astype(int)
    assert abs(sample_images(denoiser, rows, 3, SamplerSettings(batch=6))[0].astype(int) - image).max() <= 1
    assert sheet(Denoiser(tiny, cohort.schema.restrict([])), 0, draw).shape == (3 * 8, 8 * 8, 3)
    train(cohort, tmp_path, tiny, replace(RECIPE, sheets=True), cohort.schema, 0, draw=draw)
    assert len(list((tmp_path / "sheets").glob("*.png"))) == 6


@pytest.mark.slow
def test_tensorboard_gets_the_log_or_says_what_to_install(cohort: Cohort, tiny, tmp_path) -> None:
    recipe = replace(RECIPE, tensorboard=True)
    if find_spec("tensorboard"):
        train(cohort, tmp_path, tiny, recipe, cohort.schema, 0)
        assert list((tmp_path / "tensorboard").iterdir())
    else:
        with pytest.raises(MediError, match=r"medi-histo\[track\]"):
            train(cohort, tmp_path, tiny, recipe, cohort.schema, 0)


@pytest.mark.slow
def test_operations_are_counted(cohort: Cohort, tiny) -> None:
    """A wider network of the same shape costs more, and a convolution's count is what its shape says."""
    one, two = (
        Trainer(cohort, NetworkSettings(8, 2, channels, 1), RECIPE, cohort.schema, 0).gflop_per_image()
        for channels in ((8, 8), (16, 16))
    )
    assert 2 < two / one < 4
    conv_in = 2 * 12 * 8 * 9 * 4 * 4  # multiply and add: channels in and out, 3 x 3, pixels
    assert one > 3e-9 * conv_in


def stopped_at(update: int, number: int):
    """A progress that sends this very process a signal after so many updates."""
    updates = count(1)
    return lambda images, total: os.kill(os.getpid(), number) if next(updates) == update else None


@pytest.mark.slow
@pytest.mark.parametrize(("update", "number"), [(1, signal.SIGINT), (6, signal.SIGTERM), (8, signal.SIGINT)])
def test_a_signal_saves_and_the_same_call_ends_bitwise_alike_p4(
    cohort: Cohort, tiny, tmp_path, update: int, number: int
) -> None:
    """Before, all since the last row of the log was lost; saving between rows changes neither weights nor log."""
    whole = train(cohort, tmp_path / "whole", tiny, RECIPE, cohort.schema, 5, cohort)
    arguments = (cohort, tmp_path / "cut", tiny, RECIPE, cohort.schema, 5, cohort)
    with pytest.raises(Stopped, match=f"last saved at {4 * update} of 96 images") as stop:
        train(*arguments, stopped_at(update, number))
    assert stop.value.number == number
    assert load_tensors(tmp_path / "cut" / "state.safetensors")[1]["images"] == 4 * update
    again = train(*arguments)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())
    logs = [read_log(path.parent) for path in (whole, again)]
    assert [(r.images, r.loss, r.validation_loss) for r in logs[0]] == [
        (r.images, r.loss, r.validation_loss) for r in logs[1]
    ]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == [
        signal.default_int_handler,
        signal.SIG_DFL,
    ]


@pytest.mark.slow
def test_the_clock_saves_between_rows_of_the_log_p12(cohort: Cohort, tiny, tmp_path, monkeypatch) -> None:
    """A kill loses at most some minutes, however long it takes to the next row."""
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)

    def kill(images: int, total: int) -> None:
        if images == 28:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(cohort, tmp_path / "cut", tiny, RECIPE, cohort.schema, 5, None, kill)
    assert load_tensors(tmp_path / "cut" / "state.safetensors")[1]["images"] == 24
    again = train(cohort, tmp_path / "cut", tiny, RECIPE, cohort.schema, 5)
    whole = train(cohort, tmp_path / "whole", tiny, RECIPE, cohort.schema, 5)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())


@pytest.mark.slow
def test_a_signal_during_the_last_update_leaves_a_finished_model(cohort: Cohort, tiny, tmp_path) -> None:
    with pytest.raises(Stopped, match="96 of 96 images \\(100 %\\)"):
        train(cohort, tmp_path, tiny, RECIPE, cohort.schema, 5, None, stopped_at(24, signal.SIGTERM))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "log.jsonl",
        "model.safetensors",
        "speed.jsonl",
        "state.safetensors",
    ]
