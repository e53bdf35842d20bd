"""How far slides of one combination differ in colour, and what a combination of few slides is given of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_limits

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.seeds import generator
from medi.training.colours import SlideColours, between
from medi.training.data import Batches, combinations_of
from medi.training.loop import train
from medi.training.recipe import Recipe

CPU = torch.device("cpu")
TRUTH = np.array([[0.05, 0.02, 0.0], [0.02, 0.04, 0.01], [0.0, 0.01, 0.03]])


def cohort(slides: dict[str, list[int]], scatter: float, key: str = "slides") -> Cohort:
    """One class at sites of these slides, each of so many patches; slides scatter in colour by exp(scatter N)."""
    rng = generator(key)
    rows, images = [], []
    for site, sizes in slides.items():
        for number, size in enumerate(sizes):
            density = 0.6 * np.exp(scatter * rng.standard_normal(3))
            for _ in range(size):
                rows.append((site, f"{site}{number}"))
                noisy = density + 0.2 * rng.random((8, 8, 1))
                images.append((255 * np.exp(-noisy)).round().astype(np.uint8))
    table = pd.DataFrame(rows, columns=["site", "slide"])
    table["sample_id"] = [f"p{i}" for i in range(len(table))]
    table = table.assign(**{"class": "a", "patient": table["slide"], "origin": "real", "noise_id": ""})
    return Cohort(table, Schema.infer(table, ["site"]), Pixels.of(np.stack(images)))


def colours_of(patches: Cohort) -> SlideColours:
    return SlideColours.of(patches, combinations_of(patches.schema.encode(patches.table)))


def shown(images: torch.Tensor) -> torch.Tensor:
    """The logarithm of the mean optical densities [n, 3]."""
    return (-((images + 1) / 2).log()).mean((2, 3)).log()


def test_covariance_of_slides_is_that_of_the_analysis_of_variance() -> None:
    """Of equal sizes it is (mean square between - mean square within) / n, home by home."""
    rng = generator("balanced")
    unit = np.repeat(np.arange(12), 5)
    home = np.repeat(np.arange(3), 4)
    values = rng.standard_normal((60, 2)) + rng.standard_normal((12, 2))[unit]
    cells = values.reshape(3, 4, 5, 2)
    means = cells.mean(axis=2)
    apart = means - means.mean(axis=1, keepdims=True)
    left = cells - means[:, :, None]
    mean_square_between = 5 * np.einsum("hui,huj->ij", apart, apart) / 9
    mean_square_within = np.einsum("huri,hurj->ij", left, left) / 48
    np.testing.assert_allclose(between(values, unit, home), (mean_square_between - mean_square_within) / 5)


def test_covariance_is_the_same_with_one_and_two_threads_p3() -> None:
    values = generator("threads").standard_normal((40_000, 3))
    unit, home = np.arange(40_000) // 4, np.arange(10_000) // 500
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            found.append(between(values, unit, home))
    assert np.array_equal(*found)


@pytest.mark.slow
def test_covariance_of_unequal_slides_is_right_on_average() -> None:
    rng, root = generator("unequal"), np.linalg.cholesky(TRUTH)
    size = np.array([1, 2, 9, 30, 1, 1, 4, 4, 12, 7])
    unit, home = np.repeat(np.arange(10), size), np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 2])
    found = [
        between((root @ rng.standard_normal((3, 10))).T[unit] + 0.3 * rng.standard_normal((len(unit), 3)), unit, home)
        for _ in range(1000)
    ]
    error = np.std(found, axis=0) / len(found) ** 0.5
    assert (np.abs(np.mean(found, axis=0) - TRUTH) < 4 * error).all()


def test_a_combination_gets_what_its_number_of_slides_leaves_unknown() -> None:
    patches = cohort({"few": [6], "four": [3, 3, 3, 3], "uneven": [8, 2], "many": [2] * 64}, 0.3)
    found, site = colours_of(patches), patches.table["site"].to_numpy()
    full = {name: found.roots[site == name][0] @ found.roots[site == name][0].T for name in set(site)}
    np.testing.assert_allclose(full["four"], full["few"] / 4)
    np.testing.assert_allclose(full["uneven"], full["few"] * (0.8**2 + 0.2**2))
    np.testing.assert_allclose(full["many"], full["few"] / 64)
    assert np.diag(full["few"]) == pytest.approx([0.3**2] * 3, rel=0.7), "as colours of slides scatter"
    assert np.array_equal(found.roots[site == "few"][0], found.roots[site == "few"][-1])


@pytest.mark.slow
def test_few_slides_come_to_show_as_much_colour_as_many() -> None:
    patches = cohort({"few": [40], "many": [2] * 60}, 0.3)
    recipe = Recipe(images=64, batch=4, save_every=4, balance=1.0, dihedral=False)
    codes = patches.schema.encode(patches.table)
    drawn = Batches(patches, codes, recipe, 0, colours=colours_of(patches))(np.arange(1500), CPU)
    first = drawn.codes["site"] == 0
    few, many = (shown(drawn.images[rows]).var(0) for rows in (first, ~first))
    assert ((few / many > 0.6) & (few / many < 1.6)).all()
    plain = Batches(patches, codes, recipe, 0)(np.arange(1500), CPU).images
    assert shown(plain[first]).var(0).max() < 0.05 * many.min()


def test_the_draw_of_an_image_depends_on_seed_and_counter_alone_p4() -> None:
    patches = cohort({"few": [3], "many": [2] * 5}, 0.3)
    codes = patches.schema.encode(patches.table)
    batches = Batches(patches, codes, Recipe(images=64, batch=4, save_every=4), 0, colours=colours_of(patches))
    together = batches(np.arange(12), CPU)
    apart = [batches(np.arange(i, i + 4), CPU) for i in range(0, 12, 4)]
    assert torch.equal(together.images, torch.cat([part.images for part in apart]))
    assert torch.equal(together.noise, torch.cat([part.noise for part in apart]))


def test_slides_that_do_not_differ_change_nothing() -> None:
    """One slide a combination tells nothing of how slides differ."""
    patches = cohort({"a": [4], "b": [4]}, 0.3)
    assert not colours_of(patches).roots.any()
    unknown = replace(patches, table=patches.table.assign(slide=""))
    assert np.isfinite(colours_of(unknown).roots).all(), "a patch of no known slide is one of its own"


def test_latents_are_refused() -> None:
    with pytest.raises(MediError, match="slide_colours varies pixels"):
        Recipe(slide_colours=True, autoencoder="taef2:folder")


@pytest.mark.slow
def test_interrupted_equals_uninterrupted_with_varied_colours_p4(tiny, tmp_path: Path) -> None:
    patches = cohort({"few": [3], "many": [2] * 5}, 0.3)
    recipe = Recipe(images=48, batch=4, save_every=16, warmup=16, slide_colours=True)

    def kill(images: int, total: int) -> None:
        if images == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(patches, tmp_path / "again", tiny, recipe, patches.schema, 0, progress=kill)
    train(patches, tmp_path / "again", tiny, recipe, patches.schema, 0)
    train(patches, tmp_path / "once", tiny, recipe, patches.schema, 0)
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("again", "once")]
    assert models[0] == models[1]
