"""What Lightning trains: the network, the auxiliary head, their losses, SGD with the poly schedule."""

from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from gffnet.data.stream import Batch
from gffnet.inference.model_folder import ModelConfig
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.metrics.confusion import ConfusionMatrix, Scores
from gffnet.models.algebra.resize import size_of
from gffnet.models.network import SceneParser
from gffnet.recipe import TrainingRecipe
from gffnet.training.auxiliary import AuxiliaryHead
from gffnet.training.losses import parsing_loss
from gffnet.training.schedule import parameter_groups, poly


class ParsingTask(LightningModule):
    """Cross-entropy on the network's logits plus 0.4 times that of the auxiliary head on `X_3`."""

    def __init__(
        self, network: SceneParser, config: ModelConfig, training: TrainingRecipe, precision: Precision, seed: int
    ) -> None:
        """`precision`: that of validation; training's own is Lightning's affair. `seed`: of the run."""
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.auxiliary = AuxiliaryHead(network.backbone.widths[2], len(config.classes))
        self.config = config
        self.training_recipe = training
        self.inference_precision = precision
        self.seed = seed
        self.val_scores: Scores | None = None
        self._matrix: ConfusionMatrix | None = None
        self._predictor: Predictor | None = None

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The main and the auxiliary loss of a batch: images (B, C, H, W), labels (B, H, W)."""
        network, size = self.network, size_of(images)
        pyramid, context = network.features(images)
        logits = network.decode(pyramid, context, size).logits
        return parsing_loss(logits, labels), parsing_loss(self.auxiliary(pyramid[2], size), labels)

    def training_step(self, batch: Batch, index: int) -> dict[str, Tensor]:
        """One iteration."""
        # Dropout's random numbers depend on the iteration alone, so that a resumed run draws what an unbroken one does.
        torch.manual_seed((self.seed * 1_000_003 + self.global_step) * 4099 + self.global_rank)
        images = batch.image.contiguous(memory_format=torch.channels_last)
        main, auxiliary = self.losses(images, batch.labels)
        loss = main + self.training_recipe.auxiliary_weight * auxiliary
        return {"loss": loss, "main": main.detach(), "auxiliary": auxiliary.detach()}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser, its rate scaled by the poly schedule after every iteration."""
        recipe = self.training_recipe
        new = [module for name, module in self.network.named_children() if name != "backbone"]
        groups = parameter_groups(
            self.network.backbone, [*new, self.auxiliary], recipe.learning_rate, recipe.new_layers_multiplier
        )
        optimizer: torch.optim.Optimizer
        if recipe.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        else:
            optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda iteration: poly(iteration, recipe.iterations, recipe.power)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_validation_epoch_start(self) -> None:
        """Validate with the very predictor that `evaluate` uses, on a copy of the weights."""
        self._matrix = ConfusionMatrix(len(self.config.classes))
        self._predictor = Predictor(self.network, self.config, self.device, self.inference_precision)

    def validation_step(self, sample: Any, index: int) -> None:
        """Count the pixels of one validation image."""
        assert self._matrix is not None
        assert self._predictor is not None
        predicted = self._predictor.predict(sample.image.permute(1, 2, 0).cpu().numpy())
        self._matrix.update(sample.labels.cpu(), torch.from_numpy(predicted))

    def on_validation_epoch_end(self) -> None:
        """Scores over the whole split."""
        assert self._matrix is not None
        self.val_scores = self._matrix.scores()
        self._predictor = None
        self.log("miou", self.val_scores.miou, prog_bar=True)
