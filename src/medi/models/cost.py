"""What a network costs: floating-point operations of an image, and how they are said."""

import torch

from medi.cohort.schema import Schema
from medi.core.numbers import digits
from medi.models.denoiser import Denoiser
from medi.models.network import UNET, NetworkSettings

PREFIXES = ("G", "T", "P", "E", "Z")  # 10^9, 10^12, ...


def weightless(settings: NetworkSettings, schema: Schema) -> Denoiser:
    """A denoiser that has shapes alone, to count with: nothing is drawn or kept, whatever its size.

    A registered network is built as it is, for it may do more than to make weights.
    """
    if settings.network != UNET:
        return Denoiser(settings, schema)
    with torch.device("meta"):
        return Denoiser(settings, schema).to("meta")


def gflop_per_image(denoiser: Denoiser) -> float:
    """10^9 floating-point operations of one evaluation of D on one image."""
    from torch.utils.flop_counter import FlopCounterMode  # brings triton along

    device = denoiser.device
    x, sigma = torch.zeros(1, *denoiser.settings.shape, device=device), torch.ones(1, device=device)
    z = torch.zeros(1, denoiser.settings.condition_width, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoiser(x, sigma, z)
    return 1e-9 * counter.get_total_flops()


def flop(giga: float) -> str:
    """So many 10^9 operations in the unit that fits, with three digits.

    >>> flop(0.0123), flop(4_560.0), flop(999_800.0)
    ('0.0123 GFLOP', '4.56 TFLOP', '1 PFLOP')
    """
    for prefix in PREFIXES[:-1]:
        if giga < 999.5:
            return f"{digits(giga)} {prefix}FLOP"
        giga /= 1000
    return f"{digits(giga)} {PREFIXES[-1]}FLOP"


def storage(count: int) -> str:
    """So many bytes in the unit that fits, with three digits.

    >>> storage(9_216), storage(2_500_000), storage(12_300_000_000)
    ('9.22 kB', '2.5 MB', '12.3 GB')
    """
    size = count / 1000
    for unit in ("kB", "MB", "GB"):
        if size < 999.5:
            return f"{digits(size)} {unit}"
        size /= 1000
    return f"{digits(size)} TB"


def duration(seconds: float) -> str:
    """A length of time in the unit that fits.

    >>> duration(20.0), duration(600.0), duration(9_000.0), duration(864_000.0)
    ('20 s', '10 minutes', '2.5 hours', '10 days')
    """
    for unit, length, until in (("s", 1, 120), ("minutes", 60, 7_200), ("hours", 3_600, 172_800)):
        if seconds < until:
            return f"{seconds / length:.2g} {unit}" if seconds / length < 10 else f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} days"
