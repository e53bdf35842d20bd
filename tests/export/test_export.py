"""An export loads and samples where this package cannot be imported, with the images of our own sampler."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from later import Later
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.tables import MEMORISATION
from medi.export.bundle import bundle
from medi.export.card import card
from medi.export.export import export
from medi.export.tested import memorisation_of
from medi.models.checkpoint import Checkpoint, model_hash, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.sampling.guidance import Guidance
from medi.sampling.sampler import SamplerSettings, sample_images
from medi.training.loop import train
from medi.training.recipe import Recipe

diffusers = Later("diffusers")
COMBINATIONS = {"columns": ["class", "site"], "rows": [["a", "", 2], ["a", "A", 1200], ["b", "B", 7]]}
ROWS = pd.DataFrame(
    {
        "class": ["a", "b", "c", "a"],
        "site": ["A", "B", "A:0.7+B:0.3", ""],
        "age": ["3.5", "", "-1", "60"],
        "noise_id": ["n0", "n1", "n2", "n3"],
    }
)
CONDITIONS = {
    "cancer": ["a", "b", "c", "a"],
    "site": ["A", "B", {"A": 0.7, "B": 0.3}, None],
    "age": [3.5, None, -1, "60"],
}

ELSEWHERE = """
import json, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "medi":
            raise ImportError("medi is not installed here")
sys.meta_path.insert(0, Block())
try:
    import medi
    raise SystemExit("medi could be imported")
except ImportError:
    pass
import numpy as np, torch
from diffusers import DiffusionPipeline
folder, conditions, noise, out = sys.argv[1:]
pipe = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
pipe.set_progress_bar_config(disable=True)
given = dict(latents=torch.from_numpy(np.load(noise)), num_inference_steps=5, **json.loads(conditions))
np.savez(out, plain=pipe(**given, output_type="np").images, pil=np.stack([np.asarray(i) for i in pipe(**given).images]),
         guided=pipe(**given, guidance={"cancer": 1.5}, solver="heun", output_type="np").images)
try:
    pipe(cancer="a", site="Mars", age=1.0)
except Exception as error:
    print(error)
"""


@pytest.fixture
def model(denoiser: Denoiser, tmp_path: Path) -> Path:
    config = {"images": 160, "seed": 0, "recipe": {"dropout": 0.1}, "data": "d", "info": {"reader": "table"}}
    return save_model(
        tmp_path / "model.safetensors", denoiser, Checkpoint.of(denoiser, **config, combinations=COMBINATIONS)
    )


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    return export(model, tmp_path / "pipeline", "cancer", untested=True)


@pytest.fixture
def pipe(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    loaded = diffusers.DiffusionPipeline.from_pretrained(str(folder), trust_remote_code=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.mark.slow
def test_export_gives_our_images_where_the_package_is_not_there(
    folder: Path, denoiser: Denoiser, tmp_path: Path
) -> None:
    """In another process in which `import medi` fails: levels, a mix, not known, numbers, and guidance."""
    noise = seeds.noise(3, list(ROWS["noise_id"]), (3, 8, 8))
    np.save(tmp_path / "noise.npy", noise)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [
        sys.executable,
        "-c",
        ELSEWHERE,
        folder,
        json.dumps(CONDITIONS),
        tmp_path / "noise.npy",
        tmp_path / "o.npz",
    ]
    done = subprocess.run(list(map(str, command)), env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "site 'Mars' (row 0) is unknown; known levels: A, B" in done.stdout
    theirs = np.load(tmp_path / "o.npz")
    ours = sample_images(denoiser, ROWS, 3, SamplerSettings(steps=5, batch=4, precision="fp32"))
    asked = SamplerSettings(steps=5, batch=4, solver="heun", precision="fp32", guidance=Guidance({"class": 1.5}))
    assert np.abs(theirs["plain"].astype(int) - ours).max() <= 1
    assert (theirs["pil"] == theirs["plain"]).all()
    assert np.abs(theirs["guided"].astype(int) - sample_images(denoiser, ROWS, 3, asked)).max() <= 1
    assert (theirs["guided"] != theirs["plain"]).any()


@pytest.mark.slow
def test_generator_and_single_levels(pipe: Any) -> None:
    """A single level stands for every image of a list; a generator makes images repeatable."""

    def images(seed: int) -> np.ndarray:
        made = pipe(cancer=["a", "b"], site="A", age=1.0, num_inference_steps=2, output_type="np",
                    generator=torch.Generator().manual_seed(seed))  # fmt: skip
        return made.images

    assert images(0).shape == (2, 8, 8, 3)
    assert (images(0) == images(0)).all()
    assert (images(0) != images(1)).any()
    one = pipe(class_="a", site="A", age=None, num_inference_steps=2, return_dict=False)[0][0]
    assert one.size == (8, 8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"cancer": "z", "site": "A", "age": 1.0}, "class 'z' .* known levels: a, b, c"),
        ({"cancer": "a", "site": {"A": 1.0, "Mars": 1.0}, "age": 1.0}, "level 'Mars' is unknown; known levels: A, B"),
        ({"cancer": "a", "age": 1.0}, r"site \(known levels: A, B; None for not known\) is not given"),
        ({"site": "A", "age": 1.0}, r"cancer \(known levels: a, b, c; None for not known\) is not given"),
        ({"cancer": "a", "site": "A", "age": "old"}, "age 'old' .* is not a number"),
        ({"cancer": "a", "stain": "A"}, "'stain' is no attribute; known: class, site, age"),
        ({"cancer": ["a", "b"], "site": ["A"], "age": 1.0}, "differ in length: {'class': 2, 'site': 1}"),
    ],
)
def test_what_cannot_be_asked_is_named(conditions, words: str, pipe: Any) -> None:
    """P1."""
    with pytest.raises(Exception, match=words) as error:
        pipe(num_inference_steps=2, **conditions)
    assert type(error.value).__name__ == "MediError"


@pytest.mark.slow
def test_folder_appears_whole_or_not_at_all(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P12; an older export is replaced, another folder is not."""

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    first = export(model, tmp_path / "out", "cancer", untested=True)
    with monkeypatch.context() as patched:
        patched.setattr("medi.export.export.card", fail)
        with pytest.raises(MediError, match=r"cannot be written .*No space left on device"):
            export(model, tmp_path / "new", untested=True)
        with pytest.raises(MediError, match="cannot be written"):
            export(model, tmp_path / "out", untested=True)
    assert not (tmp_path / "new").exists()
    assert json.loads((first / "model_index.json").read_text())["class_name"] == "cancer", "the old one stays usable"
    assert json.loads((export(model, first, untested=True) / "model_index.json").read_text())["class_name"] == "class_"
    assert not list(tmp_path.glob(".*tmp"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    for taken in ("own", "own/notes.txt", "other"):
        with pytest.raises(MediError, match="holds something else"):
            export(model, tmp_path / taken, untested=True)
    with pytest.raises(MediError, match="'site' must be a Python name that no attribute has: site, age"):
        export(model, tmp_path / "x", "site", untested=True)


@pytest.mark.slow
def test_exported_source_stands_alone() -> None:
    """Everything used is defined, nothing of ours is imported, nothing unused is carried along."""
    text = bundle("medi.export.pipeline", "MediPipeline")
    assert "medi" not in {
        line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("from ", "import "))
    }
    assert "def dpm_solver_2m(" in text
    assert "def group_rare(" not in text
    with pytest.raises(LookupError, match=r"medi\.core\.errors has no top-level nothing"):
        bundle("medi.core.errors", "nothing")


@pytest.mark.slow
def test_two_meanings_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export once held two functions named ddpm_sigmas, and the wrong one won."""
    text = bundle("medi.export.pipeline", "MediPipeline")
    defined = re.findall(r"^(?:def|class) (\w+)", text, flags=re.M)
    assert len(defined) == len(set(defined))
    (tmp_path / "clash_a.py").write_text("def levels():\n    return 1\n\n\ndef used():\n    return levels()\n")
    (tmp_path / "clash_b.py").write_text(
        "from clash_a import used\n\n\ndef levels():\n    return 2\n\n\ndef both():\n    return levels() + used()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("medi.export.bundle.PACKAGE", "clash_a")
    with pytest.raises(LookupError, match="levels is defined in clash_a and in clash_b; rename one"):
        bundle("clash_b", "both")


@pytest.mark.slow
def test_training_records_what_the_card_lists(cohort: Cohort, tiny: NetworkSettings, tmp_path: Path) -> None:
    """From training to the card, for a model of the class alone too: its data had sites."""
    recipe = Recipe(images=16, batch=16, save_every=16)
    model = train(cohort, tmp_path / "m", tiny, recipe, cohort.schema.restrict([]), 0)
    text = (export(model, tmp_path / "p", untested=True) / "README.md").read_text()
    seen = cohort.table[cohort.table["class"] == "a"]["site"].value_counts()
    assert f"| a | not known {seen['']}, A {seen['A']}, B {seen['B']} | none |" in text


def test_card_lists_what_training_saw_and_never_saw(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert "1,209 training patches" in text
    assert "| a | not known 2, A 1,200 | B |" in text
    assert "| b | B 7 | A |" in text
    assert "| c | none | A, B |" in text
    assert "cancer='a'," in text
    assert "training: dropout: 0.1" in text
    assert "Licence of the training data: not recorded in this checkpoint: find out" in text
    assert "Not for diagnosis" in text


def test_names_from_metadata_are_escaped_in_the_card() -> None:
    """P11."""
    evil = "<b>|`x`\n"
    schema = Schema(Attribute("class", levels=(evil,)), (Attribute("a b", levels=("1",)),))
    found = {"columns": ["class", "a b"], "rows": [[evil, "1", 3]]}
    checkpoint = Checkpoint(NetworkSettings(size=8, channels=(8,)), schema, combinations=found)
    text = card(checkpoint, data_licence="CC BY 4.0 <x>")
    assert "| \\<b\\>\\|\\`x\\` " in text
    assert "<b>" not in "".join(text.split("```")[::2])  # nothing is rendered inside the fence
    assert "**{'a b': '1'}" in text
    assert "CC BY 4.0 \\<x\\>" in text


def judged(folder: Path, made: str, copies: float, **said: object) -> None:
    """A table of memorisation as `medi fidelity` writes it."""
    texts = {"metric": "copy_rate", "arm": "mine", "against": "", "reason": "", "origin": made}
    numbers = {"value": copies, "low": 0.0, "high": 0.125, "n_real": 40, "n_synthetic": 80}
    MEMORISATION.write(folder, pd.DataFrame([texts | numbers | said]))


@pytest.mark.slow
def test_a_model_leaves_the_house_with_its_own_memorisation_result(model: Path, tmp_path: Path) -> None:
    """Beside the model or in its run; that of another model, or one that is not known, does not count."""
    made = model_hash(model)
    home = tmp_path / "run" / "models" / "medi"
    home.mkdir(parents=True)
    model = model.rename(home / "model.safetensors")
    judged(home.parent / "other", "another model", 0.0)
    (home.parent / "torn").mkdir()
    (home.parent / "torn" / "memorisation.parquet").write_bytes(b"torn")
    with pytest.raises(MediError, match=r"model.safetensors: no test for memorisation of this model lies beside it"):
        export(model, tmp_path / "out")
    judged(home.parent / "few", made, np.nan, reason="no reserved patches")
    with pytest.raises(MediError, match=r"model.safetensors: no reserved patches; --untested exports it without"):
        export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (
        "Not tested: no reserved patches" in (export(model, tmp_path / "bare", untested=True) / "README.md").read_text()
    )
    shutil.rmtree(home.parent / "few")
    judged(tmp_path / "run" / "tables", made, 0.025)
    said = (
        r"2.5% \(95 %: 0.0% to 12.5%\) of 80 images count as copies of training patches; of fresh real patches 1% do."
    )
    assert said in (export(model, tmp_path / "out") / "README.md").read_text()


def test_an_older_run_names_its_models_alone(model: Path, tmp_path: Path) -> None:
    home = tmp_path / "run" / "models" / "medi"
    home.mkdir(parents=True)
    model = model.rename(home / "model.safetensors")
    judged(tmp_path / "run" / "tables", "", 0.025, arm="medi")
    path = tmp_path / "run" / "tables" / "memorisation.parquet"
    pd.read_parquet(path).drop(columns=["origin"]).to_parquet(path.with_name("copying.parquet"))
    path.unlink()
    assert memorisation_of(model).lines[0].startswith("2.5%")
    assert memorisation_of(model.rename(tmp_path / "model.safetensors")).reason


def test_card_of_an_older_checkpoint_says_so(cohort: Cohort) -> None:
    settings = NetworkSettings(size=8, fold=4, channels=(8,), layers=1)
    text = card(Checkpoint(settings, cohort.schema))
    assert "## Training combinations\n\nNot recorded in this checkpoint." in text
