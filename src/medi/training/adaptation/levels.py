"""One level more in a model's tables of vectors."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from medi.cohort.schema import Schema
from medi.models.denoiser import Denoiser


def extended(denoiser: Denoiser, attribute: str, name: str, vector: Float[Tensor, " w"] | None = None) -> Denoiser:
    """A copy of a denoiser that knows one level more, the last; its vector is the mean of the others unless given."""
    schema = denoiser.schema
    more = {a.name: replace(a, levels=(*a.levels, name)) if a.name == attribute else a for a in schema.conditions}
    wider = Schema(more["class"], tuple(more[a.name] for a in schema.attributes))
    with torch.random.fork_rng(devices=[]):  # its first weights are replaced at once
        made = Denoiser(denoiser.settings, wider, denoiser.space)
    state, (key, count) = dict(denoiser.state_dict()), place(schema, attribute)
    table = state[key]
    row = table[:count].mean(dim=0) if vector is None else vector
    made.load_state_dict(state | {key: torch.cat([table[:count], row[None], table[count:]])})
    return made.eval()


def level_vector(denoiser: Denoiser, attribute: str, name: str) -> Float[Tensor, " w"]:
    """A level's own vector."""
    key, _ = place(denoiser.schema, attribute)
    return denoiser.state_dict()[key][denoiser.schema.attribute(attribute).levels.index(name)].clone()


def place(schema: Schema, attribute: str) -> tuple[str, int]:
    """Where the vectors of an attribute's levels stand, and how many they are."""
    number = [a.name for a in schema.conditions].index(attribute)
    return f"conditioning.embeddings.{number}.table.weight", len(schema.attribute(attribute).levels)
