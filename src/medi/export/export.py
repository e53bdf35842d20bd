"""Export: a folder that diffusers loads where this package is not installed, with a filled-in model card."""

import json
import shutil
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from medi.core.errors import MediError
from medi.core.files import read_json, unfinished, write_json, write_text
from medi.core.locks import is_empty
from medi.export.bundle import bundle
from medi.export.card import card
from medi.export.tested import check_tested, memorisation_of
from medi.models.autoencoder import DiffusersCoder
from medi.models.checkpoint import Checkpoint, load_model
from medi.models.denoiser import Denoiser
from medi.models.network import UNET
from medi.models.space import autoencoder_of

INDEX = "model_index.json"
PIPELINE = ["pipeline", "MediPipeline"]  # module and class, as diffusers names them


def export(
    model: str | Path,
    folder: str | Path,
    class_name: str = "class_",
    data_licence: str = "",
    untested: bool = False,
) -> Path:
    """Write a trained model as a diffusers pipeline folder: model_index.json, pipeline.py, denoiser/ and README.md.

    class_name: the keyword under which the pipeline takes the class (a Python keyword, so `class_` always works too).
    The folder appears whole or not at all; an older export in its place is replaced, anything else is refused. A model
    that no test for memorisation (`medi.export.tested`) judged is refused too, but where `untested` allows it.
    """
    folder, (denoiser, checkpoint) = Path(folder), load_model(Path(model))
    found = memorisation_of(Path(model))
    if not untested:
        check_tested(Path(model), found)
    if denoiser.settings.network != UNET:
        raise MediError(f"{model}: its network is {denoiser.settings.network!r}; only {UNET!r} can be exported")
    autoencoder = _autoencoder(model, checkpoint)
    names = [attribute.name for attribute in denoiser.schema.attributes]
    if not class_name.isidentifier() or class_name in names:
        raise MediError(f"--class-name {class_name!r} must be a Python name that no attribute has: {', '.join(names)}")
    if folder.is_file() or (not is_empty(folder) and not _is_ours(folder)):
        raise MediError(f"{folder}: holds something else; choose another --out")
    folder = folder.resolve()
    temporary = unfinished(folder)
    try:
        text = card(checkpoint, class_name, data_licence, found.lines)
        _write(temporary, denoiser, checkpoint, class_name, text, autoencoder)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    except (OSError, SafetensorError) as error:
        raise MediError(f"{folder}: cannot be written ({error}); free space or choose another folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _is_ours(folder: Path) -> bool:
    """Whether an older export lies there; the pipeline of another model is the user's."""
    with suppress(MediError):
        found = read_json(folder / INDEX)
        return isinstance(found, dict) and found.get("_class_name") == PIPELINE
    return False


def _autoencoder(model: str | Path, checkpoint: Checkpoint) -> Any:
    """The module of diffusers that decodes what the model makes; None of a model of pixels, refused where it may not
    leave this machine."""
    if checkpoint.latents is None:
        return None
    found = autoencoder_of(checkpoint.latents, Path(model))
    if not isinstance(found.coder, DiffusersCoder):
        raise MediError(
            f"{model}: works on latents of {found.name}, which are for trials alone, as the terms of these weights "
            "have not been checked; train on pixels or on an autoencoder of diffusers"
        )
    return found.coder.module


def _write(
    folder: Path, denoiser: Denoiser, checkpoint: Checkpoint, class_name: str, text: str, autoencoder: Any
) -> None:
    from medi.export import pipeline

    component = pipeline.MediDenoiser(settings=json.loads(json.dumps(denoiser.config())))
    component.inner.load_state_dict(denoiser.state_dict())
    component.save_pretrained(folder / "denoiser")
    write_text(folder / "denoiser" / "denoiser.py", bundle(pipeline.__name__, "MediDenoiser"))
    write_text(folder / "pipeline.py", bundle(pipeline.__name__, "MediPipeline"))
    index: dict[str, Any] = {"_class_name": PIPELINE, "_diffusers_version": version("diffusers")}
    index |= {"denoiser": ["denoiser", "MediDenoiser"], "class_name": class_name}
    if autoencoder is not None and checkpoint.latents is not None:
        autoencoder.save_pretrained(folder / "autoencoder", safe_serialization=True)
        index |= {"autoencoder": ["diffusers", type(autoencoder).__name__]}
        index |= {"latent_mean": checkpoint.latents["mean"], "latent_std": checkpoint.latents["std"]}
    write_json(folder / INDEX, index | {"dropout": checkpoint.dropout})
    write_text(folder / "README.md", text)
