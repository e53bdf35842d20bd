"""At which sigma does noise hide a structure? By its size, for the fields and pixels of the AMi-Br studies.

python benchmarks/spectrum.py --source AMI_BR/metadata.csv [--patches 400] [--seed 0] [--quick]

The root of the images' mean power spectrum, orthonormal, pixels in [-1, 1]: white noise of that sigma is as strong.
The last line is one JSON object.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from PIL import Image

from common import figure, report

BANDS = ((0.0, 0.01), (0.04, 0.08), (0.08, 0.15), (0.15, 0.3), (0.3, 0.6), (0.6, 1.0))  # cycles per micrometre


def strengths(images: Float[np.ndarray, "n s s 3"], mpp: float) -> list[float]:
    """The sigma that equals the images' structure, in each band; the first is the mean of the field."""
    parts = np.fft.fft2(images - images.mean(axis=(0, 1, 2)), axes=(1, 2), norm="ortho")
    power = (np.abs(parts) ** 2).mean(axis=(0, 3))
    along = np.fft.fftfreq(images.shape[1], mpp)
    frequency = np.hypot(along[:, None], along)
    return [float(np.sqrt(power[(low <= frequency) & (frequency < high)].mean())) for low, high in BANDS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="metadata.csv of AMi-Br")
    parser.add_argument("--patches", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="20 patches")
    options = parser.parse_args()
    options.patches = 20 if options.quick else options.patches
    files = pd.read_csv(options.source).sample(options.patches, random_state=options.seed)["file"]
    opened = [np.asarray(Image.open(options.source.parent / file).convert("RGB"), dtype=float) for file in files]
    whole = np.stack(opened) / 127.5 - 1
    centre = whole[:, 32:96, 32:96]
    half = centre.reshape(len(centre), 32, 2, 32, 2, 3).mean(axis=(2, 4))
    found = {}
    for name, images, mpp in (("ami_br", half, 0.5), ("ami_br_64", centre, 0.25), ("ami_br_128", whole, 0.25)):
        for (low, high), sigma in zip(BANDS, strengths(images, mpp)):
            found[f"{name}_{low:g}_{high:g}"] = figure([sigma], "", None, len(images), "cycles per micrometre")
    report("spectrum", found, ("numpy", "pandas"))


if __name__ == "__main__":
    main()
