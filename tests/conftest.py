"""What every test runs under: shapes in signatures are checked, one thread, repeatable random examples.

The hook must be installed before `gffnet` is first imported, so nothing here imports it.
"""

import jaxtyping

jaxtyping.install_import_hook("gffnet", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import register_random, settings  # noqa: E402

pytest.register_assert_rewrite("tests.models")
torch.set_num_threads(1)

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("search", deadline=None, max_examples=500)  # pytest --hypothesis-profile search
settings.load_profile("repeatable")


class TorchRandom:
    """torch's random numbers as hypothesis wants them, so that an example that fails fails again."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


torch_random = TorchRandom()
register_random(torch_random)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test starts from the same random numbers, alone or in a group."""
    torch.manual_seed(0)
