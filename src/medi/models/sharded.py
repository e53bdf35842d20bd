"""A network of which every process keeps a part: weights, gradients, moments and averages (FSDP2, torch's fully_shard).

Zhao et al., "PyTorch FSDP: experiences on scaling fully sharded data parallel" (2023). accelerate's plugin for it
calls the same function, but leaves processes on CPUs as they are. Called here, it works on both, and is tested on CPUs.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medi.models.unet import Attention, Resample, Residual


def shard(module: nn.Module, kind: str, processes: int) -> None:
    """Cut each weight of a module along its first dimension, a part for each process, before optimisers are made.

    kind: of the device. The blocks of our UNet are gathered one by one when they compute; any other network, which may
    call its parts as it likes, is gathered as a whole. All processes hold the same weights before.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(kind, (processes,))
    module.to(memory_format=torch.contiguous_format)  # it cuts no other
    for part in [part for part in module.modules() if isinstance(part, (Residual, Attention, Resample))]:
        fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which each process holds a part: all call this together. Any other tensor is as it was."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def gathered(tensors: Mapping[str, Tensor], wanted: bool) -> dict[str, Tensor]:
    """All of the tensors, those that were cut on the CPU; nothing where they are not wanted. All call this together."""
    found = {}
    for name, tensor in tensors.items():
        value = whole(tensor)
        if wanted:
            found[name] = value if value is tensor else value.cpu()
    return found


def cut(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as `like` is held: this process's part of it, or all of it."""
    if not hasattr(like, "full_tensor"):
        return value
    from torch.distributed.tensor import distribute_tensor

    placed = value.to(like.device)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)  # type: ignore[attr-defined]
