"""A cohort of 8-px patches and a network of a few thousand parameters: the real entry points, in milliseconds."""

import numpy as np
import pandas as pd
import pytest
import torch

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings

SCHEMA = Schema(
    Attribute("class", levels=("a", "b", "c")), (Attribute("site", levels=("A", "B")), Attribute("age", "continuous"))
)


@pytest.fixture
def schema() -> Schema:
    return SCHEMA


@pytest.fixture
def tiny() -> NetworkSettings:
    return NetworkSettings(size=8, fold=2, channels=(8, 8), layers=1)


@pytest.fixture
def cohort() -> Cohort:
    rng = seeds.generator("test cohort")
    n = 24
    table = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)],
            "class": [("a", "b", "c")[i % 3] for i in range(n)],
            "patient": [f"p{i // 4}" for i in range(n)],
            "slide": [f"p{i // 4}" for i in range(n)],
            "site": [("A", "B", "")[i % 5 % 3] for i in range(n)],
            "age": [str(i - 12.5) if i % 7 else "" for i in range(n)],
            "noise_id": [f"s{i}" for i in range(n)],
        }
    )
    return Cohort(table, SCHEMA, Pixels.of(rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)))


@pytest.fixture
def denoiser(tiny: NetworkSettings, schema: Schema) -> Denoiser:
    return with_random_weights(tiny, schema)


def with_random_weights(settings: NetworkSettings, schema: Schema) -> Denoiser:
    """Random weights everywhere: a fresh denoiser's last layer is zero and would hide its conditioning."""
    torch.manual_seed(0)
    made = Denoiser(settings, schema)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()
