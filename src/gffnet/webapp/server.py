"""The server of the page: on this machine only, and only what the page needs.

Whatever gradio offers beside that, such as serving files by their path, fetching other addresses, or taking uploads
into a folder, is answered with 404 before it gets there. A browser is told, by a content security policy, to ask no
other machine for anything.
"""

import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gffnet.errors import UserError
from gffnet.webapp.uploads import MOST_BYTES

HOST = "127.0.0.1"
PORT = 7860

_ALLOWED = re.compile(
    r"GET /(|config/?|theme\.css|favicon\.ico|manifest\.json|(assets|static)/[\w./-]+)"
    r"|POST /gradio_api/component_server/?"
)
"""What the page asks for when it is loaded and used."""

_HOSTS = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?")
"""Names of this machine; another site's name that was made to lead here is none."""

_MOST_BODY = MOST_BYTES * 4 // 3 + 4096
"""An upload in base64, and what is around it."""

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]


class Guard:
    """An ASGI application that lets through to another only what the page asks, from this machine's own pages."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        """`app`: what it stands before."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            status = _refusal(scope)
            if status is None:
                await self._app(scope, receive, _with_headers(send))
            else:
                await _refuse(send, status)
        else:
            await send({"type": "websocket.close"})


def _refusal(scope: Scope) -> int | None:
    """The status that a request is refused with, `None` for one that is not."""
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    origin = headers.get(b"origin")
    if not _HOSTS.fullmatch(headers.get(b"host", "")) or (origin and origin != f"http://{headers[b'host']}"):
        return 403
    if not _ALLOWED.fullmatch(f"{scope['method'].replace('HEAD', 'GET')} {scope['path']}") or ".." in scope["path"]:
        return 404
    if scope["method"] == "POST":
        length = headers.get(b"content-length", "")
        if not re.fullmatch(r"\d{1,12}", length):
            return 411
        if int(length) > _MOST_BODY:
            return 413
        if not headers.get(b"content-type", "").startswith("application/json"):
            return 415  # what another site's form could send without asking
    return None


async def _refuse(send: Send, status: int) -> None:
    headers = [*_HEADERS, (b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"refused\n"})


def _with_headers(send: Send) -> Send:
    """`send`, which adds our headers to a response."""

    async def sending(message: Scope) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await send(message)

    return sending


def listen(port: int | None) -> socket.socket:
    """A socket that listens on `port` of this machine alone; on 7860, or any that is free, if it is `None`; 0: any.

    Raises:
        UserError: another program has the port, or it may not be had.
    """
    for candidate in (PORT, 0) if port is None else (port,):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, candidate))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            cause = error.strerror or str(error)
    raise UserError(f"--port {port} of {HOST} cannot be used: {cause}. Choose another; 0 takes any that is free.")


def serve(app: Any, listener: socket.socket) -> None:
    """Answer requests until the process is interrupted."""
    import uvicorn

    settings = uvicorn.Config(
        Guard(app), log_level="warning", access_log=False, timeout_graceful_shutdown=1, server_header=False
    )
    server = uvicorn.Server(settings)
    server.run(sockets=[listener])
