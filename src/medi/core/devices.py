"""Where tensors go, and in what arithmetic: this process's GPU, if there is one."""

from contextlib import AbstractContextManager
from typing import Any, Literal

import torch

from medi.core.errors import MediError
from medi.core.sharding import process

Precision = Literal["auto", "bf16", "fp32"]  # of convolutions and matrix products


def device() -> torch.device:
    """The GPU that torchrun gave this process, else the first one, else the CPU."""
    return torch.device(f"cuda:{process('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu")


def full_precision() -> AbstractContextManager[Any]:
    """fp32 is fp32: no TF32 in convolutions, and the same algorithm at every call."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def in_bf16(precision: str) -> bool:
    """Whether products are taken in bf16 here: auto where that is faster, on a GPU or with AVX512-BF16 or AMX."""
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    units = torch.cuda.is_available() or bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return units if precision == "auto" else precision == "bf16"


def compile_failed(error: RuntimeError) -> MediError:
    return MediError(
        f"torch.compile failed ({str(error).splitlines()[0]}); leave compile off or install a C++ compiler"
    )
