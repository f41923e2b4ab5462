"""What stands before the page: only the page's own requests, from this machine, get through."""

import socket

import pytest

from gffnet.errors import UserError
from gffnet.webapp.server import HOST, Guard, listen
from gffnet.webapp.uploads import MOST_BYTES

JSON = {"content-type": "application/json", "content-length": "10"}
ASK = "/gradio_api/component_server/"


def answer(method="GET", path="/", headers=None, kind="http"):
    """Status and headers of the answer to a request; 200 if it gets through."""
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"through"})

    async def send(message):
        sent.append(message)

    named = {"host": "127.0.0.1:7860", **(headers or {})}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in named.items() if value is not None]
    scope = {"type": kind, "method": method, "path": path, "headers": raw}
    with pytest.raises(StopIteration):  # nothing here waits for anything, so one step is all
        Guard(app)(scope, None, send).send(None)
    if kind != "http":
        return sent
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}),
        ("HEAD", "/", {}),
        ("GET", "/theme.css", {}),
        ("GET", "/assets/index-DphvyggB.js", {}),
        ("GET", "/static/fonts/ui/a.woff2", {}),
        ("POST", ASK, JSON),
        ("POST", ASK, {**JSON, "origin": "http://127.0.0.1:7860"}),
        ("GET", "/", {"host": "localhost:8000"}),
        ("GET", "/", {"host": "[::1]:8000"}),
    ],
)
def test_what_gets_through(method, path, headers):
    status, answered = answer(method, path, headers)
    assert status == 200
    assert b"connect-src 'self'" in answered[b"content-security-policy"]
    assert answered[b"content-type"] == b"text/html"


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=https://example.org/",
        "/gradio_api/file=https://example.org/",
        "/assets/../../../../etc/passwd",
        "/assets//etc/passwd/../x",
        "/static/..",
        "/svelte/../x",
        "/gradio_api/upload_progress",
        "/gradio_api/info",
        "/gradio_api/run/predict",
        "/runs",
        "/monitoring",
        "/docs",
        "/login",
        "//etc/passwd",
        "/\nassets/x",
    ],
)
def test_what_does_not(path):
    assert answer("GET", path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/gradio_api/upload", "/gradio_api/queue/join", "/login"])
def test_other_methods_do_not(method, path):
    assert answer(method, path, JSON)[0] == 404


@pytest.mark.parametrize("host", ["example.org", "example.org:7860", "127.0.0.1.example.org", "", None, "10.0.0.1"])
def test_other_names_of_this_machine_do_not(host):
    assert answer(headers={"host": host})[0] == 403


@pytest.mark.parametrize("origin", ["https://example.org", "null", "http://127.0.0.1:9999", "http://localhost:7860"])
def test_other_sites_do_not(origin):
    assert answer("POST", ASK, {**JSON, "origin": origin})[0] == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 411),
        ({**JSON, "content-length": "-1"}, 411),
        ({**JSON, "content-length": str(2 * MOST_BYTES)}, 413),
        ({**JSON, "content-length": "9" * 12}, 413),
        ({**JSON, "content-type": "text/plain"}, 415),
        ({**JSON, "content-type": "multipart/form-data; boundary=x"}, 415),
    ],
)
def test_bodies_that_do_not(headers, status):
    assert answer("POST", ASK, headers)[0] == status


def test_an_upload_of_the_greatest_size_gets_through():
    assert answer("POST", ASK, {**JSON, "content-length": str(MOST_BYTES * 4 // 3 + 2000)})[0] == 200


def test_no_web_sockets():
    assert answer(kind="websocket") == [{"type": "websocket.close"}]


def test_the_socket_is_of_this_machine_alone():
    with listen(0) as listener:
        address, port = listener.getsockname()
        assert (address, port > 0) == (HOST, True) == ("127.0.0.1", True)
        with pytest.raises(UserError, match=rf"--port {port} of 127\.0\.0\.1 cannot be used: .* 0 takes any"):
            listen(port)


def test_without_a_port_another_is_taken_where_the_usual_one_is_not_free(monkeypatch):
    with socket.create_server((HOST, 0)) as taken:
        monkeypatch.setattr("gffnet.webapp.server.PORT", taken.getsockname()[1])
        with listen(None) as listener:
            assert listener.getsockname()[1] != taken.getsockname()[1]
