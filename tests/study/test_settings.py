"""Study files: what a user registered is named in them, unknown names are refused, files of version 0.1 are read."""

from pathlib import Path

import pytest
import yaml

import medi
from command_line import Medi, fine, refused
from medi.core.errors import MediError
from medi.study.settings import StudySettings, find_study, read_study
from medi.study.study import check, road

EXTENSION = '''
"""A solver and a training set of a user's own."""
from medi import register
from medi.evaluation.classify.arms import Arm

@register("solver", "one-jump-of-a-study")
def one_jump(denoise, x, sigmas):
    return denoise(x, float(sigmas[0]))

@register("arm", "real-again-of-a-study")
def real_again(material):
    return Arm("real-again-of-a-study", material.real)
'''
STUDY = {
    "base": "quick",
    "extensions": ["mine.py"],
    "sampling": {"solver": "one-jump-of-a-study", "steps": 2},
    "evaluation": {"arms": ["real-again-of-a-study"]},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an extension, which a process loads once."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text(EXTENSION)
    return folder


@pytest.fixture
def own(home: Path) -> Path:
    """A study file beside the extension."""
    (home / "own.yaml").write_text(yaml.safe_dump(STUDY))
    return home / "own.yaml"


@pytest.mark.slow
def test_a_study_names_what_its_extensions_register(own: Path, medi: Medi) -> None:
    settings = find_study(own)
    assert settings.extensions == (str(own.parent / "mine.py"),)
    assert settings.sampling.solver == "one-jump-of-a-study"
    check(settings)
    assert "samples: 640 images a model" in fine(medi("run", own, "--dry-run"))
    kept = own.parent / "kept.yaml"
    kept.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    assert read_study(kept) == settings, "as workers read it in the run folder"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extensions": ["none.py"]}, ["extension ", "none.py: no such file"]),
        ({"extensions": ["no_such_module"]}, ["extension no_such_module: cannot be loaded"]),
        ({"evaluation": {"arms": ["corall"]}}, ["evaluation.arms: 'corall' is unknown", "did you mean 'coral'?"]),
        ({"evaluation": {"stains": ["macenk"]}}, ["evaluation.stains: 'macenk' is unknown; known: macenko"]),
        ({"evaluation": {"encoders": ["none"]}}, ["encoder 'none' is unknown; known: colour-texture"]),
        ({"sampling": {"solver": "eular"}}, ["eular"]),
        ({"network": {"network": "transformer"}}, ["transformer"]),
        ({"sampling": {"guidance": {"classifier": 2}}, "classifier": {"channels": [8] * 8}}, ["divides by 128, not"]),
        ({"sampling": {"steps": 2, "guidance": {"classifier": 2}}}, ["would change nothing", "take more steps"]),
    ],
)
def test_unknown_names_are_refused_before_anything_is_written(
    own: Path, medi: Medi, change: dict, words: list[str]
) -> None:
    own.write_text(yaml.safe_dump(STUDY | change))
    refused(medi("run", own, "--out", "run"), *words)
    assert not Path("run").exists()


def test_study_files_of_version_0_1_are_read(tmp_path: Path) -> None:
    old = {
        "training": {"early": 64, "images": 128, "save_every": 64},
        "sampling": {"guidance": {"weak": 0.5}},
        "evaluation": {"transfer": True, "arms": ["free"]},
    }
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old))
    found = read_study(tmp_path / "old.yaml")
    assert found.training.early_average == 64
    assert found.sampling.guidance.autoguidance == 0.5
    assert (found.evaluation.translated, found.evaluation.arms) == (True, ("all",))


def test_the_road_has_what_the_settings_ask_for() -> None:
    names = [stage.name for stage in road(find_study("quick"))]
    assert names[:4] == ["study.yaml", "cohort", "audit", "holdout"]
    assert {"references", "tables/recommend.parquet"} <= set(names)
    assert not {"translated", "encoders/learned.safetensors", "tables/by_encoder.parquet"} & set(names)
    asked = StudySettings.model_validate(
        {
            "evaluation": {"translated": True, "encoders": ["colour-texture", "learned"]},
            "utility": {"recommend": ["none"]},
        }
    )
    assert "tables/recommend.parquet" not in {stage.name for stage in road(asked)}
    stages = {stage.name: stage for stage in road(asked)}
    assert stages["embeddings"].reads == ("holdout", "samples", "references", "translated")
    assert "encoders/learned.safetensors" in stages["embeddings-learned"].reads
    assert stages["tables/fidelity.parquet"].reads == ("embeddings", "embeddings-learned")
    assert stages["tables/by_encoder.parquet"].reads == ("embeddings-learned",)


def test_run_takes_a_name_a_path_or_settings(own: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for study in ("quick", str(own), find_study("quick")):
        with pytest.raises(MediError, match="is not empty and holds no run of medi"):
            medi.run(study, str(tmp_path / "mine"), seed=3)
