"""`gffnet explore` as it is called; what it serves is tested in tests/app/test_page.py."""

import socket
import threading
from pathlib import Path

import pytest

from gffnet.app import server
from gffnet.cli import explore
from gffnet.cli.main import main
from gffnet.models import model_io
from tests.app import gated

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(gated.folder(tmp_path / "model"))


@pytest.fixture
def unserved(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Addresses that would be served, were it not for this test."""
    addresses: list[tuple[str, int]] = []
    monkeypatch.setattr(server, "serve", lambda app, listener: addresses.append(listener.getsockname()))
    return addresses


def test_the_address_is_printed(model: str, unserved: list[tuple[str, int]], capsys: Captured) -> None:
    assert main(["explore", "--model", model, "--port", "0"]) == 0
    host, port = unserved[0]
    assert host == "127.0.0.1"
    assert capsys.readouterr().out == f"gffnet explore: http://127.0.0.1:{port}/\n"


@pytest.mark.parametrize("found", [True, False])
def test_the_page_is_opened(found: bool, model: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """By a browser that returns only when the page was served, as those in a terminal do."""
    asked: list[str] = []
    served, done = threading.Event(), threading.Event()

    def browser(address: str) -> bool:
        assert served.wait(60)
        asked.append(address)
        return found

    def opens(address: str) -> None:
        open_page(address)
        done.set()

    def serve(*_: object) -> None:
        served.set()
        assert done.wait(60)

    open_page = explore._open
    monkeypatch.setattr("webbrowser.open", browser)
    monkeypatch.setattr(explore, "_open", opens)
    monkeypatch.setattr(server, "serve", serve)
    assert main(["explore", "--model", model, "--port", "0", "--open"]) == 0
    out, err = capsys.readouterr()
    assert [f"gffnet explore: {address}\n" for address in asked] == [out]
    assert ("No browser was found" in err) is not found


def test_an_interrupt_ends_it(model: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "serve", interrupted)
    assert main(["explore", "--model", model, "--port", "0"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "stopped"


@pytest.mark.parametrize(
    ("missing", "said"), [({"uvicorn"}, "uvicorn"), ({"starlette", "uvicorn"}, "starlette and uvicorn")]
)
def test_missing_packages(missing: set[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(explore, "find_spec", lambda name: None if name in missing else object())
    assert main(["explore", "--model", "nowhere"]) == 2
    expected = f"error: gffnet explore needs {said}: pip install 'gffnet[explore]'.\n"
    assert capsys.readouterr() == ("", expected)


def test_a_port_that_another_program_has(model: str, unserved: list[tuple[str, int]], capsys: Captured) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["explore", "--model", model, "--port", str(port)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: --port {port} of 127.0.0.1 cannot be used: Address already in use.")
    assert unserved == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "nowhere"], "nowhere does not exist"),
        (["--model", "nowhere", "--port", "65536"], "--port '65536' must be a whole number from 0 to 65535"),
        (["--model", "nowhere", "--port", "-1"], "port"),
        (["--model", "nowhere", "--max-side", "10"], "--max-side '10' must be a whole number from 64 to 4096"),
        (["--model", "nowhere", "--max-side", "big"], "--max-side 'big' must be a whole number from 64 to 4096"),
        (["--modle", "m"], "Did you mean '--model'?"),
        (["--share"], "unrecognized arguments: --share"),
    ],
)
def test_mistakes(words: list[str], said: str, capsys: Captured) -> None:
    assert main(["explore", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, said in err, err.count("\n")) == ("", True, 1)


def test_no_model_where_none_ships(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_io, "SHIPPED", tmp_path / "none")
    assert main(["explore"]) == 2
    assert "error: no model ships" in capsys.readouterr().err


def test_a_model_that_is_none_among_several(model: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["explore", "--model", model, str(tmp_path / "empty"), "--port", "0"]) == 2
    assert f"model {tmp_path}/empty holds no config.json" in capsys.readouterr().err


def test_models_are_called_by_the_end_of_their_path() -> None:
    assert explore._names(["/runs/camvid/gff", "runs/streets/gff", "psp"]) == ["camvid/gff", "streets/gff", "psp"]
    assert explore._names(["a/camvid/gff", "b/camvid/gff"]) == ["a/camvid/gff", "b/camvid/gff"]
