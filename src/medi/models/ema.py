"""Power-function EMA of the weights (Karras et al., "Analyzing and improving", CVPR 2024, section 3.1).

theta_hat(t) = (gamma + 1) / t^(gamma + 1) * integral_0^t tau^gamma theta(tau) d tau: the memory grows with training.
"""

import torch
from torch import Tensor, nn

from medi.models.sharded import cut, whole


class Ema:
    """Averaged fp32 copies of a module's parameters, which it watches; time is counted in images."""

    def __init__(self, module: nn.Module, gamma: float) -> None:
        self.gamma = gamma
        self.weights = [value.detach() for value in module.parameters()]  # the same memory
        self.average = {name: value.detach().float().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, before: int, after: int) -> None:
        """Take in the weights as they are now, from image `before` to `after`: beta = (before / after)^(gamma + 1)."""
        current = [value.float() for value in self.weights]
        torch._foreach_lerp_(list(self.average.values()), current, 1.0 - (before / after) ** (self.gamma + 1))

    @torch.no_grad()
    def load(self, average: dict[str, Tensor]) -> None:
        for name, value in self.average.items():
            value.copy_(cut(average[name], value))

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Give a whole module the average; of one that is sharded all processes call this together."""
        for name, value in module.named_parameters():
            value.copy_(whole(self.average[name]))
