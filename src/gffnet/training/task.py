"""What training computes for a part of a batch, for the task that trains and for the rehearsal that is counted."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Integer, Num
from lightning import LightningModule
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from gffnet.data.loader import Batch
from gffnet.inference.model_io import ModelConfig
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.metrics.confusion import ClassScores, ConfusionMatrix
from gffnet.models.gffnet import SegmentationModel
from gffnet.models.layers import conv_block
from gffnet.models.ops import resize, size_of
from gffnet.recipe import TrainingRecipe
from gffnet.training.callbacks import LossWatch
from gffnet.training.losses import SegmentationLoss
from gffnet.training.optim import ExponentialMovingAverage, learning_rate_factor, make_optimizer


def both_losses(
    network: SegmentationModel,
    auxiliary: nn.Module,
    loss: nn.Module,
    images: Num[Tensor, "b c h w"],
    labels: Integer[Tensor, "b h w"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Main and auxiliary loss of images and labels, summed as `SegmentationLoss` does.

    Args:
        network: whose logits make the main loss.
        auxiliary: head on `X_3`, whose logits make the other.
        loss: a `SegmentationLoss`.
        images: uint8, or float in 0..255.
        labels: train ids, 255 where a pixel is ignored.
    """
    size = size_of(images)
    maps, context = network.features(images)
    logits = network.decode(network.reduce(maps, context, size))
    return loss(logits, labels), loss(auxiliary(maps[2], size), labels)


def lower_precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Where the forward pass runs in `dtype`: autocast, which does nothing for float32."""
    lower: AbstractContextManager[None] = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
    return lower


def batch_norms(*parts: nn.Module) -> list[nn.Module]:
    """All batch normalisation in some modules, of every kind that torch and timm have."""
    return [m for part in parts for m in part.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


# The auxiliary head: deep supervision of the backbone's third stage, in training only.


class AuxiliaryHead(nn.Module):
    """3x3 convolution to 256 channels, dropout, classifier, on `X_3` (ResNet C4), resized to the image's size.

    The paper weights its loss with 0.4. It is kept in checkpoints, never in an exported model or in a cost table.
    """

    def __init__(self, width: int, classes: int, channels: int = 256, dropout: float = 0.1) -> None:
        """`width`: channels of `X_3`."""
        super().__init__()
        self.layers = nn.Sequential(
            conv_block(width, channels, 3), nn.Dropout2d(dropout), nn.Conv2d(channels, classes, 1)
        )

    def forward(self, x: Float[Tensor, "b c _h _w"], size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        """`X_3` → logits of `size`."""
        return resize(self.layers(x), size)


# What Lightning trains: the network, the auxiliary head, their losses, the optimiser with its schedule.
#
# One step of Lightning's loop is one iteration of the recipe: a process gets its share of the batch, takes it in parts of
# `device_batch` images, adds up their gradients and steps once. The loss of a part is divided by what the *whole* batch
# counts (labelled pixels, over all parts and processes), so that with frozen normalisation neither the parts nor the
# number of processes change what is learned.


class SegmentationTask(LightningModule):
    """Cross-entropy on the network's logits plus 0.4 times that of the auxiliary head on `X_3`."""

    def __init__(
        self,
        network: SegmentationModel,
        config: ModelConfig,
        training: TrainingRecipe,
        precision: Precision,
        seed: int,
        class_weights: Tensor | None = None,
    ) -> None:
        """`precision`: of training and validation; `seed`: of the run; `class_weights`: of the loss."""
        super().__init__()
        self.automatic_optimization = False
        self.network = network.to(memory_format=torch.channels_last)
        self.auxiliary = AuxiliaryHead(network.backbone.channels[2], len(config.classes), dropout=config.model.dropout)
        self.loss = SegmentationLoss(training.loss, class_weights)
        self.average = None if training.ema is None else ExponentialMovingAverage(self.network, training.ema)
        self.config = config
        self.training_recipe = training
        self.precision = precision
        self.seed = seed
        self.watch = LossWatch(len(config.classes))
        self.val_scores: ClassScores | None = None
        self._matrix: ConfusionMatrix | None = None
        self._predictor: Predictor | None = None
        self._gradient_norm: Tensor | None = None
        self._losses = torch.compile(self.losses) if training.compile else self.losses
        if training.freeze_norms:
            for norm in batch_norms(self.network, self.auxiliary):
                norm.requires_grad_(False)

    @property
    def model(self) -> SegmentationModel:
        """The network that is validated and kept: the average of the weights, if the recipe has one."""
        if self.average is None:
            return self.network
        averaged: SegmentationModel = self.average.network
        return averaged

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and labels (B, H, W) → main and auxiliary loss, summed as `SegmentationLoss` does."""
        return both_losses(self.network, self.auxiliary, self.loss, images, labels)

    def training_step(self, batch: Batch, index: int) -> dict[str, Tensor]:
        """One iteration; returns the losses of the whole batch."""
        optimizer: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        weight = self._over_processes(self.loss.weight(batch.labels)).clamp(min=1e-6)  # no labelled pixel: no loss
        sums = torch.zeros(2, device=self.device)
        size = self.training_recipe.device_batch or len(batch.labels)
        parts = list(zip(batch.image.split(size), batch.labels.split(size), strict=True))
        for number, (images, labels) in enumerate(parts):
            with self._gradients_meet(number == len(parts) - 1):
                sums += self._part(images, labels, weight, number)
        losses = self._over_processes(sums) / weight
        self.watch.see(self.global_step, losses, batch.names)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if self.average is not None:
            self.average.update(self.network)
        norm = {} if self._gradient_norm is None else {"gradient_norm": self._gradient_norm}
        return {"main": losses[0], "auxiliary": losses[1], **norm}

    def _part(self, images: Tensor, labels: Tensor, weight: Tensor, number: int) -> Tensor:
        """Add the gradients of a part of the batch to those that are there; returns its losses."""
        # Dropout's random numbers depend on the iteration, the process and the part alone, so that a resumed run draws
        # what an unbroken one does.
        torch.manual_seed(
            (((self.seed * 1_000_003 + self.global_step) * 4099 + self.global_rank) * 257 + number) % 2**63
        )
        with lower_precision(self.device, self.precision.dtype):
            main, auxiliary = self._losses(images.contiguous(memory_format=torch.channels_last), labels)
        loss = (main + self.training_recipe.auxiliary_weight * auxiliary) / weight
        self.manual_backward(loss * self.trainer.world_size)  # gradients of processes are averaged
        return torch.stack([main, auxiliary]).detach()

    def _gradients_meet(self, last: bool) -> AbstractContextManager[None]:
        """Where the gradients of the processes are averaged: after the last part only."""
        strategy = self.trainer.strategy
        if last or not isinstance(strategy, ParallelStrategy):
            return nullcontext()
        kept_apart: AbstractContextManager[None] = strategy.block_backward_sync()
        return kept_apart

    def _over_processes(self, value: Tensor) -> Tensor:
        """The sum of a value over all processes."""
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(value)
        return value

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients, once they are whole and in their own scale."""
        limit = self.training_recipe.clip_gradients
        if limit is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self._gradient_norm = nn.utils.clip_grad_norm_(parameters, limit)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the network is, beside its weights."""
        checkpoint["config"] = self.config.to_text()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser, its rate scaled by the schedule after every iteration."""
        recipe = self.training_recipe
        optimizer = make_optimizer(self.network, self.auxiliary, recipe)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda iteration: learning_rate_factor(iteration, recipe.iterations, recipe.power, recipe.warm_up),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Keep frozen normalisation from following the batches."""
        if self.training_recipe.freeze_norms:
            for norm in batch_norms(self.network, self.auxiliary):
                norm.eval()

    def on_validation_epoch_start(self) -> None:
        """Validate with the very predictor that `evaluate` uses, on a copy of the weights."""
        if self.trainer.world_size > 1:  # running statistics are each process's own; those of the first are kept
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)
        self._matrix = ConfusionMatrix(len(self.config.classes))
        self._predictor = Predictor(self.model, self.config, self.device, self.precision)

    def validation_step(self, sample: Any, index: int) -> None:
        """Count the pixels of one validation image."""
        assert self._matrix is not None
        assert self._predictor is not None
        image = sample.image.permute(1, 2, 0).cpu().numpy()
        predicted = self._predictor.predict(image, self.config.evaluation)
        self._matrix.update(sample.labels.cpu(), torch.from_numpy(predicted))

    def on_validation_epoch_end(self) -> None:
        """Scores over the whole split, of which every process has seen its own part."""
        assert self._matrix is not None
        self._matrix.counts = self._over_processes(self._matrix.counts.to(self.device)).cpu()
        self.val_scores = self._matrix.scores()
        self._predictor = None
