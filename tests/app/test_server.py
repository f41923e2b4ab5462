"""The server: only the page's own requests are answered, every request gets an answer, one at a time."""

import json
import socket
import threading

import pytest

pytest.importorskip("starlette", reason="starlette is not installed: pip install 'gffnet[explore]'")

from starlette.testclient import TestClient

from gffnet.app.explorer import Explorer
from gffnet.app.server import HOST, build_app, listen
from gffnet.app.session import SessionExpired
from gffnet.app.uploads import MAX_BYTES
from gffnet.errors import UserError

JSON = {"content-type": "application/json"}
FUSE = {"key": "k", "edits": {}}


class Recorder(Explorer):
    """An explorer that answers `fuse` and `save` with the request, or raises `error`."""

    def __init__(self):
        super().__init__([], ["a"], 160)
        self.error = None
        self.working = self.at_once = 0

    def fuse(self, request):
        self.working += 1
        self.at_once = max(self.at_once, self.working)
        threading.Event().wait(0.02)
        self.working -= 1
        if self.error:
            raise self.error
        edits = {level: [edit.scale, edit.value] for level, edit in request.edits.items()}
        return {"key": request.key, "edits": edits, "preview": request.preview}

    def save(self, request):
        return b"PK"


@pytest.fixture(scope="module")
def explorer():
    return Recorder()


@pytest.fixture(scope="module")
def client(explorer):
    with TestClient(build_app(explorer), base_url="http://127.0.0.1:7860") as made:
        yield made


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/", "text/html; charset=utf-8"),
        ("HEAD", "/", "text/html; charset=utf-8"),
        ("GET", "/explorer.css", "text/css; charset=utf-8"),
        ("GET", "/explorer.js", "text/javascript; charset=utf-8"),
        ("GET", "/api/page", "application/json"),
        ("POST", "/api/fuse", "application/json"),
        ("GET", "/nothing", "text/plain; charset=utf-8"),
    ],
)
def test_every_response_has_the_security_headers(client, method, path, kind):
    answer = client.request(method, path, headers=JSON, content=json.dumps(FUSE))
    assert answer.status_code == (404 if path == "/nothing" else 200)
    assert answer.headers["content-type"] == kind
    policy = dict(rule.split(maxsplit=1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("host", ["localhost:8000", "[::1]:8000", "127.0.0.1"])
@pytest.mark.parametrize("origin", [None, "own"])
def test_names_of_this_machine(client, host, origin):
    headers = {**JSON, "host": host} | ({"origin": f"http://{host}"} if origin else {})
    assert client.post("/api/fuse", headers=headers, json=FUSE).status_code == 200


@pytest.mark.parametrize("host", ["example.org", "example.org:7860", "127.0.0.1.example.org", "", "10.0.0.1"])
@pytest.mark.parametrize("path", ["/", "/explorer.js", "/api/page"])
def test_other_names_of_this_machine_are_refused(client, host, path):
    assert client.get(path, headers={"host": host}).status_code == 403


@pytest.mark.parametrize("origin", ["https://example.org", "null", "http://127.0.0.1:9999", "http://localhost:7860"])
@pytest.mark.parametrize("path", ["/api/open", "/api/fuse", "/api/save"])
def test_other_sites_are_refused(client, origin, path):
    assert client.post(path, headers={**JSON, "origin": origin}, json=FUSE).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/..%2fserver.py",
        "/%2e%2e/server.py",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/%00",
        "/%0aexplorer.js",
        "/file=/etc/passwd",
        "/api",
        "/api/",
        "/api/pages",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_else_is_served(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/explorer.js", "/upload", "/api/page"])
def test_the_page_is_only_read(client, method, path):
    assert client.request(method, path, headers=JSON, content="{}").status_code in {404, 405}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/api/open", "/api/fuse", "/api/save"])
def test_requests_are_posted(client, method, path):
    assert client.request(method, path, headers=JSON, content=json.dumps(FUSE)).status_code in {404, 405}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-length": "-1"}, 411),
        ({"content-length": ""}, 411),
        ({"content-length": "10", "transfer-encoding": "chunked"}, 411),
        ({"content-length": str(2 * MAX_BYTES)}, 413),
        ({"content-length": "9" * 12}, 413),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-length": str(MAX_BYTES * 4 // 3 + 2000)}, 200),
    ],
)
def test_bodies(client, headers, status):
    answer = client.post("/api/fuse", headers={**JSON, **headers}, content=json.dumps(FUSE))
    assert answer.status_code == status


def test_a_body_of_unknown_length_is_refused(client):
    assert client.post("/api/fuse", headers=JSON, content=iter([b"{}"])).status_code == 411


@pytest.mark.parametrize(
    "body",
    [
        "", "{", "null", "3", '"key"', "[]", "{}", '{"key": "k"}', '{"key": null, "edits": {}}',
        '{"key": ["a"], "edits": {}}',
        *[
            f'{{"key": "k", "edits": {edits}}}'
            for edits in ("null", "3", '"text"', "[1]", '{"1": null}', '{"one": {"scale": 1}}', '{"1": {"more": 1}}',
                          '{"1": {"scale": "2"}}', '{"1": {"scale": true}}', f'{{"{"9" * 5000}": {{"scale": 1}}}}')
        ],
    ],
)  # fmt: skip
def test_requests_that_are_malformed(client, body):
    answer = client.post("/api/fuse", headers=JSON, content=body)
    assert answer.status_code == 200
    assert list(answer.json()) == ["error"]
    assert "\n" not in answer.json()["error"]
    assert len(answer.json()["error"]) < 300


@pytest.mark.parametrize("opacity", ['"1"', "true", "-0.1", "1.1", "NaN", "Infinity", "null", "1" + "0" * 400, "[0]"])
def test_an_opacity_is_a_number_from_0_to_1(client, opacity):
    answer = client.post("/api/save", headers=JSON, content=f'{{"key": "k", "edits": {{}}, "opacity": {opacity}}}')
    assert answer.json()["error"].startswith("opacity: Input should be")


@pytest.mark.parametrize("file", ['"R0l"', '"R0lG\\n!"', '"Grüße"', "3", '["R0lG"]', '{"path": "/etc/passwd"}'])
def test_a_file_is_base64(client, file):
    answer = client.post("/api/open", headers=JSON, content=f'{{"model": 0, "file": {file}}}'.encode())
    assert answer.json()["error"].startswith("file: ")


def test_edits_are_read(client):
    edits = {"1": {"scale": 0.5, "value": None}, "4": {"scale": 1, "value": 0}, "2": {"value": 1}}
    answer = client.post("/api/fuse", json={"key": "k", "edits": edits, "preview": True, "name": "../../etc/passwd"})
    assert answer.json() == {"key": "k", "edits": {"1": [0.5, None], "4": [1, 0], "2": [1, 1]}, "preview": True}


def test_an_archive_is_sent_as_it_is(client):
    answer = client.post("/api/save", json={**FUSE, "opacity": 1})
    assert (answer.headers["content-type"], answer.content) == ("application/zip", b"PK")


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (SessionExpired(), {"expired": True}),
        (UserError("gate level 9 does not exist."), {"error": "gate level 9 does not exist."}),
        (RuntimeError("9 bytes\nmore"), {"error": "the network cannot process this image: 9 bytes"}),
        (MemoryError(), {"error": "the network cannot process this image: out of memory"}),
    ],
)
def test_failures_are_one_line(client, explorer, monkeypatch, error, answer):
    monkeypatch.setattr(explorer, "error", error)
    assert client.post("/api/fuse", json=FUSE).json() == answer


def test_one_request_is_worked_on_at_a_time(client, explorer):
    answers = []

    def ask():
        answers.append(client.post("/api/fuse", json=FUSE).status_code)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 6
    assert explorer.at_once == 1


def test_the_socket_is_of_this_machine_alone():
    with listen(0) as listener:
        address, port = listener.getsockname()
        assert address == HOST == "127.0.0.1"
        assert port > 0
        with pytest.raises(UserError, match=rf"--port {port} of 127\.0\.0\.1 cannot be used: .* 0 takes any"):
            listen(port)


def test_without_a_port_any_is_taken_where_the_usual_one_is_not_free(monkeypatch):
    with socket.create_server((HOST, 0)) as taken:
        monkeypatch.setattr("gffnet.app.server.PORT", taken.getsockname()[1])
        with listen(None) as listener:
            assert listener.getsockname()[1] != taken.getsockname()[1]
