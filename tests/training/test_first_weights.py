"""A training can begin with the weights of another network; conditions are learned anew."""

from dataclasses import replace

import pytest
import torch

from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.models.checkpoint import load_checkpoint, load_tensors, save_model, save_tensors
from medi.models.denoiser import Denoiser
from medi.models.first_weights import first_weights_hash
from medi.models.network import NetworkSettings
from medi.training.cost import cost_of
from medi.training.loop import train
from medi.training.presets import Preset
from medi.training.recipe import Recipe
from medi.training.trainer import Trainer, fresh_denoiser

RECIPE = Recipe(images=16, batch=4, save_every=16, warmup=16)


@pytest.fixture
def first(denoiser: Denoiser, tmp_path) -> str:
    """A model of other conditions than those of the cohort."""
    return str(save_model(tmp_path / "first.safetensors", denoiser))


def test_the_network_is_taken_over_and_the_conditions_are_not(cohort: Cohort, tiny, denoiser, first: str) -> None:
    names = Schema(Attribute("class", levels=("x", "y")), (Attribute("scanner", levels=("S",)),))
    made, by_chance = fresh_denoiser(tiny, names, 3, first), fresh_denoiser(tiny, names, 3)
    for name, value in made.network.state_dict().items():
        assert torch.equal(value, denoiser.network.state_dict()[name]), name
    for name, value in made.conditioning.state_dict().items():
        assert torch.equal(value, by_chance.conditioning.state_dict()[name]), name


def test_both_models_begin_with_the_same_network(cohort: Cohort, tiny, first: str) -> None:
    """CLS and MeDi differ in their conditions alone."""
    recipe = replace(RECIPE, init=first)
    medi = Trainer(cohort, tiny, recipe, cohort.schema, 0).denoiser.network.state_dict()
    cls = Trainer(cohort, tiny, recipe, cohort.schema.restrict([]), 1).denoiser.network.state_dict()
    assert all(torch.equal(value, cls[name]) for name, value in medi.items())


def test_the_average_begins_there_too(cohort: Cohort, tiny, denoiser, first: str) -> None:
    trainer = Trainer(cohort, tiny, replace(RECIPE, init=first), cohort.schema, 0)
    averaged = trainer.averaged().network.state_dict()
    assert all(torch.equal(value, denoiser.network.state_dict()[name]) for name, value in averaged.items())


@pytest.mark.slow
def test_the_model_says_what_it_began_with_and_other_first_weights_are_refused(
    cohort: Cohort, tiny, first: str, tmp_path
) -> None:
    made = train(cohort, tmp_path / "out", tiny, replace(RECIPE, init=first), cohort.schema, 0)
    checkpoint = load_checkpoint(made)
    assert checkpoint.init == first_weights_hash(first)
    assert checkpoint.recipe["init"] == first
    with pytest.raises(MediError, match=r"another recipe\.init \(.*, now \)"):
        train(cohort, tmp_path / "out", tiny, RECIPE, cohort.schema, 0)
    by_chance = train(cohort, tmp_path / "other", tiny, RECIPE, cohort.schema, 0)
    names = [name for name in load_tensors(made)[0] if name.startswith("network.conv_in")]
    assert not any(torch.equal(load_tensors(made)[0][name], load_tensors(by_chance)[0][name]) for name in names)


def test_weights_of_another_network_are_refused_with_the_setting_before_anything_is_written(
    cohort: Cohort, first: str, tmp_path
) -> None:
    wider = NetworkSettings(size=8, fold=2, channels=(8, 16), layers=1)
    wanted = r"whose channels is \[8, 8\], not \[8, 16\]; change network\.channels"
    with pytest.raises(MediError, match=wanted):
        train(cohort, tmp_path / "out", wider, replace(RECIPE, init=first), cohort.schema, 0)
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    with pytest.raises(MediError, match=wanted):
        cost_of(Preset(wider, replace(RECIPE, init=first)), cohort.schema)


def test_a_file_without_a_network_is_one_line(cohort: Cohort, tiny, denoiser, tmp_path) -> None:
    """The state of a training is the file beside the model: its tensors have other names."""
    weights = {f"weights.{name}": value for name, value in denoiser.state_dict().items()}
    state = save_tensors(tmp_path / "state.safetensors", weights, denoiser.config())
    with pytest.raises(MediError, match=r"state\.safetensors': holds no network; give the model\.safetensors"):
        fresh_denoiser(tiny, cohort.schema, 0, str(state))


def test_a_file_that_is_not_there_is_one_line(cohort: Cohort, tiny, tmp_path) -> None:
    with pytest.raises(MediError, match=r"training\.init 'nowhere': no such file; give the model"):
        train(cohort, tmp_path / "out", tiny, replace(RECIPE, init="nowhere"), cohort.schema, 0)
