"""The passes of a training step as a CUDA graph: recorded once, replayed for every batch.

A GPU waits for Python to launch the many small kernels of a small network one by one; a graph launches them at once.
The kernels and their order are the same, and so are the numbers.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

WARM_UP = 3  # passes before the recording, in which libraries choose their kernels


class Recorded:
    """`passes()` reads tensors that stay where they are, returns a loss and leaves gradients at `weights`.

    A call does the same to what these tensors hold by then; the gradients are new ones, not added to old ones.
    """

    def __init__(self, passes: Callable[[], Float[Tensor, ""]], weights: Sequence[nn.Parameter]) -> None:
        self.weights = weights
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                self._forget()
                passes()
        torch.cuda.current_stream().wait_stream(beside)
        self._forget()
        torch.cuda.empty_cache()  # the recording keeps memory of its own
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = passes()
        self.gradients = [weight.grad for weight in weights]

    def __call__(self) -> Float[Tensor, ""]:
        for weight, gradient in zip(self.weights, self.gradients):
            weight.grad = gradient
        self.graph.replay()
        return self.loss.clone()

    def _forget(self) -> None:
        for weight in self.weights:
            weight.grad = None
