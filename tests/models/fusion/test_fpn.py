from gffnet.models.fusion import FPN
from tests.models import naive
from tests.models.fusion.contract import FusionContract


class TestFPN(FusionContract):
    kind = FPN
    takes_context = True

    def equation(self, fusion, x, g):
        """Eq. (4)."""

        def fused(level):
            if level == len(x) - 1:
                return x[level]
            return x[level] + naive.resize(fused(level + 1), x[level].shape[-2:])

        return [fused(level) for level in range(len(x))]
