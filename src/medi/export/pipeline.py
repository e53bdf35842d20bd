"""A trained model as diffusers' classes. `medi.export.export` writes them, with all they need, into a folder that
`diffusers.DiffusionPipeline.from_pretrained` loads where this package is not installed."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import DiffusionPipeline
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from medi.cohort.schema import Attribute
from medi.core.errors import MediError
from medi.models.autoencoder import DiffusersCoder
from medi.models.denoiser import Denoiser
from medi.models.level_mix import Mix
from medi.models.space import LatentSpace, PixelSpace, Space
from medi.sampling.guidance import Guidance, guided
from medi.sampling.sampler import SamplerSettings
from medi.sampling.solvers import SOLVERS, Denoise, check_bounds

Level = str | float | Mapping[str, float] | Mix | None  # None: not known


class MediDenoiser(ModelMixin, ConfigMixin):
    """`inner` is the denoiser; settings: `Denoiser.config()`."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.inner = Denoiser.from_config(settings)

    def forward(
        self, x: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], z: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n c h w"]:
        return self.inner(x, sigma, z)


class MediPipeline(DiffusionPipeline):
    """Histology patches from a class and metadata, by the names of their levels.

    class_name: the keyword of the class beside `class_`; dropout: conditioning dropout in training, without which
    conditions cannot be guided. autoencoder: of diffusers, where the denoiser works on its latents; latent_mean and
    latent_std are then those of each channel.
    """

    _optional_components = ("autoencoder",)

    def __init__(
        self,
        denoiser: ModelMixin,
        class_name: str = "class_",
        dropout: float = 0.0,
        autoencoder: ModelMixin | None = None,
        latent_mean: Sequence[float] = (),
        latent_std: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, autoencoder=autoencoder)
        self.register_to_config(class_name=class_name, dropout=dropout)
        self.register_to_config(latent_mean=list(latent_mean), latent_std=list(latent_std))

    @torch.inference_mode()
    def __call__(
        self,
        num_inference_steps: int = SamplerSettings.steps,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Float[Tensor, "n c h w"] | None = None,
        solver: str = SamplerSettings.solver,
        schedule: str = SamplerSettings.schedule,
        guidance: dict[str, float] | None = None,
        guidance_interval: tuple[float, float] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        **conditions: Level | Sequence[Level],
    ) -> ImagePipelineOutput | tuple[list[Image.Image] | np.ndarray]:
        """Images as `.images`: PIL images, or with output_type "np" an array uint8 [n, h, w, 3].

        conditions: a level, a number, a mix of levels ({"A": 0.7, "B": 0.3} or "A:0.7+B:0.3"), None for not known, or
        a list of these, for the class and each attribute. latents: standard normal noise, drawn from `generator` where
        it is not given. guidance: weights per condition, 0 is none. An unknown level is an error that names the known.
        """
        denoiser, rows = self.denoiser.inner, self._rows(conditions)
        asked = Guidance({self._names().get(name, name): weight for name, weight in (guidance or {}).items()}, 0.0,
                         guidance_interval)  # fmt: skip
        asked.check(denoiser.schema, self.config.dropout, has_worse=False)
        settings = SamplerSettings(steps=num_inference_steps, solver=solver, schedule=schedule, guidance=asked)
        space, shape = self._space(), (len(rows), *denoiser.settings.shape)
        check_bounds(solver, space.is_bounded)
        if latents is None:
            latents = randn_tensor(shape, generator, denoiser.device, torch.float32)
        if tuple(latents.shape) != shape:
            raise MediError(f"latents must be noise of shape {list(shape)}, not {list(latents.shape)}")
        sigmas = settings.sigmas()
        denoise = guided(denoiser, rows, settings.guidance)
        with self.progress_bar(total=num_inference_steps) as bar:
            counted = partial(_counted, denoise, bar, set())
            found = SOLVERS[solver](counted, latents.to(denoiser.device) * float(sigmas[0]), sigmas)
        pixels = space.decode(found)
        images = pixels if output_type == "np" else [Image.fromarray(image) for image in pixels]
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _space(self) -> Space:
        """Pixels, or the latents of the autoencoder that lies beside the denoiser."""
        if self.autoencoder is None:
            return PixelSpace()
        return LatentSpace(partial(DiffusersCoder, self.autoencoder), self.config.latent_mean, self.config.latent_std)

    def _names(self) -> dict[str, str]:
        """Keywords and the conditions that they mean."""
        known = [attribute.name for attribute in self.denoiser.inner.schema.conditions]
        return dict.fromkeys(("class_", self.config.class_name), "class") | {name: name for name in known}

    def _rows(self, conditions: Mapping[str, Level | Sequence[Level]]) -> pd.DataFrame:
        """One row per image; a single level stands in every row."""
        names, schema = self._names(), self.denoiser.inner.schema
        given = {names.get(keyword, keyword): value for keyword, value in conditions.items()}
        for name in given:
            schema.attribute(name)
        if lacking := [attribute for attribute in schema.conditions if attribute.name not in given]:
            raise MediError("; ".join(f"{_keyword(a, self.config.class_name)} is not given" for a in lacking))
        lists = {name: value for name, value in given.items() if isinstance(value, (list, tuple))}
        lengths = {len(value) for value in lists.values()} or {1}
        if len(lengths) > 1 or 0 in lengths:
            raise MediError(f"lists of conditions differ in length: { {n: len(v) for n, v in lists.items()} }")
        count = lengths.pop()
        columns = {name: lists.get(name, [value] * count) for name, value in given.items()}
        return pd.DataFrame({name: pd.Series(map(_entry, entries), dtype=object) for name, entries in columns.items()})


def _counted(denoise: Denoise, bar: Any, seen: set[float], x: Tensor, sigma: float) -> Tensor:
    """A denoiser's estimate; the bar goes on at each new noise level."""
    bar.update(sigma not in seen)
    seen.add(sigma)
    return denoise(x, sigma)


def _keyword(attribute: Attribute, class_name: str) -> str:
    name = class_name if attribute.name == "class" else attribute.name
    known = f"known levels: {', '.join(attribute.levels)}" if attribute.levels else "a number"
    return f"{name} ({known}; None for not known)"


def _entry(level: Level) -> str | Mix:
    """A condition as tables hold it."""
    if isinstance(level, Mapping):
        return Mix(level)
    return "" if level is None else level if isinstance(level, Mix) else str(level)
