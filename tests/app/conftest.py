"""What tests of the explorer share."""

import pytest

from gffnet.app.session import Session, open_session
from tests.app import gated


@pytest.fixture(scope="module")
def session() -> Session:
    """A session of the shared network; tests leave it as it is."""
    return open_session(gated.predictor(), gated.image())
