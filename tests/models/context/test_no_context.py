from gffnet.models.context import NoContext
from tests.models import naive
from tests.models.context.contract import ContextContract


class TestNoContext(ContextContract):
    kind = NoContext

    def equation(self, context, x):
        return naive.block(context.project, x)
