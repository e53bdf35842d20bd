"""The objective of UNI's published linear probe (Chen et al. 2024): mean cross-entropy + |W| / (2 C).

The Frobenius norm is not squared and has no bias in it, as their code has it (and their paper has not).
"""

import torch
from jaxtyping import Float64
from torch import Tensor

ITERATIONS = 1000


def objective(
    x: Float64[Tensor, "n d"],
    targets: Float64[Tensor, "n k"],
    shares: Float64[Tensor, " n"],
    weights: Float64[Tensor, "k d"],
    bias: Float64[Tensor, " k"],
    c: float,
) -> Float64[Tensor, ""]:
    """shares: how much each row counts in the mean, sum 1."""
    logs = torch.log_softmax(x @ weights.T + bias, dim=1)
    return -(shares[:, None] * targets * logs).sum() + 0.5 / c * weights.norm(p=2)


def minimise(
    x: Float64[Tensor, "n d"], targets: Float64[Tensor, "n k"], shares: Float64[Tensor, " n"], c: float
) -> tuple[Float64[Tensor, "k d"], Float64[Tensor, " k"]]:
    """Weights and bias by L-BFGS with a strong Wolfe line search from zero, where torch has the norm's slope as 0."""
    weights = torch.zeros(targets.shape[1], x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(targets.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = objective(x, targets, shares, weights, bias, c)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach(), bias.detach()
