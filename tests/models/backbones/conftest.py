import socket

import pytest


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test of a backbone may reach a network, and none may depend on there being none."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("tests have no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
