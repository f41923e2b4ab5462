from gffnet.models.fusion import Concat
from tests.models import naive
from tests.models.fusion.contract import FusionContract


class TestConcat(FusionContract):
    kind = Concat

    def equation(self, fusion, x, g):
        """Eq. (2), H_l a 1x1 block."""
        return [
            naive.block(project, naive.resized_cat(x, level.shape[-2:]))
            for project, level in zip(fusion.projections, x, strict=True)
        ]
