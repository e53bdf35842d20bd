"""One model in training: an update at a time, every number that the next one depends on at hand."""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.devices import in_bf16
from medi.core.threads import cores
from medi.models.cost import gflop_per_image
from medi.models.denoiser import Denoiser
from medi.models.ema import Ema
from medi.models.first_weights import begin_with
from medi.models.network import NetworkSettings
from medi.models.sharded import cut, gathered, shard, whole
from medi.models.space import Space
from medi.training.colours import SlideColours
from medi.training.cuda_graph import Recorded
from medi.training.data import Batch, Batches, combinations_of
from medi.training.latents import Ground
from medi.training.loss import DenoisingLoss
from medi.training.optimisers import optimizers
from medi.training.prefetch import Ahead, Counters
from medi.training.recipe import Recipe

LOADER_THREADS = 8  # at most, for each GPU
BLOCK_PATCHES = 2048  # training patches, at most, that tell the components of blocks
ATTENTION = [  # all but cuDNN's, whose backward pass can give NaN on an H100, also for 64 tokens (pytorch issue 196678)
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def fresh_denoiser(
    settings: NetworkSettings, schema: Schema, seed: int, init: str = "", space: Space | None = None
) -> Denoiser:
    """A denoiser whose first weights come from the seed, those of its network from `init` where that names any; the
    random numbers of the caller stay as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.integer("weights", seed))
        made = Denoiser(settings, schema, space)
    if init:
        begin_with(made, init)
    return made


class Trainer:
    """One model in training: weights, optimisers, EMA and the number of images seen.

    With N processes each works on every N-th image of a batch and gradients are averaged, so that N equal one (P4).
    """

    def __init__(
        self,
        cohort: Cohort,
        settings: NetworkSettings,
        recipe: Recipe,
        schema: Schema,
        seed: int,
        ground: Ground | None = None,
    ) -> None:
        from accelerate import Accelerator

        # Its precision is the process's, ours is the recipe's; processes on CPUs join only where they are told of it.
        self.accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
        self.recipe, self.images, self.ground = recipe, 0, ground or Ground()
        codes = cohort.schema.encode(cohort.table)
        colours = SlideColours.of(cohort, combinations_of(codes)) if recipe.slide_colours else None
        self.batches = Batches(cohort, codes, recipe, seed, self.ground.training, colours)
        self.denoiser = fresh_denoiser(settings, schema, seed, recipe.init, self.ground.space)
        if self.denoiser.blocks and not recipe.init:
            self.denoiser.blocks.fit(torch.from_numpy(self.batches.some(BLOCK_PATCHES)))
        self.loss, self.optimizers = self._prepared(DenoisingLoss(self.denoiser))
        self.weights = list(self.denoiser.parameters())
        self.ema = Ema(self.denoiser, recipe.ema_gamma)
        self.ahead: Ahead[Batch] | None = None
        self.recorded: Recorded[Batch] | None = None
        if self.accelerator.device.type == "cuda":  # on a CPU no core is to spare
            threads = min(LOADER_THREADS, max(1, cores() // self.accelerator.num_processes))
            self.ahead = Ahead(partial(self.batches, device=torch.device("cpu")), Batch.join, threads)

    def _prepared(self, loss: nn.Module) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
        """The loss and its optimisers for the processes that train together, each with all weights or its part."""
        if self.recipe.shard_model:
            shard(loss, self.accelerator.device.type, self.accelerator.num_processes)
            return loss, optimizers(self.denoiser, self.recipe)
        made = torch.compile(loss) if self.recipe.compile else loss
        loss, *found = self.accelerator.prepare(made, *optimizers(self.denoiser, self.recipe))
        return loss, found

    def step(self) -> Float[Tensor, ""]:
        """One update on the next batch; returns its loss, still on the device."""
        stop = min(self.images + self.recipe.batch, self.recipe.images)
        parts = self._parts(self.images)
        following = [*parts, *self._parts(stop)[:1], np.arange(0)][1 : len(parts) + 1]
        if self.is_recordable and len(parts[0]) == self.recipe.batch:
            loss = self._replayed(parts[0], following[0])
        else:
            loss = self._passes(parts, following)
        self._clip()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate(self.images)
            optimizer.step()
            optimizer.zero_grad()
        self.ema.update(self.images, stop)
        self.images = stop
        return loss

    def _passes(self, parts: list[Counters], following: list[Counters]) -> Float[Tensor, ""]:
        """The loss of all parts together, its gradient left at the weights."""
        loss = torch.zeros((), device=self.accelerator.device)
        own, size = sum(map(len, parts)), min(self.recipe.batch, self.recipe.images - self.images)
        weight = own * self.accelerator.num_processes / size  # of this process, as gradients are averaged: 1, or nearly
        for part, after in zip(parts, following):
            share = self.loss_of(self._batch(part, after)) * (len(part) / own)
            self.accelerator.backward(share * weight)
            loss += share.detach()
        return loss

    @property
    def is_recordable(self) -> bool:
        """Whether an update is one forward and backward pass on one GPU."""
        on_gpu, whole = self.ahead is not None, self.recipe.micro_batch in (0, self.recipe.batch)
        return on_gpu and whole and self.accelerator.num_processes == 1

    def _replayed(self, counters: Counters, following: Counters) -> Float[Tensor, ""]:
        """The same as `_passes` of one whole batch, as a CUDA graph."""
        assert self.ahead is not None
        batch = self.ahead(counters, following)
        if self.recorded is None:
            self.recorded = Recorded(self._pass, batch.to(self.accelerator.device), self.weights)
        return self.recorded(batch)

    def _pass(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss of a batch, its gradient left at the weights."""
        loss = self.loss_of(batch)
        self.accelerator.backward(loss)
        return loss.detach()

    def _clip(self) -> None:
        """Shorten the gradient to `recipe.clip`. A CPU sees for itself whether there is anything to do; a GPU would
        have to be waited for."""
        if self.accelerator.device.type != "cpu" or self.recipe.shard_model:
            self.accelerator.clip_grad_norm_(self.weights, self.recipe.clip)
            return
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(gradients))))
        if norm + 1e-6 > self.recipe.clip:
            nn.utils.clip_grads_with_norm_(self.weights, self.recipe.clip, norm)

    def loss_of(self, batch: Batch) -> Float[Tensor, ""]:
        """The loss in the recipe's precision."""
        bf16 = in_bf16(self.recipe.precision)
        with sdpa_kernel(ATTENTION), torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=bf16):
            return self.loss(batch)

    def _parts(self, images: int) -> list[Counters]:
        """The images of the update that begins at `images`, those of this process, as many as are taken at once."""
        stop = min(images + self.recipe.batch, self.recipe.images)
        counters = np.arange(images, stop)[self.accelerator.process_index :: self.accelerator.num_processes]
        size = self.recipe.micro_batch or self.recipe.batch
        return [counters[start : start + size] for start in range(0, len(counters), size)]

    def _batch(self, counters: Counters, following: Counters) -> Batch:
        device = self.accelerator.device
        return self.batches(counters, device) if self.ahead is None else self.ahead(counters, following).to(device)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name; where several processes train together, only the first
        has them all, and all call this."""
        moments = {weight: entry for optimizer in self.optimizers for weight, entry in optimizer.state.items()}
        flat = {
            f"optimizer.{i}.{key}": value
            for i, weight in enumerate(self.weights)
            for key, value in moments.get(weight, {}).items()
        }
        weights = {f"weights.{name}": value for name, value in self.denoiser.state_dict().items()}
        averages = {f"ema.{name}": value for name, value in self.ema.average.items()}
        return gathered(weights | flat | averages, self.accelerator.is_main_process)

    def load(self, state: dict[str, Tensor], images: int) -> None:
        held = self.denoiser.state_dict()
        saved = {name: cut(value, held.get(name, value)) for name, value in _under(state, "weights.").items()}
        self.denoiser.load_state_dict(saved)
        self.ema.load(_under(state, "ema."))
        moments = _under(state, "optimizer.")
        at = {weight: i for i, weight in enumerate(self.weights)}
        for optimizer in self.optimizers:
            for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
                for key, value in _under(moments, f"{at[weight]}.").items():  # in the weight's memory layout
                    kept = torch.empty_like(weight, requires_grad=False) if value.ndim else torch.empty_like(value)
                    optimizer.state[weight][key] = kept.to(weight.device).copy_(cut(value, kept))
        self.images = images

    def averaged(self) -> Denoiser:
        """A whole denoiser with the averaged weights, on this process's device; all processes call this together."""
        made = fresh_denoiser(self.denoiser.settings, self.denoiser.schema, 0, space=self.ground.space)
        made = made.to(self.accelerator.device)
        self.ema.copy_to(made)
        for name, value in made.named_buffers():
            value.copy_(self.denoiser.get_buffer(name))
        return made

    def is_finite(self) -> bool:
        """Whether every weight and its average is a finite number."""
        sums = [whole(value.detach().float().sum()) for value in (*self.weights, *self.ema.average.values())]
        return bool(torch.stack(sums).isfinite().all())

    def gflop_per_image(self) -> float:
        """10^9 floating-point operations of one image's forward and backward pass, the latter counted as two."""
        return 3 * gflop_per_image(self.averaged() if self.recipe.shard_model else self.denoiser)

    @torch.inference_mode()
    def validation_loss(self, cohort: Cohort, batch: int = 64) -> float:
        """The averaged weights' loss on a cohort, with noise that is the same at every call."""
        averaged = self.averaged()
        loss = DenoisingLoss(averaged)
        codes, seed = cohort.schema.encode(cohort.table), seeds.integer("validation")
        batches = Batches(cohort, codes, self.recipe, seed, self.ground.validation)
        starts = range(0, len(cohort), batch)
        values = [loss(batches(np.arange(s, min(s + batch, len(cohort))), averaged.device)).item() for s in starts]
        return float(np.mean(values))


def _under(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
