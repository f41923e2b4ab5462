"""A hub on this machine: the few of its endpoints that fetching and uploading a model need, over HTTP."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from gffnet.models import weights as backbone_hub


class FakeHub:
    """Its models, and what was asked of it."""

    def __init__(self) -> None:
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        """By OWNER/NAME: commits, oldest first, each with all of its files."""
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.status: int | None = None
        """With which it answers everything, if not None."""
        self.code = ""
        """What it says of that in its header."""
        self.endpoint = ""

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        """Add a commit; returns its hash."""
        before = self.commits.setdefault(repository, [])
        sha = hashlib.sha1(f"{repository} {len(before)}".encode()).hexdigest()
        before.append((sha, files))
        return sha

    def files(self, repository: str, revision: str = "main") -> tuple[str, dict[str, bytes]] | None:
        commits = self.commits.get(repository, [])
        if revision == "main":
            return commits[-1] if commits else ("0" * 40, {})
        return next((commit for commit in commits if commit[0] == revision), None)


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.hub.status is not None:
            self.send(self.hub.status, {"error": "out of order"}, {"X-Error-Code": self.hub.code})
        elif self.command == "POST":
            self.post(path)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            self.info(match[1], match[2])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/.*)?", path):
            self.tree(match[1], match[2])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            self.info(match[1], "main")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.file(match[1], match[2], match[3])
        else:
            self.send(404, {"error": f"no such page {path}"})

    def found(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A commit; answers, if there is none."""
        if repository not in self.hub.commits:
            self.send(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        commit = self.hub.files(repository, revision)
        if commit is None:
            self.send(404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
        return commit

    def info(self, repository: str, revision: str) -> None:
        if commit := self.found(repository, revision):
            siblings = [{"rfilename": name} for name in commit[1]]
            self.send(200, {"_id": "1", "id": repository, "sha": commit[0], "siblings": siblings})

    def tree(self, repository: str, revision: str) -> None:
        if commit := self.found(repository, revision):
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in commit[1].items()
            ]
            self.send(200, entries)

    def file(self, repository: str, revision: str, name: str) -> None:
        if (commit := self.found(repository, revision)) is None:
            return
        if name not in commit[1]:
            self.send(404, {"error": "no such file"}, {"X-Error-Code": "EntryNotFound"})
            return
        data = commit[1][name]
        etag = f'"{hashlib.sha1(data).hexdigest()}"'
        self.send(200, data, {"ETag": etag, "X-Repo-Commit": commit[0]})

    def post(self, path: str) -> None:
        if path == "/api/repos/create":
            asked = json.loads(self.body)
            name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
            self.hub.commits.setdefault(name, [])
            self.hub.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.send(200, {"url": f"{self.hub.endpoint}/{name}", "name": name})
        elif path == "/api/validate-yaml":
            self.send(200, {"errors": [], "warnings": []})
        elif re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/main", path):
            names = [file["path"] for file in json.loads(self.body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self.send(200, {"files": files})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            self.committed(match[1])
        else:
            self.send(404, {"error": f"no such page {path}"})

    def committed(self, repository: str) -> None:
        present = self.hub.files(repository)
        assert present is not None
        files = dict(present[1])
        for line in self.body.decode().splitlines():
            operation = json.loads(line)
            if operation["key"] == "file":
                files[operation["value"]["path"]] = base64.b64decode(operation["value"]["content"])
            elif operation["key"] == "deletedFile":
                del files[operation["value"]["path"]]
        sha = self.hub.commit(repository, files)
        url = f"{self.hub.endpoint}/{repository}/commit/{sha}"
        self.send(200, {"success": True, "commitOid": sha, "commitUrl": url})

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def running(hub: FakeHub) -> Iterator[FakeHub]:
    """The hub, answering at its endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfThisHub", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_to(endpoint: str, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the hub's client use an endpoint and a cache, as HF_ENDPOINT and HF_HUB_CACHE would."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", cache)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(backbone_hub.urllib.request, "getproxies", dict)
