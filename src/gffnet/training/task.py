"""What Lightning trains: the network with its auxiliary head, their losses, the optimiser and its schedule.

One step of Lightning's loop is one iteration of the recipe: each rank takes its part of the batch in micro-batches of
`device_batch` images, accumulates their gradients and steps once. The loss of a micro-batch is divided by the weight of
the *whole* batch (labelled pixels over all micro-batches and ranks), so that with frozen normalisation neither
`device_batch` nor the number of devices changes the result.
"""

import random
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from lightning import LightningModule
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from gffnet.data.dataset import Sample
from gffnet.data.loader import Batch
from gffnet.errors import UserError
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.metrics.confusion import ClassScores, ConfusionMatrix
from gffnet.models.gffnet import SegmentationModel
from gffnet.models.layers import conv_block
from gffnet.models.model_io import ModelConfig
from gffnet.models.ops import resize, size_of
from gffnet.recipe import TrainingRecipe
from gffnet.registry import plugin_of
from gffnet.training.callbacks import DivergenceCheck
from gffnet.training.losses import MeanLoss, make_loss
from gffnet.training.optim import ExponentialMovingAverage, Schedule, make_optimizer

NO_PIXEL = 1e-6
"""What a loss is divided by where no pixel is labelled, so that it is 0."""

OPTIMIZERS = (
    "task {}: configure_optimizers returned {} optimizers: a run has exactly one. Put the parameters into groups of "
    "one optimizer, with learning rates of their own."
)


class AuxiliaryHead(nn.Module):
    """Auxiliary classifier on `X_3` (ResNet C4): 3x3 convolution, dropout, 1x1 classifier, resized to the image.

    The paper weights its loss with 0.4. It is stored in checkpoints, never in an exported model or a cost table.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv_block(in_channels, channels, 3), nn.Dropout2d(dropout), nn.Conv2d(channels, num_classes, 1)
        )

    def forward(self, x: Float[Tensor, "b c _h _w"], size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        """`X_3` → logits of `size`."""
        return resize(self.layers(x), size)


def batch_norms(*modules: nn.Module) -> list[nn.Module]:
    """All batch normalisation layers in some modules, of any kind in torch and timm."""
    return [m for part in modules for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


class SegmentationTask(LightningModule):
    """Segmentation with the network's loss plus `auxiliary_weight` times that of the auxiliary head.

    Subclass it to change what is trained, and give the subclass to `gffnet.train(task=...)`. What may be overridden:

    - `loss(logits, labels)`: the mean loss of a batch, which both heads use;
    - `losses(images, labels)`: main and auxiliary loss, as sums over the labelled pixels;
    - `configure_optimizers()`: anything that Lightning takes with one optimiser. Schedules step after every iteration;
    - `training_step(batch, index)`: returns the loss, or a mapping with `loss`; Lightning then does the backward pass
      and the step. `self(images)` are the logits. Or set `automatic_optimization = False` in `__init__`, and do both.

    Clipping, moving average, divergence check, validation, history and checkpoints are the same in all of them.
    """

    def __init__(
        self,
        network: SegmentationModel,
        config: ModelConfig,
        training: TrainingRecipe,
        precision: Precision,
        seed: int,
        class_weights: Tensor | None = None,
        loss: nn.Module | None = None,
    ) -> None:
        """Initialise.

        Args:
            network: changed in place.
            config: of the model that is saved.
            training: the recipe.
            precision: of training and validation.
            seed: of the run.
            class_weights: of the recipe's loss.
            loss: a module with the methods of `SegmentationLoss`, such as a `MeanLoss`; None: that of the recipe.
        """
        super().__init__()
        self.automatic_optimization = self.overrides("training_step")
        self.network = network.to(memory_format=torch.channels_last)
        self.auxiliary: nn.Module = nn.Identity()  # no head where its loss does not count: it takes time and memory
        if training.auxiliary_weight:
            self.auxiliary = AuxiliaryHead(
                network.backbone.channels[2], len(config.classes), dropout=config.model.dropout
            )
        self.criterion = make_loss(training.loss, class_weights) if loss is None else loss
        self.average = None if training.ema is None else ExponentialMovingAverage(self.network, training.ema)
        self.config = config
        self.training_recipe = training
        self.precision = precision
        self.seed = seed
        own = loss is not None or any(map(self.overrides, ("loss", "losses", "training_step")))
        terms = training.loss.terms
        own |= any(plugin_of("loss", name) is not None for name in terms)
        self.divergence = DivergenceCheck(None if own else len(config.classes), sum(terms.values()))
        self.val_scores: ClassScores | None = None
        self.gradient_norm: Tensor | None = None
        """Of the last iteration before it was clipped; None: gradients are not clipped."""
        self._confusion: ConfusionMatrix | None = None
        self._predictor: Predictor | None = None
        self._losses = torch.compile(self.losses) if training.compile else self.losses
        if training.freeze_norms:
            for norm in batch_norms(self.network, self.auxiliary):
                norm.requires_grad_(False)

    @classmethod
    def overrides(cls, name: str) -> bool:
        """Whether a subclass has a method of its own in place of one of this class."""
        return getattr(cls, name) is not getattr(SegmentationTask, name)

    @property
    def model(self) -> SegmentationModel:
        """The network that is validated and saved: the moving average, if the recipe has one."""
        return self.network if self.average is None else cast(SegmentationModel, self.average.network)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → logits (B, K, H, W)."""
        return cast(Tensor, self.network(images.contiguous(memory_format=torch.channels_last)).logits)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, K, H, W) and labels (B, H, W), 255 ignored → the mean loss of the labelled pixels.

        0, with a gradient of 0, if no pixel is labelled.
        """
        criterion: Any = self.criterion
        mean: Tensor = criterion(logits, labels) / criterion.weight(labels).clamp(min=NO_PIXEL)
        return mean

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and labels (B, H, W) → main and auxiliary loss, summed as by `SegmentationLoss`.

        The latter is 0 without an auxiliary head, where the recipe's `auxiliary_weight` is 0.
        """
        size = size_of(images)
        maps, context = self.network.features(images)
        logits = self.network.decode(self.network.reduce(maps, context, size))
        criterion = self._criterion
        main: Tensor = criterion(logits, labels)
        if not self.training_recipe.auxiliary_weight:
            return main, main.new_zeros(())
        return main, criterion(self.auxiliary(maps[2], size), labels)

    @property
    def _criterion(self) -> Any:
        """The loss as a module with the methods of `SegmentationLoss`: `loss`, if a subclass has one."""
        return MeanLoss(self.loss) if self.overrides("loss") else self.criterion

    def training_step(self, batch: Batch, index: int) -> dict[str, Tensor]:
        """Train for one iteration; returns the losses of the whole batch.

        With automatic optimisation it returns `loss` as well, and leaves the backward pass and the step to Lightning.
        """
        weight = self._sum_over_ranks(self._criterion.weight(batch.labels)).clamp(min=NO_PIXEL)
        if self.automatic_optimization:
            with self._autocast():
                main, auxiliary = self._losses(batch.image.contiguous(memory_format=torch.channels_last), batch.labels)
            total = (main + self.training_recipe.auxiliary_weight * auxiliary) / weight * self.trainer.world_size
            losses = self._sum_over_ranks(torch.stack([main, auxiliary]).detach()) / weight
            self.divergence.add(self.global_step, losses, batch.names)
            return {"loss": total, **self._named(losses)}
        optimizer: Any = self.optimizers()
        sums = torch.zeros(2, device=self.device)
        size = self.training_recipe.device_batch or len(batch.labels)
        micro_batches = list(zip(batch.image.split(size), batch.labels.split(size), strict=True))
        for number, (images, labels) in enumerate(micro_batches):
            with self._gradient_sync(number == len(micro_batches) - 1):
                sums += self._accumulate(images, labels, weight, number)
        losses = self._sum_over_ranks(sums) / weight
        self.divergence.add(self.global_step, losses, batch.names)
        optimizer.step()
        optimizer.zero_grad()
        self._step_schedules(losses[0])
        norm = {} if self.gradient_norm is None else {"gradient_norm": self.gradient_norm}
        return {**self._named(losses), **norm}

    def _named(self, losses: Tensor) -> dict[str, Tensor]:
        """The losses of an iteration by name; without an auxiliary head, there is no loss of it."""
        named = {"main": losses[0]}
        return named | {"auxiliary": losses[1]} if self.training_recipe.auxiliary_weight else named

    def _step_schedules(self, loss: Tensor) -> None:
        """Step the schedules after an iteration."""
        for config in self.trainer.lr_scheduler_configs:
            if self.global_step % config.frequency == 0:
                if isinstance(config.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
                    config.scheduler.step(float(loss))
                else:
                    config.scheduler.step()

    def _autocast(self) -> torch.autocast:
        """A context that computes in the precision of the run."""
        dtype = self.precision.dtype
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def _seed_iteration(self, number: int) -> None:
        """Seed the global generators of torch, numpy and `random` for a micro-batch.

        Dropout, and a loss that draws, depend only on iteration, rank and micro-batch, so that a resumed run repeats
        an uninterrupted one.
        """
        seed = (((self.seed * 1_000_003 + self.global_step) * 4099 + self.global_rank) * 257 + number) % 2**63
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)

    def _accumulate(self, images: Tensor, labels: Tensor, weight: Tensor, number: int) -> Tensor:
        """Accumulate the gradients of a micro-batch; returns its losses."""
        self._seed_iteration(number)
        with self._autocast():
            main, auxiliary = self._losses(images.contiguous(memory_format=torch.channels_last), labels)
        loss = (main + self.training_recipe.auxiliary_weight * auxiliary) / weight
        self.manual_backward(loss * self.trainer.world_size)  # DDP averages the gradients of the ranks
        return torch.stack([main, auxiliary]).detach()

    def _gradient_sync(self, last: bool) -> AbstractContextManager[None]:
        """A context in which DDP averages gradients after the last micro-batch only."""
        strategy = self.trainer.strategy
        if last or not isinstance(strategy, ParallelStrategy):
            return nullcontext()
        no_sync: AbstractContextManager[None] = strategy.block_backward_sync()
        return no_sync

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        """The sum of a value over all ranks."""
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(value)
        return value

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the accumulated, unscaled gradients."""
        limit = self.training_recipe.clip_gradients
        if limit is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self.gradient_norm = nn.utils.clip_grad_norm_(parameters, limit)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the model's configuration beside its weights."""
        checkpoint["config"] = self.config.to_text()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and its schedule, which steps after every iteration."""
        recipe = self.training_recipe
        optimizer = make_optimizer(self.network, self.auxiliary, recipe)
        if own := [p for p in self.criterion.parameters() if p.requires_grad]:  # of a loss that is trained as well
            rate = recipe.learning_rate * recipe.new_layers_multiplier
            optimizer.add_param_group({"name": "loss", "params": own, "lr": rate, "weight_decay": 0.0})
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": Schedule(optimizer, recipe), "interval": "step"}}

    def on_fit_start(self) -> None:
        """Check what a subclass configures, and attach the moving average to the optimiser's steps.

        All processes compute in the precision of the first.

        Raises:
            UserError: it is not one optimiser, or the batch would be split where the task does not.
        """
        if len(self.trainer.optimizers) != 1:
            raise UserError(OPTIMIZERS.format(type(self).__name__, len(self.trainer.optimizers)))
        batch, device_batch = self.training_recipe.batch, self.training_recipe.device_batch
        if self.automatic_optimization and device_batch and device_batch * self.trainer.world_size < batch:
            raise UserError(
                f"training.device_batch {device_batch}: {type(self).__name__} has its own training_step, which gets "
                "the whole batch of a device. Set training.device_batch to null, or a smaller training.batch."
            )
        for config in self.trainer.lr_scheduler_configs:
            config.interval = "step"  # a run is a single epoch
        self.precision = self.trainer.strategy.broadcast(self.precision)  # nodes may differ in which is faster
        if self.average is not None:
            average = self.average
            self.trainer.optimizers[0].register_step_post_hook(lambda *_: average.update(self.network))

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        """Seed a training step of a subclass; the own one seeds its micro-batches."""
        if self.overrides("training_step"):
            self._seed_iteration(0)

    def on_train_epoch_start(self) -> None:
        """Keep frozen normalisation in evaluation mode."""
        if self.training_recipe.freeze_norms:
            for norm in batch_norms(self.network, self.auxiliary):
                norm.eval()

    def on_validation_epoch_start(self) -> None:
        """Validate with the predictor that `evaluate` uses, on a copy of the weights."""
        if self.trainer.world_size > 1:  # running statistics differ between ranks; those of rank 0 are saved
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)
        self._confusion = ConfusionMatrix(len(self.config.classes))
        self._confusion.counts = self._confusion.counts.to(self.device)
        self._predictor = Predictor(self.model, self.config, self.device, self.precision)

    def validation_step(self, sample: Sample, index: int) -> None:
        """Count the pixels of one validation image, on the device."""
        assert self._confusion is not None
        assert self._predictor is not None
        window = self._predictor.window(self.config.evaluation, size_of(sample.image))
        self._confusion.update(sample.labels, window.labels(sample.image))

    def on_validation_epoch_end(self) -> None:
        """Score the whole split, of which every rank has counted its own part."""
        assert self._confusion is not None
        self._confusion.counts = self._sum_over_ranks(self._confusion.counts)
        self.val_scores = self._confusion.scores()
        self._predictor = None
