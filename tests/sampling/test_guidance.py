"""Guidance: the formula, its interval, and what it costs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.models.denoiser import Denoiser
from medi.models.level_mix import condition
from medi.sampling.guidance import Guidance, guided
from medi.sampling.sampler import SamplerSettings, sample_images, sampler_settings


@pytest.fixture
def calls(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch size of every evaluation of the network."""
    made: list[int] = []
    denoiser.network.register_forward_pre_hook(lambda module, inputs: made.append(len(inputs[0])))
    return made


def test_weights_draw_away_from_dropped_conditions(denoiser: Denoiser, cohort: Cohort) -> None:
    """D_full + 1.5 (D_full - D_without_class) + 0.5 (D_full - D_without_site), from the null vectors themselves."""
    rows, x, sigma = cohort.table.head(4), torch.randn(4, 3, 8, 8), 0.8
    with torch.inference_mode():
        found = guided(denoiser, rows, Guidance({"class": 1.5, "site": 0.5}))(x, sigma)
        z, widths = condition(denoiser, rows), denoiser.conditioning.widths
        class_, site = (embedding.table.weight[-1] for embedding in list(denoiser.conditioning.embeddings)[:2])
        without_class = torch.cat([class_.expand(4, -1), z[:, widths[0] :]], dim=1)
        without_site = torch.cat([z[:, : widths[0]], site.expand(4, -1), z[:, sum(widths[:2]) :]], dim=1)
        full, a, b = (denoiser(x, torch.full((4,), sigma), each) for each in (z, without_class, without_site))
    torch.testing.assert_close(found, full + 1.5 * (full - a) + 0.5 * (full - b))


def test_autoguidance_draws_away_from_a_autoguidance_model(denoiser: Denoiser, tiny, schema, cohort: Cohort) -> None:
    torch.manual_seed(1)
    weak, rows, x = Denoiser(tiny, schema).eval(), cohort.table.head(3), torch.randn(3, 3, 8, 8)
    with torch.inference_mode():
        found = guided(denoiser, rows, Guidance(autoguidance=2.0), weak)(x, 0.5)
        full, bad = (each(x, torch.full((3,), 0.5), condition(each, rows)) for each in (denoiser, weak))
    torch.testing.assert_close(found, full + 2.0 * (full - bad))


@pytest.mark.slow
def test_plain_sampling_costs_nothing_more(denoiser: Denoiser, cohort: Cohort, calls: list[int]) -> None:
    """One evaluation a step, as many again for each weight, none outside the interval; zero weights are plain."""
    rows, settings = cohort.table.head(2), {"steps": 5, "batch": 2}
    plain = sample_images(denoiser, rows, 0, SamplerSettings(**settings))
    assert calls == [2] * 5
    zero = sample_images(denoiser, rows, 0, SamplerSettings(**settings, guidance=Guidance({"class": 0.0})))
    assert calls == [2] * 10
    assert (zero == plain).all()
    calls.clear()
    sample_images(denoiser, rows, 0, SamplerSettings(**settings, guidance=Guidance({"class": 1.0, "site": 1.0})))
    assert len(calls) == 15
    calls.clear()
    sigmas = SamplerSettings(**settings).sigmas()
    middle = Guidance({"class": 1.0}, interval=(float(sigmas[2]), float(sigmas[1])))
    assert (sample_images(denoiser, rows, 0, SamplerSettings(**settings, guidance=middle)) != plain).any()
    assert len(calls) == 7
    outside = Guidance({"class": 1.0}, interval=(100.0, 200.0))
    assert (sample_images(denoiser, rows, 0, SamplerSettings(**settings, guidance=outside)) == plain).all()


def test_what_a_model_cannot_do_is_refused(schema) -> None:
    Guidance({"class": 1.0}).check(schema, 0.1, has_worse=False)
    Guidance().check(schema, 0.0, has_worse=False)
    Guidance({"site": 1.0, "class": 0.0}).check(schema, {"site": 0.1}, has_worse=False)
    for dropout in (0.0, {"site": 0.1}):
        with pytest.raises(MediError, match="trained without conditioning dropout of class"):
            Guidance({"class": 1.0}).check(schema, dropout, has_worse=False)
    with pytest.raises(MediError, match="'stain' is no attribute; known: class, site, age"):
        Guidance({"stain": 1.0}).check(schema, 0.1, has_worse=False)
    with pytest.raises(MediError, match="autoguidance needs both a worse model and a weight"):
        Guidance(autoguidance=1.0).check(schema, 0.0, has_worse=False)
    with pytest.raises(MediError, match="autoguidance needs both a worse model and a weight"):
        Guidance().check(schema, 0.0, has_worse=True)
    with pytest.raises(MediError, match="from a lower to a higher sigma"):
        Guidance(interval=(2.0, 1.0))


def test_text_says_what_was_done() -> None:
    assert str(Guidance()) == str(Guidance({"class": 0.0}, interval=(0.1, 2.0))) == ""
    assert str(Guidance({"site": 0.5, "class": 1.5}, 2.0, (0.1, 2.0))) == (
        "class=1.5, site=0.5, autoguidance=2 for sigma 0.1 to 2"
    )


class Known:
    """A classifier whose slope is known: 1 for the class a, 2 for b; it knows no other class."""

    def labels(self, rows: pd.DataFrame) -> torch.Tensor:
        return torch.tensor([{"a": 1, "b": 2}.get(name, -1) for name in rows["class"]])

    def slope(self, x: torch.Tensor, sigma: float, labels: torch.Tensor) -> torch.Tensor:
        return labels.clamp(min=0).float()[:, None, None, None].expand_as(x)

    def sureness(self, images: torch.Tensor, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Of bright images of the class a, dark ones of b."""
        return images.mean((1, 2, 3)) * torch.tensor([0.0, 1.0, -1.0, 0.0])[labels]


def test_a_classifier_adds_its_slope(denoiser: Denoiser, cohort: Cohort) -> None:
    """D + w sigma^2 grad ln p within the interval, on top of other guidance; D alone outside."""
    rows, x = cohort.table.head(3), torch.randn(3, 3, 8, 8)
    asked = Guidance({"class": 0.5}, interval=(0.1, 1.0), classifier=3.0)
    with torch.inference_mode():
        found = guided(denoiser, rows, asked, classifier=Known())
        plain = guided(denoiser, rows, replace(asked, classifier=0.0))
        expected = 3.0 * 0.5**2 * torch.tensor([1.0, 2.0, 0.0])[:, None, None, None]
        torch.testing.assert_close(found(x, 0.5), plain(x, 0.5) + expected)
        torch.testing.assert_close(found(x, 2.0), plain(x, 2.0))
    assert str(asked) == "class=0.5, classifier=3 for sigma 0.1 to 1"


def test_a_classifier_and_its_weight_go_together(schema) -> None:
    for lacking in (Guidance(classifier=2.0), Guidance(candidates=2)):
        with pytest.raises(MediError, match="choice among candidates, need a classifier"):
            lacking.check(schema, 0.0, has_worse=False)
        lacking.check(schema, 0.0, has_worse=False, has_classifier=True)
    with pytest.raises(MediError, match="needs a weight above 0, or candidates"):
        Guidance().check(schema, 0.0, has_worse=False, has_classifier=True)
    with pytest.raises(MediError, match="1 to 100 candidates, not 0"):
        Guidance(candidates=0)
    with pytest.raises(MediError, match="finite numbers, not classifier=nan"):
        Guidance(classifier=float("nan"))
    with pytest.raises(MediError, match="0 or more, not -1"):
        Guidance(classifier=-1.0)


def test_of_the_candidates_the_surest_is_kept(denoiser: Denoiser, cohort: Cohort) -> None:
    """The first is the image without candidates, the others begin with other noise. Where the classifier does not know
    the class, or has no number for it, the first stays."""
    rows = cohort.table.head(6).assign(**{"class": ["a", "b", "a", "b", "a", "b"]})
    settings = SamplerSettings(steps=3, batch=4)
    each = [seeds.integer("candidate", 7, number) for number in (1, 2)]
    alone = np.stack([sample_images(denoiser, rows, seed, settings) for seed in (7, *each)])
    means = alone.mean((2, 3, 4))
    bright = (rows["class"] == "a").to_numpy()
    expected = alone[np.where(bright, means.argmax(0), means.argmin(0)), np.arange(6)]
    chosen = replace(settings, guidance=Guidance(candidates=3))
    found = sample_images(denoiser, rows, 7, chosen, classifier=Known())
    np.testing.assert_array_equal(found, expected)
    assert (found != alone[0]).any((1, 2, 3)).sum() >= 2, "the choice matters"
    unknown = rows.assign(**{"class": "c"})
    plain = sample_images(denoiser, unknown, 7, settings)
    np.testing.assert_array_equal(sample_images(denoiser, unknown, 7, chosen, classifier=Known()), plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Known, "sureness", lambda self, images, noise, labels: images.mean((1, 2, 3)) * torch.nan)
        np.testing.assert_array_equal(sample_images(denoiser, rows, 7, chosen, classifier=Known()), alone[0])
    assert chosen.evaluations == 3 * settings.evaluations
    assert str(replace(chosen.guidance, classifier=1.0)) == "classifier=1, best of 3 candidates"


def test_guidance_in_python_is_weights_and_other_fields() -> None:
    asked = sampler_settings(guidance={"weights": {"class": 1.5}, "site": 2.0, "classifier": 3.0}, steps=4)
    assert asked == SamplerSettings(steps=4, guidance=Guidance({"class": 1.5, "site": 2.0}, classifier=3.0))


def test_a_classifier_that_no_step_asks_is_refused() -> None:
    """Two steps lie at sigma 40 and 0.02, where no classifier knows anything: guidance was silently none."""
    known = (0.034, 3.0)
    SamplerSettings(steps=3, guidance=Guidance(classifier=2.0)).check_classifier(known)
    SamplerSettings(steps=2).check_classifier(known)
    two = SamplerSettings(steps=2, guidance=Guidance(classifier=2.0))
    with pytest.raises(MediError, match=r"change nothing: it knows sigma 0.034 to 3, and none of the 2 guided"):
        two.check_classifier(known)
    outside = SamplerSettings(guidance=Guidance(classifier=2.0, interval=(10.0, 20.0)))
    with pytest.raises(MediError, match="another interval"):
        outside.check_classifier(known)
