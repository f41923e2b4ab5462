from gffnet.models.fusion import Addition
from tests.models import naive
from tests.models.fusion.contract import FusionContract


class TestAddition(FusionContract):
    kind = Addition

    def equation(self, fusion, x, g):
        """Eq. (3)."""
        return [sum(naive.resize(other, level.shape[-2:]) for other in x) for level in x]
