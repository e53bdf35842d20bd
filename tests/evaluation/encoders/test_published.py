"""Pretrained encoders, offline: random weights under the published names against an independent forward pass behind the
published transform, one block deep and at a quarter of the published width; and the published shapes. P2, P10, P11."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from command_line import Medi, fine, refused
from later import Later
from medi.cohort import phantom
from medi.core.errors import MediError
from medi.evaluation.encoders import available, embed, encoder, networks, weights
from medi.evaluation.encoders.published import PUBLISHED, Published
from medi.evaluation.encoders.registry import pretrained

State = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]
transforms = Later("torchvision.transforms")
BILINEAR, BICUBIC = "bilinear", "bicubic"  # modes of torchvision
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5,) * 3, (0.5,) * 3)
BIOPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Facts:
    """A vision transformer as published: sizes of its tensors, and what is done to an image."""

    width: int
    heads: int
    patch: int
    positions: int  # rows of pos_embed
    dimension: int
    hidden: int  # rows of the first matrix of the MLP
    gated: bool = False  # SwiGLU: half of `hidden` gates the other half
    registers: int = 0
    scale: bool = True  # LayerScale
    resize: int = 224
    crop: int = 224
    mode: Any = BILINEAR
    norm: Any = IMAGENET
    mean_too: bool = False


FACTS = {
    "dinov2-s": Facts(384, 6, 14, 1370, 384, 1536, mode=BICUBIC),
    "dinov2-b": Facts(768, 12, 14, 1370, 768, 3072, mode=BICUBIC),
    "dinov2-l": Facts(1024, 16, 14, 1370, 1024, 4096, mode=BICUBIC),
    "dinov2-g": Facts(1536, 24, 14, 1370, 1536, 8192, gated=True, mode=BICUBIC),
    "uni": Facts(1024, 16, 16, 197, 1024, 4096),
    "uni2-h": Facts(1536, 24, 14, 256, 1536, 8192, gated=True, registers=8),
    "conch": Facts(768, 12, 16, 785, 512, 3072, scale=False, resize=448, crop=448, mode=BICUBIC, norm=CLIP),
    "conch-1.5": Facts(1024, 16, 16, 197, 768, 4096, resize=448, crop=448),
    "virchow": Facts(1280, 16, 14, 257, 2560, 6832, gated=True, mode=BICUBIC, mean_too=True),
    "virchow2": Facts(1280, 16, 14, 261, 2560, 6832, gated=True, registers=4, mode=BICUBIC, mean_too=True),
    "h-optimus-0": Facts(1536, 24, 14, 256, 1536, 8192, gated=True, registers=4, mode=BICUBIC, norm=BIOPTIMUS),
    "h0-mini": Facts(
        768, 12, 14, 256, 1536, 4096, gated=True, registers=4, mode=BICUBIC, norm=BIOPTIMUS, mean_too=True
    ),
    "gigapath": Facts(1536, 24, 16, 197, 1536, 8192, gated=True, resize=256, mode=BICUBIC),
    "kaiko-s16": Facts(384, 6, 16, 197, 384, 1536, scale=False, norm=HALVES),
    "kaiko-s8": Facts(384, 6, 8, 785, 384, 1536, scale=False, norm=HALVES),
    "kaiko-b16": Facts(768, 12, 16, 197, 768, 3072, scale=False, norm=HALVES),
    "kaiko-b8": Facts(768, 12, 8, 785, 768, 3072, scale=False, norm=HALVES),
    "kaiko-l14": Facts(1024, 16, 14, 1369, 1024, 4096, registers=4, norm=HALVES),
}


NARROWER = 4  # the published width needs up to 113 MB for a single block


def shallow(name: str) -> Published:
    return replace(PUBLISHED[name], arguments=dict(PUBLISHED[name].arguments) | {"depth": 1})


def narrow(name: str) -> tuple[Published, Facts]:
    """A published model of one block and a quarter of its width: as many heads, all else as published."""
    model, facts = shallow(name), FACTS[name]
    width, dimension = facts.width // NARROWER, facts.dimension // NARROWER
    smaller = replace(facts, width=width, dimension=dimension, hidden=facts.hidden // NARROWER)
    return replace(model, dimension=dimension, arguments=dict(model.arguments) | {"embed_dim": width}), smaller


def random_state(name: str, facts: Facts) -> State:
    return randoms(SHAPES.get(name, vit_shapes)(facts))


def vit_shapes(facts: Facts) -> Shapes:
    """The tensors of a transformer of one block, under the names that its publishers use."""
    w, inner = facts.width, facts.hidden // (2 if facts.gated else 1)
    shapes: Shapes = {"cls_token": (1, 1, w), "pos_embed": (1, facts.positions, w)}
    shapes |= {"patch_embed.proj.weight": (w, 3, facts.patch, facts.patch), "patch_embed.proj.bias": (w,)}
    shapes |= {"blocks.0.attn.qkv.weight": (3 * w, w), "blocks.0.attn.qkv.bias": (3 * w,)}
    shapes |= {"blocks.0.attn.proj.weight": (w, w), "blocks.0.attn.proj.bias": (w,)}
    shapes |= {"blocks.0.mlp.fc1.weight": (facts.hidden, w), "blocks.0.mlp.fc1.bias": (facts.hidden,)}
    shapes |= {"blocks.0.mlp.fc2.weight": (w, inner), "blocks.0.mlp.fc2.bias": (w,)}
    for norm in ("blocks.0.norm1", "blocks.0.norm2", "norm"):
        shapes |= {f"{norm}.weight": (w,), f"{norm}.bias": (w,)}
    if facts.registers:
        shapes["reg_token"] = (1, facts.registers, w)
    if facts.scale:
        shapes |= {"blocks.0.ls1.gamma": (w,), "blocks.0.ls2.gamma": (w,)}
    return shapes


def randoms(shapes: Shapes) -> State:
    """Matrices of a size that keeps a signal's size."""
    dice = torch.Generator().manual_seed(0)
    scales = {name: shape[-1] ** -0.5 if len(shape) == 2 else 0.5 for name, shape in shapes.items()}
    return {name: torch.randn(shape, generator=dice) * scales[name] for name, shape in shapes.items()}


def conch_shapes(facts: Facts) -> Shapes:
    """The whole of CONCH's checkpoint, as far as this matters: its visual tower, and parts that are not read."""
    w, d = facts.width, facts.dimension
    pool = {"query": (1, d), "attn.q_proj_weight": (d, d), "attn.k_proj_weight": (d, w), "attn.v_proj_weight": (d, w)}
    pool |= {"attn.in_proj_bias": (3 * d,), "attn.out_proj.weight": (d, d), "attn.out_proj.bias": (d,)}
    pool |= {"ln_q.weight": (d,), "ln_q.bias": (d,), "ln_k.weight": (w,), "ln_k.bias": (w,)}
    rest = {f"attn_pool_contrast.{name}": shape for name, shape in pool.items()}
    rest |= {"ln_contrast.weight": (d,), "ln_contrast.bias": (d,), "proj_contrast": (d, d)}
    rest |= {"attn_pool_caption.query": (256, w), "ln_caption.weight": (w,)}
    trunk = {f"visual.trunk.{name}": shape for name, shape in vit_shapes(facts).items()}
    others: Shapes = {"logit_scale": (), "text.positional_embedding": (128, w)}
    return trunk | others | {f"visual.{name}": shape for name, shape in rest.items()}


def conch_1_5_shapes(facts: Facts) -> Shapes:
    """Its visual tower is a file of its own; the pooling has no biases, and one matrix for keys and values."""
    w, d = facts.width, facts.dimension
    pool = {"query": (1, d), "to_q.weight": (d, d), "to_kv.weight": (2 * d, w), "to_out.weight": (d, d)}
    pool |= {"ln_q.weight": (d,), "ln_q.bias": (d,), "ln_k.weight": (w,), "ln_k.bias": (w,)}
    trunk: Shapes = {f"trunk.{name}": shape for name, shape in vit_shapes(facts).items()}
    rest: Shapes = {f"attn_pool_contrast.{name}": shape for name, shape in pool.items()}
    return trunk | rest | {"ln_contrast.weight": (d,), "ln_contrast.bias": (d,)}


SHAPES = {"conch": conch_shapes, "conch-1.5": conch_1_5_shapes}


def shown(facts: Facts, image: np.ndarray) -> torch.Tensor:
    """The published transform, by torchvision on a PIL image."""
    resized = transforms.Resize(facts.resize, transforms.InterpolationMode(facts.mode))
    steps = [resized, transforms.CenterCrop(facts.crop), transforms.ToTensor(), transforms.Normalize(*facts.norm)]
    return transforms.Compose(steps)(Image.fromarray(image))[None]


def tokens_of(facts: Facts, state: State, image: torch.Tensor) -> torch.Tensor:
    """A vision transformer by hand: all tokens after the last norm."""
    w, s = facts.width, state
    patches = F.conv2d(image, s["patch_embed.proj.weight"], s["patch_embed.proj.bias"], stride=facts.patch)
    x, extra = patches.flatten(2).transpose(1, 2), [s["cls_token"], *([s["reg_token"]] if facts.registers else [])]
    of_patches = int(facts.positions**0.5) ** 2 == facts.positions
    if of_patches:
        x = torch.cat([*extra, x + on_grid(s["pos_embed"], x.shape[1])], dim=1)
    else:
        outside = sum(token.shape[1] for token in extra)
        places = [s["pos_embed"][:, :outside], on_grid(s["pos_embed"][:, outside:], x.shape[1])]
        x = torch.cat([*extra, x], dim=1) + torch.cat(places, dim=1)
    a = F.layer_norm(x, (w,), s["blocks.0.norm1.weight"], s["blocks.0.norm1.bias"], 1e-6)
    qkv = a @ s["blocks.0.attn.qkv.weight"].T + s["blocks.0.attn.qkv.bias"]
    q, k, v = qkv.view(1, -1, 3, facts.heads, w // facts.heads).permute(2, 0, 3, 1, 4)
    a = ((q @ k.transpose(-1, -2) * (w // facts.heads) ** -0.5).softmax(dim=-1) @ v).transpose(1, 2).reshape(1, -1, w)
    a = a @ s["blocks.0.attn.proj.weight"].T + s["blocks.0.attn.proj.bias"]
    x = x + a * s.get("blocks.0.ls1.gamma", 1.0)
    m = F.layer_norm(x, (w,), s["blocks.0.norm2.weight"], s["blocks.0.norm2.bias"], 1e-6)
    m = m @ s["blocks.0.mlp.fc1.weight"].T + s["blocks.0.mlp.fc1.bias"]
    m = F.silu(m[..., : facts.hidden // 2]) * m[..., facts.hidden // 2 :] if facts.gated else F.gelu(m)
    m = m @ s["blocks.0.mlp.fc2.weight"].T + s["blocks.0.mlp.fc2.bias"]
    return F.layer_norm(x + m * s.get("blocks.0.ls2.gamma", 1.0), (w,), s["norm.weight"], s["norm.bias"], 1e-6)


def on_grid(positions: torch.Tensor, count: int) -> torch.Tensor:
    """Position embeddings of patches at another resolution: bicubic, antialiased."""
    old, new = round(positions.shape[1] ** 0.5), round(count**0.5)
    grid = positions.view(1, old, old, -1).permute(0, 3, 1, 2)
    grid = grid if old == new else F.interpolate(grid, (new, new), mode="bicubic", antialias=True)
    return grid.permute(0, 2, 3, 1).flatten(1, 2)


def features_of(name: str, facts: Facts, state: State, image: torch.Tensor) -> torch.Tensor:
    if name == "conch-1.5":
        return features_of_conch_1_5(facts, state, image)
    if name != "conch":
        tokens = tokens_of(facts, state, image)
        mean = tokens[:, 1 + facts.registers :].mean(dim=1)
        return torch.cat([tokens[:, 0], mean], dim=1) if facts.mean_too else tokens[:, 0]
    trunk = {n.removeprefix("visual.trunk."): v for n, v in state.items() if n.startswith("visual.trunk.")}
    s = {n.removeprefix("visual.attn_pool_contrast."): v for n, v in state.items()}
    w, d, head = facts.width, facts.dimension, facts.dimension // 8
    keys = F.layer_norm(tokens_of(facts, trunk, image), (w,), s["ln_k.weight"], s["ln_k.bias"], 1e-5)
    query = F.layer_norm(s["query"], (d,), s["ln_q.weight"], s["ln_q.bias"], 1e-5)
    parts = zip((query[None], keys, keys), "qkv", s["attn.in_proj_bias"].chunk(3))
    q, k, v = ((x @ s[f"attn.{n}_proj_weight"].T + b).view(1, -1, 8, head).transpose(1, 2) for x, n, b in parts)
    pooled = ((q @ k.transpose(-1, -2) * head**-0.5).softmax(dim=-1) @ v).transpose(1, 2).reshape(1, d)
    pooled = pooled @ s["attn.out_proj.weight"].T + s["attn.out_proj.bias"]
    return F.layer_norm(pooled, (d,), state["visual.ln_contrast.weight"], state["visual.ln_contrast.bias"], 1e-5)


def features_of_conch_1_5(facts: Facts, state: State, image: torch.Tensor) -> torch.Tensor:
    """Positions of 14 x 14 tokens are brought to 28 x 28; one query of eight heads without biases."""
    trunk = {n.removeprefix("trunk."): v for n, v in state.items() if n.startswith("trunk.")}
    s = {n.removeprefix("attn_pool_contrast."): v for n, v in state.items()}
    table, w, d = trunk["pos_embed"], facts.width, facts.dimension
    grid = table[:, 1:].view(1, 14, 14, w).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=28.1 / 14, mode="bicubic").permute(0, 2, 3, 1).flatten(1, 2)
    trunk |= {"pos_embed": torch.cat([table[:, :1], grid], dim=1)}
    keys = F.layer_norm(tokens_of(replace(facts, positions=785), trunk, image), (w,), s["ln_k.weight"], s["ln_k.bias"])
    k, v = (part.view(-1, 8, d // 8) for part in (keys[0] @ s["to_kv.weight"].T).split(d, dim=1))
    q = (F.layer_norm(s["query"], (d,), s["ln_q.weight"], s["ln_q.bias"]) @ s["to_q.weight"].T).view(8, d // 8)
    shares = (torch.einsum("hc,thc->ht", q, k) * (d // 8) ** -0.5).softmax(dim=1)
    pooled = torch.einsum("ht,thc->hc", shares, v).reshape(1, d) @ s["to_out.weight"].T
    return F.layer_norm(pooled, (d,), state["ln_contrast.weight"], state["ln_contrast.bias"])


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """One patch of 240 px, of tiles: every transform has something to do."""
    tile = phantom.fresh([("acinar", "Alder")], 1, 0, "published", size=64).images[:]
    return np.tile(tile, (1, 4, 4, 1))[:, :240, :240]


# --- every published architecture ---


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTS)
def test_published_weights_give_the_published_features(name: str, image: np.ndarray, tmp_path: Path) -> None:
    model, facts = narrow(name)
    state = random_state(name, facts)
    save_file(state, tmp_path / "model.safetensors")
    found = pretrained(model, str(tmp_path))
    features = found.encode(image)
    expected = features_of(name, facts, state, shown(facts, image[0])).numpy()
    assert features.shape == (1, facts.dimension) == (1, found.dimension)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=2e-3)
    assert found.label.endswith("unverified")
    assert found.prepared(image).shape == (1, facts.crop, facts.crop, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", FACTS)
def test_the_network_has_the_published_shapes(name: str) -> None:
    """At the published width, without weights."""
    facts = FACTS[name]
    named = SHAPES.get(name, vit_shapes)(facts)
    expected = networks.KEYS[PUBLISHED[name].keys]({n: torch.empty(s, device="meta") for n, s in named.items()})
    assert built_shapes(name) == {part: tuple(value.shape) for part, value in expected.items()}
    assert PUBLISHED[name].dimension == facts.dimension


def built_shapes(name: str) -> Shapes:
    return {part: tuple(value.shape) for part, value in networks.unfilled(shallow(name)).state_dict().items()}


def test_positions_of_conch_1_5_come_from_14_x_14_whatever_the_table_is_of() -> None:
    """Numbers that grow with the column keep their place, but at the border; bicubic is off by up to 0.16."""
    ramp = torch.arange(28.0).repeat(28, 1).flatten()[None, :, None]
    tables = [torch.cat([torch.tensor([[[-1.0]]]), grid], dim=1) for grid in (ramp, torch.full((1, 196, 1), 3.0))]
    found = [networks.names_of_conch_1_5({"trunk.pos_embed": table})["trunk.pos_embed"] for table in tables]
    assert [tuple(one.shape) for one in found] == [(1, 785, 1)] * 2
    assert all(one[0, 0, 0] == -1 for one in found)
    middle = found[0][0, 1:, 0].view(28, 28)[14, 6:22]
    np.testing.assert_allclose(middle, np.arange(6, 22), atol=0.2)
    np.testing.assert_allclose(found[1][0, 1:, 0], 3.0, atol=1e-5)


def test_the_second_h_optimus_differs_from_the_first_in_name_and_licence_alone() -> None:
    first, second = PUBLISHED["h-optimus-0"], PUBLISHED["h-optimus-1"]
    assert replace(second, name=first.name, hub=first.hub, licence=first.licence) == first
    others = {"h-optimus-1", "phikon-v2", "midnight-12k", "genbio-pathfm", "inception", "imagenet"}
    assert set(PUBLISHED) == {*FACTS, *others}, "each of these has tests of its own"


@pytest.mark.slow
def test_phikon_is_the_class_token_of_transformers_dinov2(image: np.ndarray, tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    facts = replace(narrow("uni")[1], mode=BICUBIC)
    sizes: dict[str, Any] = {"hidden_size": facts.width, "num_hidden_layers": 1, "num_attention_heads": facts.heads}
    model = Dinov2Model(Dinov2Config(**sizes, patch_size=16, image_size=224)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    model.save_pretrained(tmp_path)
    assert "encoder.layer.0.attention.attention.query.weight" in weights.read(tmp_path / "model.safetensors")
    with torch.no_grad():
        expected = model(shown(facts, image[0])).last_hidden_state[:, 0].numpy()
    arguments = dict(shallow("phikon-v2").arguments) | {"embed_dim": facts.width}
    smaller = replace(shallow("phikon-v2"), arguments=arguments, dimension=facts.dimension)
    assert built_shapes("phikon-v2") == built_shapes("uni")
    found = pretrained(smaller, str(tmp_path))
    np.testing.assert_allclose(found.encode(image), expected, rtol=1e-3, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [224, 280])
def test_midnight_is_the_class_token_and_the_mean_of_transformers_dinov2(
    size: int, image: np.ndarray, tmp_path: Path
) -> None:
    """A gated MLP under names of its own; the size of the table of positions is read from the weights."""
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 96, "num_hidden_layers": 1, "num_attention_heads": 24, "patch_size": 14}
    model = Dinov2Model(Dinov2Config(**sizes, image_size=size, use_swiglu_ffn=True)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    model.save_pretrained(tmp_path)
    assert "encoder.layer.0.mlp.weights_in.weight" in weights.read(tmp_path / "model.safetensors")
    arguments = dict(shallow("midnight-12k").arguments) | {"embed_dim": 96}
    found = pretrained(replace(shallow("midnight-12k"), arguments=arguments, dimension=192), str(tmp_path))
    features = found.encode(image)
    assert features.shape == (1, 192)
    assert found.label.endswith("unverified")
    if size == 224:  # positions of another size are brought to it in ways that differ a little
        with torch.no_grad():
            tokens = model(shown(Facts(96, 24, 14, 257, 192, 512, norm=HALVES), image[0])).last_hidden_state
        expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1).numpy()
        np.testing.assert_allclose(features, expected, rtol=1e-3, atol=2e-4)


@pytest.mark.slow
def test_dinov2_as_its_authors_saved_it(image: np.ndarray, tmp_path: Path) -> None:
    """A mask token more, and w12 and w3 in the giant's SwiGLU."""
    model, facts = narrow("dinov2-s")
    model = replace(model, arguments=dict(model.arguments) | {"mlp_layer": "SwiGLUPacked", "act_layer": "silu"})
    facts = replace(facts, gated=True)
    state = random_state("dinov2-s", facts)
    theirs = {n.replace("fc1", "w12").replace("fc2", "w3"): v for n, v in state.items()} | {"mask_token": torch.ones(1)}
    torch.save(theirs, tmp_path / "dinov2_vits14_pretrain.pth")
    expected = features_of("dinov2-s", facts, state, shown(facts, image[0])).numpy()
    features = pretrained(model, str(tmp_path / "dinov2_vits14_pretrain.pth")).encode(image)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=2e-3)


# --- Inception ---


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """torch-fidelity's network with random weights of half precision, and the file of them."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unfilled(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any) -> None:  # type: ignore[override]
            return None

    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "none.pth")
    torch.manual_seed(0)
    network = Unfilled("test", ["2048"], feature_extractor_weights_path=folder / "none.pth")
    network.half()
    torch.save(network.state_dict(), folder / PUBLISHED["inception"].files[0])
    return network.float(), folder / PUBLISHED["inception"].files[0]


@pytest.mark.slow
def test_inception_is_torch_fidelitys(inception: tuple[Any, Path], image: np.ndarray) -> None:
    network, path = inception
    found = encoder(f"inception:{path}")
    expected = network(torch.from_numpy(image).permute(0, 3, 1, 2))[0].numpy()
    np.testing.assert_allclose(found.encode(image), expected, rtol=1e-5, atol=1e-6)
    assert found.label.endswith("unverified"), "these weights are not the published ones"
    large = np.repeat(np.repeat(image, 2, axis=1), 2, axis=2)
    assert found.prepared(large).shape == (1, 299, 299, 3), "larger patches are made smaller with antialiasing"
    assert found.prepared(image) is image
    ours = replace(PUBLISHED["inception"], checksum=weights.weights_hash(path)[:8])
    assert "unverified" not in pretrained(ours, str(path)).label, "its own code, and the checksum of its weights"


@pytest.mark.slow
def test_other_weights_are_no_inception(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(MediError, match="not the weights of torch-fidelity"):
        encoder(f"inception:{tmp_path / 'other.safetensors'}").encode(np.zeros((1, 64, 64, 3), np.uint8))


# --- weights that are missing, wrong or unsafe ---


@pytest.fixture
def empty_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A hub cache and a torch cache with nothing in them, and no package that brings weights."""
    packages = {model.package for model in PUBLISHED.values()}
    monkeypatch.setattr(weights, "find_spec", lambda name: None if name in packages else find_spec(name))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_weights_say_what_to_accept_or_to_give(name: str, empty_caches: Path) -> None:
    model = PUBLISHED[name]
    with pytest.raises(MediError) as error:
        encoder(name)
    line = str(error.value)
    assert "\n" not in line
    assert f"{name}:PATH" in line
    assert model.licence in line
    assert model.hub in line
    assert ("accept the licence" in line) == model.gated


def test_a_model_of_a_hub_is_not_looked_for_in_the_cache_of_torch(empty_caches: Path) -> None:
    """Any program may have left a model.pth there."""
    folder = empty_caches / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("genbio-pathfm", "inception"):
        (folder / PUBLISHED[name].files[0]).touch()
    assert weights.found(PUBLISHED["genbio-pathfm"]) is None
    assert weights.found(PUBLISHED["inception"]) == folder / PUBLISHED["inception"].files[0]


@pytest.mark.slow
def test_the_command_refuses_in_one_line(medi: Medi, empty_caches: Path) -> None:
    phantom.fresh([("acinar", "Alder")], 2, 0, "published").save(Path("patches"))
    refused(medi("embed", "patches", "--encoder", "uni"), "CC BY-NC-ND 4.0", "MahmoodLab/UNI", "uni:PATH")
    refused(medi("embed", "patches", "--encoder", "uni:nowhere.bin"), "nowhere.bin", "no such file")
    refused(medi("embed", "patches", "--encoder", "timm:vit_tiny_patch16_224"), "timm:ARCHITECTURE:PATH")


def in_hub_cache(root: Path, repo: str, file: str, state: State) -> None:
    """A file as the hub's own client keeps it."""
    folder = root / "hub" / f"models--{repo.replace('/', '--')}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    torch.save(state, folder / "snapshots" / "abc" / file)


@pytest.mark.slow
def test_weights_in_the_hub_cache_are_found_in_any_case_p10(empty_caches: Path, image: np.ndarray) -> None:
    assert [found.name for found in available() if found.loadable] == ["colour-texture"]
    assert all(found.remedy for found in available() if not found.loadable)
    model, facts = narrow("kaiko-s16")
    state = random_state("kaiko-s16", facts)
    repo = PUBLISHED["kaiko-s16"].hub
    in_hub_cache(empty_caches, repo.upper(), "pytorch_model.bin", {"state_dict": state})  # type: ignore[dict-item]
    assert [found.name for found in available() if found.loadable] == ["colour-texture", "kaiko-s16"]
    expected = features_of("kaiko-s16", facts, state, shown(facts, image[0])).numpy()
    np.testing.assert_allclose(pretrained(model).encode(image), expected, rtol=1e-3, atol=2e-3)


def drop(state: State) -> State:
    return {name: value for name, value in state.items() if name != "norm.bias"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, "lacks 1 tensors such as norm.bias"),
        (lambda state: state | {"head.weight": torch.ones(2)}, "has unknown 1 tensors such as head.weight"),
        (lambda state: state | {"norm.bias": torch.ones(2)}, "another shape 1 tensors such as norm.bias"),
    ],
)
def test_keys_are_strict(change: Callable[[State], State], words: str, tmp_path: Path, image: np.ndarray) -> None:
    model, facts = narrow("kaiko-s16")
    save_file(change(random_state("kaiko-s16", facts)), tmp_path / "w.safetensors")
    with pytest.raises(MediError, match=words):
        pretrained(model, str(tmp_path / "w.safetensors")).encode(image)


class Harm:
    """What a malicious checkpoint holds: code that runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm"),))


def test_weights_are_data_never_code_p11(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: np.ndarray) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"norm.weight": Harm()}, "bad.bin")
    for name in ("kaiko-s16", "inception"):
        with pytest.raises(MediError, match="not readable as weights"):
            encoder(f"{name}:bad.bin").encode(image)
    torch.save({"steps": 3}, "odd.bin")
    with pytest.raises(MediError, match="tensors by name"):
        encoder("kaiko-s16:odd.bin").encode(image)
    assert not Path("harm").exists()


# --- any model by its file ---


@pytest.fixture(scope="module")
def timm_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of timm's smallest test architecture."""
    import timm

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "tiny.safetensors"
    save_file(timm.create_model("test_vit", num_classes=7).state_dict(), path)
    return path


@pytest.mark.slow
def test_any_timm_model_by_path(timm_file: Path, image: np.ndarray) -> None:
    import timm
    from timm.data import create_transform, resolve_model_data_config

    found = encoder(f"timm:test_vit:{timm_file}")
    model = timm.create_model("test_vit", num_classes=7).eval()
    model.load_state_dict(weights.read(timm_file))
    seen = create_transform(**resolve_model_data_config(model))(Image.fromarray(image[0]))[None]
    expected = model.forward_head(model.forward_features(seen), pre_logits=True).detach().numpy()
    np.testing.assert_allclose(found.encode(image), expected, rtol=1e-4, atol=1e-5)
    assert found.dimension == expected.shape[1]
    assert found.label.startswith("timm:test_vit ")
    with pytest.raises(MediError, match="no architecture 'vit_tinny'"):
        encoder(f"timm:vit_tinny:{timm_file}")


@pytest.mark.slow
def test_precision_and_jpeg_are_part_of_name_and_hash_p2(timm_file: Path, image: np.ndarray) -> None:
    spelling = f"timm:test_vit:{timm_file}"
    plain, mixed = encoder(spelling), encoder(spelling, precision="bf16")
    coded, worse = encoder(spelling, jpeg=90), encoder(spelling, jpeg=20)
    assert len({found.hash for found in (plain, mixed, coded, worse)}) == 4
    assert [mixed.name, coded.name] == ["timm:test_vit-bf16", "timm:test_vit-jpeg90"]
    difference = np.abs(mixed.encode(image) - plain.encode(image)).max()
    assert 0 < difference < 0.1 * np.abs(plain.encode(image)).max()
    change = [np.abs(found.encode(image) - plain.encode(image)).mean() for found in (coded, worse)]
    assert 0 < change[0] < change[1]
    for wrong in ({"precision": "fp8"}, {"jpeg": 0}):
        with pytest.raises(MediError):
            encoder(spelling, **wrong)
    with pytest.raises(MediError, match="fp32 alone"):
        encoder("colour-texture", precision="bf16")


class Means(torch.nn.Module):
    """A module of a user: the mean of each channel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


def test_any_torchscript_by_path(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "means.pt"
    torch.jit.save(torch.jit.script(Means()), path)
    found = encoder(f"torchscript:{path}")
    means = image.mean(axis=(1, 2)) / 255
    np.testing.assert_allclose(found.encode(image), means, atol=2e-3)
    exact = encoder(f"torchscript:240:{path}")
    np.testing.assert_allclose(exact.encode(image), means, rtol=1e-5)
    assert exact.dimension == 3
    assert exact.hash != found.hash
    torch.jit.save(torch.jit.script(torch.nn.Identity()), path)
    with pytest.raises(MediError, match=r"features \[n, d\], this network gives \[1, 3, 224, 224\]"):
        encoder(f"torchscript:{path}")
    path.write_bytes(b"nothing")
    with pytest.raises(MediError, match="not readable as TorchScript"):
        encoder(f"torchscript:{path}")


def test_numbers_that_are_not_finite_are_refused_p7(timm_file: Path, tmp_path: Path, image: np.ndarray) -> None:
    state = weights.read(timm_file)
    state["norm.bias"][0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(MediError, match="not finite"):
        encoder(f"timm:test_vit:{tmp_path / 'nan.safetensors'}").encode(image)


@pytest.mark.slow
def test_networks_through_the_command(medi: Medi, timm_file: Path, empty_caches: Path) -> None:
    cohort = phantom.fresh([("acinar", "Alder"), ("solid", "Maple")], 5, 0, "published")
    cohort.save(Path("patches"))
    shown = fine(medi("embed", "patches", "--encoder", f"timm:test_vit:{timm_file}", "--jpeg", "75"))
    assert "timm:test_vit-jpeg75" in shown
    assert "unverified" in shown
    import pandas as pd

    table = pd.read_parquet("embeddings.parquet").drop(columns="sample_id").to_numpy()
    again = embed(cohort, encoder(f"timm:test_vit:{timm_file}", jpeg=75), batch=3)
    np.testing.assert_allclose(table, again, rtol=1e-4, atol=1e-5)
