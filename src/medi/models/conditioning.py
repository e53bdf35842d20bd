"""From a schema to z_cond = concat(z_class, z_1, ..., z_k) in R^d (Drexlin et al., MICCAI 2025, method section).

Class and metadata own disjoint slices of z_cond. UNet blocks apply an element-wise SiLU and then a linear layer to
z_t + z_cond, so what they see is exactly additive in class and metadata. Two other ways to join the embeddings, to
compare with: `additive` sums embeddings of full width, `linear` mixes the concatenated ones by a learned matrix.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from torch import Tensor, nn

from medi.cohort.schema import Attribute, Codes, Schema
from medi.core.errors import MediError

Join = Literal["concat", "additive", "linear"]
Slices = Literal["equal", "half"]
Dropout = float | dict[str, float]  # of every condition alike, or by its name: then no other one is dropped
FREQUENCIES = 16  # octaves of a standardised continuous value: periods from 32 scales down to 1/1024 of one


def slice_widths(dimension: int, conditions: int, slices: Slices = "equal") -> tuple[int, ...]:
    """Widths of the class's slice and of each attribute's; the class takes the remainder.

    slices: all alike ("equal"), or half of the vector for the class, however many attributes share the rest ("half").

    >>> slice_widths(128, 3), slice_widths(128, 3, "half")
    ((44, 42, 42), (64, 32, 32))
    """
    share = dimension // max(2 * (conditions - 1), 1) if slices == "half" else dimension // conditions
    if share < 1:
        raise MediError(f"{conditions} conditions do not fit into a vector of {dimension}; widen the network")
    return (dimension - share * (conditions - 1), *[share] * (conditions - 1))


def dropout_rates(dropout: Dropout, names: Iterable[str]) -> Float64[np.ndarray, " k"]:
    """The share of draws in which each of these conditions is dropped."""
    return np.array([dropout.get(name, 0.0) if isinstance(dropout, dict) else dropout for name in names], dtype=float)


class LevelEmbedding(nn.Module):
    """One vector per level, one for "not known", one null vector for a dropped condition."""

    def __init__(self, attribute: Attribute, width: int) -> None:
        super().__init__()
        self.missing, self.null = len(attribute.levels), len(attribute.levels) + 1
        self.table = nn.Embedding(len(attribute.levels) + 2, width)

    def forward(self, ids: Int64[Tensor, " n"], dropped: Bool[Tensor, " n"]) -> Float[Tensor, "n w"]:
        # not torch.where, which takes its scalars from the CPU: a CUDA graph cannot
        known = ids.masked_fill(ids < 0, self.missing)
        return self.table(known.masked_fill(dropped, self.null))


class ValueEmbedding(nn.Module):
    """A continuous value through Fourier features, an octave apart, and a linear layer; NaN is "not known"."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 ** torch.arange(FREQUENCIES) * (2 * torch.pi / 32), persistent=False)
        self.linear = nn.Linear(2 * FREQUENCIES, width)
        self.tokens = nn.Embedding(2, width)  # not known, null

    def forward(self, values: Float[Tensor, " n"], dropped: Bool[Tensor, " n"]) -> Float[Tensor, "n w"]:
        unknown = values.isnan()
        phases = values.nan_to_num(0.0)[:, None] * self.get_buffer("frequencies")
        features = self.linear(torch.cat([phases.sin(), phases.cos()], dim=1))
        token = self.tokens(dropped.long())
        return torch.where((unknown | dropped)[:, None], token, features)


class Conditioning(nn.Module):
    """z_cond of a schema: the class's slice first, then one slice per attribute in the schema's order.

    join: how the embeddings become one vector; slices: how wide each is (`slice_widths`). "additive" has no slices:
    every embedding is as wide as z_cond.
    `forward(codes, dropped)` takes what `Schema.encode` gives, as tensors [n] per condition, and returns [n, d];
    `dropped` [n, k + 1] replaces conditions by their null vector (conditioning dropout, guidance).
    """

    def __init__(self, schema: Schema, dimension: int, join: Join = "concat", slices: Slices = "equal") -> None:
        super().__init__()
        self.schema, self.join = schema, join
        conditions = len(schema.conditions)
        whole = (dimension,) * conditions
        self.widths = whole if join == "additive" else slice_widths(dimension, conditions, slices)
        self.embeddings = nn.ModuleList(
            LevelEmbedding(attribute, width) if attribute.kind == "categorical" else ValueEmbedding(width)
            for attribute, width in zip(schema.conditions, self.widths)
        )
        self.mix = nn.Linear(dimension, dimension) if join == "linear" else nn.Identity()

    def forward(
        self, codes: Mapping[str, Shaped[Tensor, " n"]], dropped: Bool[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n d"]:
        columns = [codes[attribute.name] for attribute in self.schema.conditions]
        if dropped is None:
            dropped = torch.zeros(len(columns[0]), len(columns), dtype=torch.bool, device=columns[0].device)
        parts = [embed(column, dropped[:, i]) for i, (embed, column) in enumerate(zip(self.embeddings, columns))]
        if self.join == "additive":
            return torch.stack(parts).sum(dim=0)
        return self.mix(torch.cat(parts, dim=1))


def as_tensors(codes: Mapping[str, Codes], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The codes of `Schema.encode` as tensors on a device."""
    return {name: torch.from_numpy(np.array(column)).to(device) for name, column in codes.items()}
