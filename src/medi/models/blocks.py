"""Blocks of pixels as their principal components, each with its own spread.

EDM's preconditioning assumes one standard deviation for all that a network predicts. In patches of the demo the root
mean square of a component of 2 x 2 blocks goes from 0.005, the difference of two colours between neighbours, to 1.04,
nearly the mean of a block. A small network that answers for both at the same scale leaves a chequered pattern of the
size of its own error.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medi.core.devices import no_autocast
from medi.models.noise import SIGMA_DATA

LEAST = 2 / 255 / 12**0.5  # of a spread: what rounding to 256 grey levels leaves


class Blocks(nn.Module):
    """Images [n, c, h, w] as the k = c fold^2 principal components of their fold x fold blocks, and back.

    components: [k, k], one in a column, orthonormal; spreads: [k], the root mean square of each over patches that
    `fit` saw. Before that every pixel is a component of the spread SIGMA_DATA.

    >>> images = torch.rand(50, 3, 8, 8) * 2 - 1
    >>> blocks = Blocks(3, fold=2).fit(images)
    >>> parts = blocks.split(images)
    >>> tuple(parts.shape), torch.allclose(parts.square().mean((0, 2, 3)).sqrt(), blocks.spreads)
    ((50, 12, 4, 4), True)
    >>> torch.allclose(blocks.join(parts), images, atol=1e-6)
    True
    """

    components: Tensor
    spreads: Tensor

    def __init__(self, channels: int, fold: int) -> None:
        super().__init__()
        self.fold, size = fold, channels * fold**2
        self.register_buffer("components", torch.eye(size))
        self.register_buffer("spreads", torch.full((size,), SIGMA_DATA))

    def fit(self, images: Float[Tensor, "n c h w"]) -> "Blocks":
        """Take the components of these images. Of a component and its negative, it is the one whose largest entry is
        positive, so that equal images give equal components."""
        rows = functional.pixel_unshuffle(images.double(), self.fold).movedim(1, -1).flatten(0, -2)
        powers, components = torch.linalg.eigh(rows.T @ rows / len(rows))
        largest = components.gather(0, components.abs().argmax(0, keepdim=True))
        self.components.copy_(components * largest.sign())
        self.spreads.copy_(powers.clamp_min(0).sqrt().clamp_min(LEAST))
        return self

    def split(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k y x"]:
        """The components of every block, in full precision under autocast too: a small one is the difference of
        colours a hundred times its size, and bf16 has 8 bits."""
        with no_autocast(x.device.type):
            return torch.einsum("nchw,ck->nkhw", functional.pixel_unshuffle(x, self.fold), self.components)

    def join(self, parts: Float[Tensor, "n k y x"]) -> Float[Tensor, "n c h w"]:
        """The images of these components, in full precision as well."""
        with no_autocast(parts.device.type):
            return functional.pixel_shuffle(torch.einsum("nkhw,ck->nchw", parts, self.components), self.fold)
