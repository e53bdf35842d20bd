"""Networks of pretrained encoders: built as published, filled with weights by strict keys, run batch by batch."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from medi.core.devices import device, full_precision
from medi.core.errors import MediError
from medi.evaluation.encoders import weights
from medi.evaluation.encoders.contract import Features, Shown
from medi.evaluation.encoders.imagenet import MiddleStages
from medi.evaluation.encoders.published import Published, Transform, Triple
from medi.evaluation.encoders.weights import State

# --- what a network is made of ---------------------------------------------------------------------------------------


class Normalised(nn.Module):
    """A network behind its normalisation: uint8 patches in, whatever the network gives out."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, normalisation: tuple[Triple, Triple]) -> None:
        super().__init__()
        self.body = body
        for name, values in zip(("mean", "std"), normalisation):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    def forward(self, images: UInt8[Tensor, "n h w 3"]) -> Tensor:
        scaled = images.permute(0, 3, 1, 2).float().contiguous() / 255
        found: Tensor = self.body((scaled - self.mean) / self.std)
        return found


class TokenAndMean(nn.Module):
    """The class token beside the mean of the patch tokens; registers, which stand between them, are left out."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        tokens = self.body(images)
        return torch.cat([tokens[:, 0], tokens[:, self.body.num_prefix_tokens :].mean(dim=1)], dim=-1)


class Channels(nn.Module):
    """The outputs for red, green and blue side by side, of a network that sees one colour channel."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        found: Tensor = self.body(images.flatten(0, 1)[:, None])
        return found.reshape(len(images), -1)


class Rotated(nn.Module):
    """The attention of timm's Eva in the arithmetic of DINOv3's authors: queries and keys of patches are rotated in
    bfloat16. Those of the class token and of the registers, which stand before them, stay as they are."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads = attention.qkv, attention.proj, attention.num_heads

    def forward(self, tokens: Float[Tensor, "n t w"], rope: Float[Tensor, "p r"], **_: Any) -> Float[Tensor, "n t w"]:
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(_rotated(query, rope), _rotated(key, rope), value)
        found: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return found


def _rotated(tokens: Float[Tensor, "n h t d"], rope: Float[Tensor, "p r"]) -> Float[Tensor, "n h t d"]:
    from timm.layers import apply_rot_embed_cat

    first = tokens.shape[2] - len(rope)
    turned = apply_rot_embed_cat(tokens[:, :, first:].bfloat16(), rope.bfloat16(), half=True)
    return torch.cat([tokens[:, :, :first], turned.to(tokens.dtype)], dim=2)


class Pooler(nn.Module):
    """One learned query that attends to all tokens, as CoCa pools an image."""

    def __init__(self, dimension: int, width: int, heads: int = 8) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, dimension))
        self.attn = nn.MultiheadAttention(dimension, heads, kdim=width, vdim=width, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(dimension), nn.LayerNorm(width)

    def forward(self, tokens: Float[Tensor, "n t w"]) -> Float[Tensor, "n d"]:
        keys, query = self.ln_k(tokens), self.ln_q(self.query).expand(len(tokens), -1, -1)
        return self.attn(query, keys, keys, need_weights=False)[0][:, 0]


class Conch(nn.Module):
    """The visual tower of CONCH before its projection, which is what its authors advise for other tasks than text."""

    def __init__(self, trunk: Any, dimension: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.attn_pool_contrast = Pooler(dimension, trunk.embed_dim)
        self.ln_contrast = nn.LayerNorm(dimension)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        pooled: Tensor = self.ln_contrast(self.attn_pool_contrast(self.trunk.forward_features(images)))
        return pooled


class Inception(nn.Module):
    """torch-fidelity's Inception, which enlarges and normalises uint8 patches itself, at its last pooling layer."""

    def __init__(self, state: State) -> None:
        super().__init__()
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        ours = BytesIO()  # it would unpickle whatever a file holds; these are the tensors that were read as data (P11)
        torch.save(state, ours)
        ours.seek(0)
        self.body = FeatureExtractorInceptionV3("medi", ["2048"], feature_extractor_weights_path=ours)

    def forward(self, images: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 2048"]:
        found: Tensor = self.body(images.permute(0, 3, 1, 2))[0]
        return found


# --- published keys --------------------------------------------------------------------------------------------------


def timm_names(state: State) -> State:
    """DINOv2 as its authors published it has a mask token, of use in training alone, and other names for its SwiGLU."""
    names = {name: name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.") for name in state}
    return {names[name]: value for name, value in state.items() if name != "mask_token"}


def names_of_transformers(state: State) -> State:
    """Dinov2Model's tensors under timm's names; query, key and value are one matrix there."""
    state = dict(state)
    for name in [name for name in state if ".attention.attention.query." in name]:
        three = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in state for part in three):
            qkv = torch.cat([state.pop(part) for part in three])
            state[name.replace(".attention.attention.query.", ".attn.qkv.")] = qkv
    state.pop("embeddings.mask_token", None)
    return {_from_transformers(name): value for name, value in state.items()}


def _renamed(name: str, parts: Sequence[tuple[str, str]]) -> str:
    """A name with parts of it replaced, one after another."""
    for theirs, timm in parts:
        name = name.replace(theirs, timm)
    return name


def _from_transformers(name: str) -> str:
    parts = (
        ("embeddings.cls_token", "cls_token"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        ("encoder.layer.", "blocks."),
        (".attention.output.dense.", ".attn.proj."),
        (".layer_scale1.lambda1", ".ls1.gamma"),
        (".layer_scale2.lambda1", ".ls2.gamma"),
        ("layernorm.", "norm."),
        (".mlp.weights_in.", ".mlp.fc1."),
        (".mlp.weights_out.", ".mlp.fc2."),
    )
    return _renamed(name, parts)


def names_of_conch(state: State) -> State:
    """The visual tower as far as `Conch` goes: no text, no captions, no projection."""
    left_out = ("visual.attn_pool_caption.", "visual.ln_caption.", "visual.proj_contrast")
    wanted = [name for name in state if name.startswith("visual.") and not name.startswith(left_out)]
    return {name.removeprefix("visual."): state[name] for name in wanted}


def names_of_conch_1_5(state: State) -> State:
    """CONCH 1.5 as a `Conch`: its pooling has one matrix for keys and values, and no biases."""
    state, pool = dict(state), "attn_pool_contrast."
    for theirs, ours in (("to_q.weight", ("q",)), ("to_kv.weight", ("k", "v"))):
        if pool + theirs in state:
            parts = state.pop(pool + theirs).chunk(len(ours))
            state |= {f"{pool}attn.{name}_proj_weight": part for name, part in zip(ours, parts)}
    if (out := state.pop(f"{pool}to_out.weight", None)) is not None:
        state |= {f"{pool}attn.out_proj.weight": out, f"{pool}attn.out_proj.bias": out.new_zeros(len(out))}
        state[f"{pool}attn.in_proj_bias"] = out.new_zeros(3 * len(out))
    if "trunk.pos_embed" in state:
        state["trunk.pos_embed"] = _positions_at_448(state["trunk.pos_embed"])
    return state


def _positions_at_448(table: Float[Tensor, "1 p w"]) -> Float[Tensor, "1 785 w"]:
    """The positions that CONCH 1.5 has for 28 x 28 tokens of 16 px: its loader brings the table to 14 x 14 tokens if it
    is of other ones (bilinear), and its network each image's from there (bicubic, by 28.1 / 14 as DINO does)."""
    token, grid = table[:, :1], table[:, 1:].float()
    side = round(grid.shape[1] ** 0.5)
    grid = grid.permute(0, 2, 1).reshape(1, -1, side, side)
    if side != 14:
        grid = F.interpolate(grid, size=(14, 14), mode="bilinear")
    grid = F.interpolate(grid, scale_factor=(28.1 / 14, 28.1 / 14), mode="bicubic")
    return torch.cat([token.float(), grid.flatten(2).permute(0, 2, 1)], dim=1)


def names_of_genbio(state: State) -> State:
    """GenBio-PathFM, whose names are those of DINOv3's authors; its periods become timm's table of rotations."""
    state = dict(state)
    if (periods := state.pop("rope_embed.periods", None)) is not None:
        state["rope.pos_embed_cached"] = _rotations(periods)
    return {_from_genbio(name): value for name, value in state.items()}


def _from_genbio(name: str) -> str:
    parts = (
        ("storage_tokens", "reg_token"),
        (".ls1.gamma", ".gamma_1"),
        (".ls2.gamma", ".gamma_2"),
        (".mlp.w1.", ".mlp.fc1_g."),
        (".mlp.w2.", ".mlp.fc1_x."),
        (".mlp.w3.", ".mlp.fc2."),
    )
    return _renamed(name, parts)


def _rotations(periods: Float[Tensor, " f"], side: int = 14) -> Float[Tensor, "t eight_f"]:
    """Sines, then cosines, of the angles by which side x side tokens are rotated. Angles are 2 pi (2 p - 1) / period at
    the middle p of a token, from 0 to 1, rows before columns; all in bfloat16, as in the publisher's code."""
    middles = 2 * (torch.arange(0.5, side, dtype=torch.bfloat16) / side) - 1
    places = torch.cartesian_prod(middles, middles)[:, :, None]
    angles = (2 * torch.pi * places / periods.to(torch.bfloat16)).flatten(1).tile(2)
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


KEYS: dict[str, Callable[[State], State]] = {
    "timm": timm_names,
    "transformers": names_of_transformers,
    "conch": names_of_conch,
    "conch-1.5": names_of_conch_1_5,
    "genbio": names_of_genbio,
}
POOLS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "token": lambda body: body,
    "token+mean": TokenAndMean,
    "channels": Channels,
}


# --- building and filling --------------------------------------------------------------------------------------------


def published(model: Published, path: Path) -> nn.Module:
    """The network of a published model with the weights of a file: uint8 [n, h, w, 3] in, [n, dimension] out."""
    _need(model)
    if model.keys == "lite0":
        return Normalised(MiddleStages(weights.converted(path)), model.transform.normalisation)
    state = weights.read(path)
    if model.keys == "inception":
        return _inception(state, path)
    state = KEYS[model.keys](state)
    body = unfilled(_sized(model, state))
    _fill(body, state, path)
    return Normalised(POOLS[model.pool](body), model.transform.normalisation)


def _sized(model: Published, state: State) -> Published:
    """The model with the image size that its positions are of, where no size is published for them."""
    if "img_size" in model.arguments or "pos_embed" not in state:
        return model
    side = round((state["pos_embed"].shape[1] - 1) ** 0.5)  # but for the class token's
    patch = state["patch_embed.proj.weight"].shape[-1] if "patch_embed.proj.weight" in state else 1
    return replace(model, arguments={**model.arguments, "img_size": side * patch})


def unfilled(model: Published) -> nn.Module:
    """The architecture of a published model of timm or of CONCH, its parameters without storage."""
    with init_empty_weights(include_buffers=False):  # no random weights are drawn for what is replaced at once
        trunk = _timm(model.architecture, **model.arguments)
        if model.keys == "genbio":  # its rotations are read with the weights
            trunk.rope.register_buffer("pos_embed_cached", trunk.rope.pos_embed_cached, persistent=True)
            for block in trunk.blocks:
                block.attn = Rotated(block.attn)
        return Conch(trunk, model.dimension) if model.keys.startswith("conch") else trunk


def _need(model: Published) -> None:
    if lacking := weights.lacking(model):
        raise MediError(f"encoder {model.name} needs {' and '.join(lacking)}: {weights.INSTALL}")


def _timm(architecture: str, **arguments: Any) -> Any:
    import timm

    for name in {"mlp_layer", "norm_layer"} & arguments.keys():
        arguments[name] = getattr(timm.layers, arguments[name])
    return timm.create_model(architecture, pretrained=False, **arguments)


def _inception(state: State, path: Path) -> nn.Module:
    try:
        return Inception(state)
    except RuntimeError as error:  # load_state_dict
        raise MediError(f"{path}: not the weights of torch-fidelity's Inception; give that file") from error


def _fill(body: nn.Module, state: State, path: Path) -> None:
    """Give a network its weights as fp32; every tensor must be there, in its shape, and no other."""
    expected = body.state_dict()
    wrong = [name for name in state if name in expected and state[name].shape != expected[name].shape]
    problems = {"lacks": expected.keys() - state.keys(), "has unknown": state.keys() - expected.keys()}
    problems["has in another shape"] = set(wrong)
    if any(problems.values()):
        said = [f"{verb} {len(names)} tensors such as {min(names)}" for verb, names in problems.items() if names]
        raise MediError(f"{path}: not the weights of this architecture: {', '.join(said)}")
    floats = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    body.load_state_dict(floats, strict=True, assign=True)


def from_timm(architecture: str, path: Path) -> tuple[nn.Module, Transform]:
    """Any architecture of timm without its classifier, and the transform that timm states for it."""
    if find_spec("timm") is None:
        raise MediError(f"timm is not installed: {weights.INSTALL}")
    import timm

    if not timm.is_model(architecture):
        raise MediError(f"timm {timm.__version__} has no architecture {architecture!r}; timm.list_models() names them")
    with init_empty_weights(include_buffers=False):
        body = _timm(architecture, num_classes=0)
    heads = body.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{head}." for head in ((heads,) if isinstance(heads, str) else heads))
    _fill(body, {name: value for name, value in weights.read(path).items() if not name.startswith(heads)}, path)
    transform = _stated(timm.data.resolve_model_data_config(body))
    return Normalised(body, transform.normalisation), transform


def _stated(config: Mapping[str, Any]) -> Transform:
    """timm's description of a transform as ours."""
    crop, way = config["input_size"][-1], config["interpolation"]
    mean, std = (tuple(map(float, config[name])) for name in ("mean", "std"))
    kind: Any = "bilinear" if way == "bilinear" else "bicubic"
    return Transform(int(crop / config["crop_pct"]), crop, kind, (mean, std))  # type: ignore[arg-type]


def from_torchscript(path: Path, transform: Transform) -> nn.Module:
    """A TorchScript module behind a normalisation."""
    try:
        module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise MediError(f"{path}: not readable as TorchScript; save it by torch.jit.save") from error
    return Normalised(module, transform.normalisation)


# --- running ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runner:
    """`extract` of an encoder: loads its network on first use, on this process's GPU if there is one."""

    load: Callable[[], nn.Module]
    dtype: str = "float32"  # of the arithmetic; weights stay float32

    @cached_property
    def network(self) -> nn.Module:
        return self.load().eval().requires_grad_(False).to(device())

    def __call__(self, images: Shown) -> Features:
        where = device()
        patches = torch.from_numpy(np.ascontiguousarray(images)).to(where)
        with torch.inference_mode(), _arithmetic(where, getattr(torch, self.dtype)):
            found = self.network(patches)
        if not isinstance(found, Tensor) or found.ndim != 2:
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise MediError(
                f"an encoder must give features [n, d], this network gives {shape} for {len(images)} patches"
            )
        return found.float().cpu().numpy()


def _arithmetic(where: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Full precision, or mixed, weights staying as they are."""
    return full_precision() if dtype == torch.float32 else torch.autocast(where.type, dtype)
