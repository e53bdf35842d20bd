"""The power-function EMA against its closed form."""

import torch
from torch import nn

from medi.models.ema import Ema


def test_average_of_a_straight_line() -> None:
    """For theta(t) = t the average at T is (gamma + 1) / (gamma + 2) T (Karras et al. 2024, equation 1)."""
    module, gamma, step, total = nn.Linear(1, 1, bias=False), 6.0, 1, 4000
    ema = Ema(module, gamma)
    for t in range(0, total, step):
        nn.init.constant_(module.weight, t + step)
        ema.update(t, t + step)
    torch.testing.assert_close(ema.average["weight"].item(), (gamma + 1) / (gamma + 2) * total, rtol=1e-3, atol=0)


def test_steps_of_any_size_agree_on_constant_stretches() -> None:
    module = nn.Linear(2, 2)
    coarse, fine = Ema(module, 5.0), Ema(module, 5.0)
    for value, start, stop in ((1.0, 0, 400), (3.0, 400, 1000)):
        for parameter in module.parameters():
            nn.init.constant_(parameter, value)
        coarse.update(start, stop)
        for t in range(start, stop, 50):
            fine.update(t, t + 50)
    torch.testing.assert_close(coarse.average, fine.average)


def test_first_update_forgets_the_initial_weights_and_copies_back() -> None:
    module = nn.Linear(2, 2)
    ema = Ema(module, 3.0)
    nn.init.constant_(module.weight, 7.0)
    ema.update(0, 16)
    nn.init.constant_(module.weight, -1.0)
    ema.copy_to(module)
    assert (module.weight == 7.0).all()
