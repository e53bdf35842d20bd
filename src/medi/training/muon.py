"""Muon: each matrix moves along its momentum made orthogonal, so that no direction of it learns slower than others.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). torch.optim.Muon does the same for
plain matrices in bf16, in which a CPU without units for it is lost; here convolutions are matrices too.
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medi.models.sharded import cut, whole

QUINTIC = (3.4445, -4.7750, 2.0315)  # p(x) = a x + b x^3 + c x^5 drives singular values to about 1 (ibid.)
STEPS = 5


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions; a convolution is a matrix of output channels by all else.

    An update of an a x b matrix is scaled by 0.2 sqrt(max(a, b)): its entries then move as far as AdamW's, whose
    learning rates and weight decay serve here too (Liu et al., "Muon is scalable for LLM training", 2025, section 2.2).
    Gradients are used up. Of sharded weights each process has the whole gradient, shape by shape, and moves its part.
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.01, momentum: float = 0.95
    ) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            averages = [self.state[weight]["momentum"] for weight in weights]
            torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
            torch._foreach_lerp_(gradients, averages, group["momentum"])  # Nesterov's
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            alike = defaultdict(list)
            for weight, update in zip(weights, gradients):
                alike[weight.flatten(1).shape].append((weight, update))
            for shape, pairs in alike.items():
                moves = orthogonal(torch.stack([whole(update).flatten(1) for _, update in pairs]))
                for (weight, _), move in zip(pairs, moves):
                    step = cut(move.view(weight.shape), weight)
                    weight.add_(step, alpha=-group["lr"] * 0.2 * math.sqrt(max(shape)))


def orthogonal(matrices: Float[Tensor, "n a b"]) -> Float[Tensor, "n a b"]:
    """Each matrix with singular values of about 1 (0.7 to 1.2) in place of its own: Newton-Schulz iterations.

    They are polynomials in the Gram matrix X X^T, which is small where X is a convolution, and commute: p(A) is applied
    to A, and only the product of all of them to X. Directions without a singular value stay near zero.
    """
    a, b, c = QUINTIC
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    wide = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    gram = wide @ wide.mT
    unit = torch.eye(gram.shape[1], device=gram.device, dtype=gram.dtype)
    total = once = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + a * unit
    for _ in range(STEPS - 1):
        gram = once @ (once @ gram)
        once = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + a * unit
        total = once @ total
    return total @ wide
