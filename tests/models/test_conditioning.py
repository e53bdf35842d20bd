"""z_cond: disjoint slices, ids from the schema alone (P1), exact additivity of class and metadata in every block."""

from itertools import product

import pandas as pd
import pytest
import torch
from torch import Tensor

from medi.cohort.schema import Attribute, Schema
from medi.core.errors import MediError
from medi.models.conditioning import Conditioning, as_tensors, slice_widths
from medi.models.denoiser import Denoiser


def codes(schema: Schema, *rows: tuple[str, str, str]) -> dict[str, Tensor]:
    return as_tensors(schema.encode(pd.DataFrame(rows, columns=["class", "site", "age"], dtype=str)))


@pytest.mark.parametrize(("dimension", "conditions"), [(512, 2), (128, 3), (7, 3), (5, 1)])
def test_slices_fill_the_vector_and_the_class_takes_the_remainder(dimension: int, conditions: int) -> None:
    widths = slice_widths(dimension, conditions)
    assert sum(widths) == dimension
    assert widths[0] - widths[-1] == (dimension % conditions if conditions > 1 else 0)
    assert len(set(widths[1:])) <= 1


def test_more_conditions_than_numbers_are_refused() -> None:
    with pytest.raises(MediError, match="3 conditions do not fit"):
        slice_widths(2, 3)


def test_concat_puts_each_embedding_into_its_own_slice(schema: Schema) -> None:
    """Fails if ids, slices or embeddings are swapped: the vector is rebuilt by hand from the tables."""
    torch.manual_seed(0)
    conditioning = Conditioning(schema, 32)
    z = conditioning(codes(schema, ("b", "A", "1.5"), ("c", "B", ""), ("", "", "-2")))
    of_class, of_site, of_age = conditioning.embeddings
    first, second = conditioning.widths[0], conditioning.widths[0] + conditioning.widths[1]
    torch.testing.assert_close(z[:, :first], of_class.table.weight[torch.tensor([1, 2, 3])])  # 3: not known
    torch.testing.assert_close(z[:, first:second], of_site.table.weight[torch.tensor([0, 1, 2])])
    torch.testing.assert_close(z[1, second:], of_age.tokens.weight[0])
    phases = 1.5 * of_age.frequencies
    by_hand = of_age.linear.weight @ torch.cat([phases.sin(), phases.cos()]) + of_age.linear.bias
    torch.testing.assert_close(z[0, second:], by_hand)


def test_additive_sums_embeddings_of_full_width(schema: Schema) -> None:
    conditioning = Conditioning(schema, 32, "additive")
    rows = codes(schema, ("b", "A", "1.5"))
    dropped = torch.zeros(1, dtype=torch.bool)
    by_hand = sum(embed(rows[a.name], dropped) for embed, a in zip(conditioning.embeddings, schema.conditions))
    torch.testing.assert_close(conditioning(rows), by_hand)
    assert conditioning(rows).shape == (1, 32)


def test_linear_mixes_the_concatenated(schema: Schema) -> None:
    conditioning, plain = Conditioning(schema, 32, "linear"), Conditioning(schema, 32)
    plain.embeddings.load_state_dict(conditioning.embeddings.state_dict())
    rows = codes(schema, ("b", "A", "1.5"), ("", "B", ""))
    by_hand = plain(rows) @ conditioning.mix.weight.T + conditioning.mix.bias
    torch.testing.assert_close(conditioning(rows), by_hand)


def test_only_the_slice_of_a_changed_condition_changes(schema: Schema) -> None:
    conditioning = Conditioning(schema, 32)
    base, other_class, other_site = conditioning(codes(schema, ("a", "A", "0"), ("b", "A", "0"), ("a", "B", "0")))
    first, second = conditioning.widths[0], conditioning.widths[0] + conditioning.widths[1]
    assert torch.equal(base[first:], other_class[first:])
    assert (base[:first] != other_class[:first]).all()
    assert torch.equal(base[:first], other_site[:first])
    assert torch.equal(base[second:], other_site[second:])
    assert (base[first:second] != other_site[first:second]).all()


def test_missing_and_dropped_have_tokens_of_their_own(schema: Schema) -> None:
    """P1: "not known" and "dropped" differ from every level and from each other, per condition."""
    conditioning = Conditioning(schema, 32)
    rows = codes(schema, ("a", "A", "0"), ("b", "B", "0"), ("c", "A", "0"), ("", "", ""))
    known = conditioning(rows)
    null = conditioning(rows, torch.ones(4, 3, dtype=torch.bool))
    assert (null == null[0]).all()
    start = 0
    for width in conditioning.widths:
        part = torch.cat([known[:, start : start + width], null[:1, start : start + width]])
        assert not any(torch.equal(part[i], part[j]) for i, j in ((0, 3), (1, 3), (2, 3), (0, 4), (3, 4)))
        start += width


def test_dropout_is_independent_per_attribute(schema: Schema) -> None:
    conditioning = Conditioning(schema, 32)
    rows = codes(schema, ("a", "A", "1"), ("a", "A", "1"))
    z = conditioning(rows, torch.tensor([[False, True, False], [False, False, False]]))
    first, second = conditioning.widths[0], conditioning.widths[0] + conditioning.widths[1]
    assert torch.equal(z[0, :first], z[1, :first])
    assert torch.equal(z[0, second:], z[1, second:])
    assert not torch.equal(z[0, first:second], z[1, first:second])


def test_continuous_values_are_resolved_over_their_range(schema: Schema) -> None:
    conditioning = Conditioning(schema, 64)
    values = torch.linspace(-3, 3, 200)
    z = conditioning.embeddings[2](values, torch.zeros(200, dtype=torch.bool))
    distances = torch.cdist(z, z) + torch.eye(200) * 1e3
    assert distances.min() > 1e-3 * distances[distances < 1e3].max()


def block_inputs(denoiser: Denoiser, pairs: list[tuple[str, str]]) -> list[Tensor]:
    """What each residual block's linear layer makes of SiLU(z_t + z_cond), one row per (class, site)."""
    seen: list[Tensor] = []
    layers = [m for name, m in denoiser.network.named_modules() if name.endswith("time_emb_proj")]
    hooks = [layer.register_forward_hook(lambda _, __, output: seen.append(output)) for layer in layers]
    z = denoiser.conditioning(codes(denoiser.schema, *[(c, s, "0.3") for c, s in pairs]))
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)).expand(len(pairs), -1, -1, -1)
    with torch.inference_mode():
        denoiser(x, torch.full((len(pairs),), 0.7), z)
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(layers) > 4
    return seen


def test_conditioning_of_every_block_is_additive_in_class_and_site(denoiser: Denoiser) -> None:
    """DESIGN's invariant of concatenation: f(a, A) - f(a, B) - f(b, A) + f(b, B) = 0, and f is not constant."""
    for block in block_inputs(denoiser, list(product("ab", "AB"))):
        aA, aB, bA, bB = block.double()
        scale = (aA - bB).abs().max()
        assert scale > 1e-3
        assert (aA - aB - bA + bB).abs().max() < 1e-5 * scale + 1e-6
        assert (aA - aB).abs().max() > 1e-3
        assert (aA - bA).abs().max() > 1e-3


def test_additivity_would_fail_for_overlapping_slices(denoiser: Denoiser) -> None:
    """The test above can fail: added into one slice, class and site interact through the SiLU."""
    tables = [embedding.table.weight for embedding in list(denoiser.conditioning.embeddings)[:2]]
    width = min(table.shape[1] for table in tables)
    overlapping = {(c, s): tables[0][c, :width] + tables[1][s, :width] for c, s in product((0, 1), (0, 1))}
    silu = {pair: torch.nn.functional.silu(value) for pair, value in overlapping.items()}
    mixed = silu[0, 0] - silu[0, 1] - silu[1, 0] + silu[1, 1]
    assert mixed.abs().max() > 1e-3


def test_order_of_the_data_does_not_change_ids() -> None:
    """P1: ids come from the schema's levels, not from the order in which data shows them."""
    levels = Schema(Attribute("class", levels=("x", "y")), (Attribute("site", levels=("NA", "02")),))
    forward = levels.encode(pd.DataFrame({"class": ["x", "y"], "site": ["NA", "02"]}))
    backward = levels.encode(pd.DataFrame({"class": ["y", "x"], "site": ["02", "NA"]}))
    assert forward["site"].tolist() == backward["site"].tolist()[::-1] == [0, 1]
    with pytest.raises(MediError, match=r"site '2' \(row 0\) is unknown; known levels: NA, 02"):
        levels.encode(pd.DataFrame({"class": ["x"], "site": ["2"]}))
