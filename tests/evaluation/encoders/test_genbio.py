"""GenBio-PathFM, offline: random weights under its published names against its network by hand, with rotations in
bfloat16 as its publisher computes them, one block deep and narrow; and its published size. P2, P11."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from later import Later
from medi.core.errors import MediError
from medi.evaluation.encoders import networks
from medi.evaluation.encoders.published import PUBLISHED
from medi.evaluation.encoders.registry import pretrained

transforms = Later("torchvision.transforms")
State = dict[str, torch.Tensor]
WIDTH, HEADS, HIDDEN, SIDE = 64, 2, 192, 14
MODEL = PUBLISHED["genbio-pathfm"]
TINY = replace(
    MODEL,
    dimension=3 * WIDTH,
    arguments={**MODEL.arguments, "depth": 1, "embed_dim": WIDTH, "num_heads": HEADS},
)


def shapes(width: int, hidden: int, heads: int) -> dict[str, tuple[int, ...]]:
    """The tensors of one block, under the names of the publisher's code."""
    found: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, width), "storage_tokens": (1, 4, width)}
    found |= {"patch_embed.proj.weight": (width, 1, 16, 16), "patch_embed.proj.bias": (width,)}
    found |= {"rope_embed.periods": (width // heads // 4,), "blocks.0.attn.qkv.weight": (3 * width, width)}
    found |= {"blocks.0.attn.proj.weight": (width, width), "blocks.0.attn.proj.bias": (width,)}
    for name, rows, columns in (("w1", hidden, width), ("w2", hidden, width), ("w3", width, hidden)):
        found |= {f"blocks.0.mlp.{name}.weight": (rows, columns), f"blocks.0.mlp.{name}.bias": (rows,)}
    for norm in ("blocks.0.norm1", "blocks.0.norm2", "norm"):
        found |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return found | {"blocks.0.ls1.gamma": (width,), "blocks.0.ls2.gamma": (width,)}


@pytest.fixture(scope="module")
def state() -> State:
    dice = torch.Generator().manual_seed(0)
    named = shapes(WIDTH, HIDDEN, HEADS).items()
    found = {name: torch.randn(shape, generator=dice) * max(shape[-1] ** -0.5, 0.2) for name, shape in named}
    steps = torch.arange(WIDTH // HEADS // 4)
    found["blocks.0.attn.qkv.weight"] *= 8  # so that some tokens are attended to far more than others
    return found | {"rope_embed.periods": (100 ** (4 * steps * HEADS / WIDTH)).bfloat16()}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A patch of 240 px, larger than the 224 px that are shown."""
    return np.random.default_rng(0).integers(0, 256, (1, 240, 240, 3), np.uint8)


def angles_of(periods: torch.Tensor) -> torch.Tensor:
    """An angle for each token and pair of numbers: rows turn the first pairs, columns the others. In bfloat16."""
    rows, columns = np.divmod(np.arange(SIDE**2), SIDE)
    middles = [(torch.tensor(n + 0.5).bfloat16() / SIDE) * 2 - 1 for n in (rows, columns)]
    return torch.cat([2 * np.pi * middle[:, None] / periods for middle in middles], dim=1)


def turned(tokens: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Queries or keys [t, d] of one head: number j and number j + d / 2 are a point of the plane; five tokens stay."""
    x, y = tokens[5:].bfloat16().chunk(2, dim=1)
    points = [x * by.cos() - y * by.sin(), y * by.cos() + x * by.sin()]
    return torch.cat([tokens[:5], torch.cat(points, dim=1).float()])


def class_token(s: State, channel: torch.Tensor) -> torch.Tensor:
    """The network by hand, head by head, of one colour channel [224, 224]."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), s[f"{name}.weight"], s[f"{name}.bias"], 1e-6)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ s[f"blocks.0.{name}.weight"].T + s.get(f"blocks.0.{name}.bias", 0)

    tiles = channel.view(SIDE, 16, SIDE, 16).permute(0, 2, 1, 3).reshape(SIDE**2, 256)
    x = tiles @ s["patch_embed.proj.weight"].view(WIDTH, 256).T + s["patch_embed.proj.bias"]
    x = torch.cat([s["cls_token"][0], s["storage_tokens"][0], x])
    of_heads = linear("attn.qkv", norm("blocks.0.norm1", x)).view(-1, 3, HEADS, WIDTH // HEADS)
    by = angles_of(s["rope_embed.periods"])
    seen = []
    for head in range(HEADS):
        q, k = (turned(of_heads[:, part, head], by) for part in (0, 1))
        seen.append((q @ k.T / (WIDTH // HEADS) ** 0.5).softmax(dim=1) @ of_heads[:, 2, head])
    x = x + s["blocks.0.ls1.gamma"] * linear("attn.proj", torch.cat(seen, dim=1))
    inner = norm("blocks.0.norm2", x)
    x = x + s["blocks.0.ls2.gamma"] * linear("mlp.w3", F.silu(linear("mlp.w1", inner)) * linear("mlp.w2", inner))
    return norm("norm", x)[0]


def expected_of(state: State, image: np.ndarray) -> np.ndarray:
    mean, std = (0.697, 0.575, 0.728), (0.188, 0.240, 0.187)
    steps = [transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(mean, std)]
    shown = transforms.Compose(steps)(Image.fromarray(image))
    return torch.cat([class_token(state, channel) for channel in shown]).numpy()


@pytest.mark.slow
def test_published_weights_give_the_class_tokens_of_three_channels(
    state: State, image: np.ndarray, tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "model.pth")
    found = pretrained(TINY, str(tmp_path))
    np.testing.assert_allclose(found.encode(image)[0], expected_of(state, image[0]), rtol=1e-3, atol=2e-3)
    assert found.label.endswith("unverified")
    swapped = found.encode(np.ascontiguousarray(image[..., ::-1]))[0]
    assert np.abs(swapped - found.encode(image)[0]).max() > 0.01, "each channel has a normalisation of its own"
    still = state | {"rope_embed.periods": torch.full_like(state["rope_embed.periods"], 1e6)}
    assert np.abs(expected_of(still, image[0]) - found.encode(image)[0]).max() > 0.01, "rotations matter in this test"


def test_periods_are_a_part_of_the_weights(state: State, image: np.ndarray, tmp_path: Path) -> None:
    torch.save({name: value for name, value in state.items() if "periods" not in name}, tmp_path / "model.pth")
    with pytest.raises(MediError, match="lacks 1 tensors such as rope"):
        pretrained(TINY, str(tmp_path)).encode(image)


@pytest.mark.slow
def test_the_network_has_the_published_size() -> None:
    """At the published width and depth, without weights: 1.1 billion parameters, and the shapes of a block."""
    body = networks.unfilled(MODEL)
    assert round(sum(each.numel() for each in body.parameters()) / 1e9, 1) == 1.1
    theirs = {name: torch.empty(shape) for name, shape in shapes(1536, 4096, 24).items() if "periods" in name}
    theirs |= {n: torch.empty(s, device="meta") for n, s in shapes(1536, 4096, 24).items() if n not in theirs}
    named = {n: tuple(v.shape) for n, v in networks.names_of_genbio(theirs).items()}
    blocks = {n.replace("blocks.0.", f"blocks.{b}."): s for n, s in named.items() for b in range(40)}
    assert {name: tuple(value.shape) for name, value in body.state_dict().items()} == blocks
    assert MODEL.dimension == 3 * 1536
