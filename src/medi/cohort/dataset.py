"""A cohort as a torch Dataset, for training of one's own."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from medi.cohort.pixels import to_float
from medi.cohort.table import Cohort

Item = tuple[Float[Tensor, "3 h w"], dict[str, int | float]]


class PatchDataset(Dataset[Item]):
    """Item i is patch i of a cohort: the image in [-1, 1] and the code of each condition.

    Codes are ids of the schema's levels, -1 where not known; of a continuous attribute the standardised value, NaN
    where not known. They come from the cohort's schema (P1). MediError where the cohort has no pixels.

    >>> import medi
    >>> images = medi.phantom(patches=40, seed=0).as_dataset()
    >>> image, codes = images[0]
    >>> tuple(image.shape), sorted(codes)
    ((3, 32, 32), ['class', 'group', 'site'])
    """

    def __init__(self, cohort: Cohort) -> None:
        self.pixels, self.codes = cohort.images, cohort.schema.encode(cohort.table)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(index)  # ends iteration
        image = to_float(self.pixels[np.array([index % len(self)])])[0]
        return torch.from_numpy(image), {name: codes[index].item() for name, codes in self.codes.items()}
