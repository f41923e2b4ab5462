"""What Lightning trains: the network with its auxiliary head, their losses, the optimiser and its schedule.

One step of Lightning's loop is one iteration of the recipe: each rank takes its part of the batch in micro-batches of
`device_batch` images, accumulates their gradients and steps once. The loss of a micro-batch is divided by the weight of
the *whole* batch (labelled pixels over all micro-batches and ranks), so that with frozen normalisation neither
`device_batch` nor the number of devices changes the result.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from jaxtyping import Float
from lightning import LightningModule
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from gffnet.data.dataset import Sample
from gffnet.data.loader import Batch
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.metrics.confusion import ClassScores, ConfusionMatrix
from gffnet.models.gffnet import SegmentationModel
from gffnet.models.layers import conv_block
from gffnet.models.model_io import ModelConfig
from gffnet.models.ops import resize, size_of
from gffnet.recipe import TrainingRecipe
from gffnet.training.callbacks import DivergenceCheck
from gffnet.training.losses import make_loss
from gffnet.training.optim import ExponentialMovingAverage, Schedule, make_optimizer


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

    Subclass it to change what is trained: override `losses` (main and auxiliary loss of a micro-batch),
    `configure_optimizers` or `training_step`, or assign another `loss`, a module with the interface of
    `SegmentationLoss`.
    """

    def __init__(
        self,
        network: SegmentationModel,
        config: ModelConfig,
        training: TrainingRecipe,
        precision: Precision,
        seed: int,
        class_weights: Tensor | None = None,
    ) -> None:
        """Initialise.

        Args:
            network: changed in place.
            config: of the model that is saved.
            training: the recipe.
            precision: of training and validation.
            seed: of the run.
            class_weights: of the loss.
        """
        super().__init__()
        self.automatic_optimization = False
        self.network = network.to(memory_format=torch.channels_last)
        self.auxiliary = AuxiliaryHead(network.backbone.channels[2], len(config.classes), dropout=config.model.dropout)
        self.loss = make_loss(training.loss, class_weights)
        self.average = None if training.ema is None else ExponentialMovingAverage(self.network, training.ema)
        self.config = config
        self.training_recipe = training
        self.precision = precision
        self.seed = seed
        self.divergence = DivergenceCheck(len(config.classes))
        self.val_scores: ClassScores | None = None
        self._confusion: ConfusionMatrix | None = None
        self._predictor: Predictor | None = None
        self._gradient_norm: Tensor | None = None
        self._losses = torch.compile(self.losses) if training.compile else self.losses
        if training.freeze_norms:
            for norm in batch_norms(self.network, self.auxiliary):
                norm.requires_grad_(False)

    @property
    def model(self) -> SegmentationModel:
        """The network that is validated and saved: the moving average, if the recipe has one."""
        return self.network if self.average is None else cast(SegmentationModel, self.average.network)

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and labels (B, H, W) → main and auxiliary loss, summed as by `SegmentationLoss`."""
        size = size_of(images)
        maps, context = self.network.features(images)
        logits = self.network.decode(self.network.reduce(maps, context, size))
        return self.loss(logits, labels), self.loss(self.auxiliary(maps[2], size), labels)

    def training_step(self, batch: Batch, index: int) -> dict[str, Tensor]:
        """Train for one iteration; returns the losses of the whole batch."""
        optimizer: Any = self.optimizers()
        schedule: Any = self.lr_schedulers()
        weight = self._sum_over_ranks(self.loss.weight(batch.labels)).clamp(min=1e-6)  # no labelled pixel: no loss
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
        schedule.step()
        if self.average is not None:
            self.average.update(self.network)
        norm = {} if self._gradient_norm is None else {"gradient_norm": self._gradient_norm}
        return {"main": losses[0], "auxiliary": losses[1], **norm}

    def _accumulate(self, images: Tensor, labels: Tensor, weight: Tensor, number: int) -> Tensor:
        """Accumulate the gradients of a micro-batch; returns its losses."""
        # The random numbers of dropout depend only on iteration, rank and micro-batch, so that a resumed run repeats
        # those of an uninterrupted one.
        torch.manual_seed(
            (((self.seed * 1_000_003 + self.global_step) * 4099 + self.global_rank) * 257 + number) % 2**63
        )
        dtype = self.precision.dtype
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
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
            self._gradient_norm = nn.utils.clip_grad_norm_(parameters, limit)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the model's configuration beside its weights."""
        checkpoint["config"] = self.config.to_text()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and its schedule, which steps after every iteration."""
        recipe = self.training_recipe
        optimizer = make_optimizer(self.network, self.auxiliary, recipe)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": Schedule(optimizer, recipe), "interval": "step"}}

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
