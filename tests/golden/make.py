"""Writes the golden files beside it, once per format_version: python tests/golden/make.py. Never run by the tests."""

from pathlib import Path

import pandas as pd
import torch

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.files import write_json
from medi.models.checkpoint import Checkpoint, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.sampling.sampler import SamplerSettings, sample_images

HERE = Path(__file__).parent
SCHEMA = Schema(
    Attribute("class", levels=("LUAD", "LUSC")),
    (Attribute("site", levels=("02", "NA"), missing=("", "not reported")), Attribute("age", "continuous")),
)
ROWS = pd.DataFrame(
    {"class": ["LUAD", "LUSC", ""], "site": ["NA", "02", "not reported"], "age": ["61", "", "47.5"]}, dtype="str"
).assign(noise_id=["a", "b", "c"])


def main() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(NetworkSettings(size=8, fold=2, channels=(8, 8), layers=1), SCHEMA).eval()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(HERE / "model.safetensors", denoiser, Checkpoint.of(denoiser, recipe={"dropout": 0.0}, images=0))
    images = sample_images(denoiser, ROWS, 7, SamplerSettings(steps=4, batch=3))
    write_json(HERE / "images.json", images.tolist())
    ids = {name: ["p1", "p1", "p2"] for name in ("patient", "slide")}
    table = ROWS.drop(columns="noise_id").assign(sample_id=["x", "y", "NA"], **ids)
    pixels = seeds.generator("golden").integers(0, 256, (3, 8, 8, 3), dtype="uint8")
    Cohort(table, SCHEMA, Pixels.of(pixels), {"source": "golden"}).save(HERE / "cohort")


if __name__ == "__main__":
    main()
