"""Where tensors go, and in what arithmetic: this process's GPU, if there is one."""

import os
import re
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from medi.core.errors import MediError
from medi.core.sharding import process

Precision = Literal["auto", "bf16", "fp32"]  # of convolutions and matrix products


VISIBLE = "CUDA_VISIBLE_DEVICES"  # what CUDA reads before its first use; workers inherit it


def use_device(name: str) -> None:
    """Work on one device from now on, in this process and its workers: auto, cpu, cuda (the first GPU) or cuda:1.

    To be called before anything is computed. MediError for a name that is none, and for a GPU that is not there.

    >>> use_device("gpu")
    Traceback (most recent call last):
    medi.core.errors.MediError: device 'gpu' is unknown; known: auto, cpu, cuda, cuda:N (N from 0)
    """
    if not (asked := re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", name)):
        raise MediError(f"device {name!r} is unknown; known: auto, cpu, cuda, cuda:N (N from 0)")
    if name == "auto":
        return
    seen = [part for part in os.environ.get(VISIBLE, "").split(",") if part]
    number = int(asked[1] or 0)
    if asked[1] and process("WORLD_SIZE", 1) > 1:
        raise MediError(f"device {name}: torchrun gives every process its own GPU; leave the device out")
    if name == "cpu":
        os.environ[VISIBLE] = ""
    elif asked[1]:
        os.environ[VISIBLE] = seen[number] if number < len(seen) else "-1" if seen else str(number)
    if name != "cpu" and not torch.cuda.is_available():
        raise MediError(f"device {name}: there is no such GPU here; `medi doctor` says what there is, or choose cpu")


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES has for them; none on a CPU."""
    if not torch.cuda.is_available():
        return ()
    named = tuple(part for part in os.environ.get(VISIBLE, "").split(",") if part)
    return named or tuple(map(str, range(torch.cuda.device_count())))


def device() -> torch.device:
    """The GPU that torchrun gave this process, else the first one, else the CPU."""
    return torch.device(f"cuda:{process('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu")


def full_precision() -> AbstractContextManager[Any]:
    """fp32 is fp32: no TF32 in convolutions, and the same algorithm at every call."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def no_autocast(kind: str) -> AbstractContextManager[Any]:
    """Products in the precision of their tensors, within autocast too; kind: of a device. On meta there is none."""
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def in_bf16(precision: str) -> bool:
    """Whether products are taken in bf16 here: auto where that is faster, on a GPU or with AVX512-BF16 or AMX."""
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    units = torch.cuda.is_available() or bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return units if precision == "auto" else precision == "bf16"


def compile_failed(error: RuntimeError) -> MediError:
    return MediError(
        f"torch.compile failed ({str(error).splitlines()[0]}); leave compile off or install a C++ compiler"
    )
