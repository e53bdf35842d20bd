"""Where tensors go, and in what arithmetic: this process's GPU, if there is one."""

from contextlib import AbstractContextManager
from typing import Any

import torch

from medi.core.sharding import process


def device() -> torch.device:
    """The GPU that torchrun gave this process, else the first one, else the CPU."""
    return torch.device(f"cuda:{process('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu")


def full_precision() -> AbstractContextManager[Any]:
    """fp32 is fp32: no TF32 in convolutions, and the same algorithm at every call."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
