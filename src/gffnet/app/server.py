"""The web server of the explorer: the page, its endpoints, and the requests that are refused.

It listens on 127.0.0.1 and answers its own page only. The content security policy keeps the browser from loading or
sending anything elsewhere.
"""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gffnet.app.explorer import Explorer, FuseRequest, OpenRequest, SaveRequest
from gffnet.app.session import SessionExpired
from gffnet.app.uploads import MAX_BYTES
from gffnet.errors import UserError, first_line

HOST = "127.0.0.1"
PORT = 7860

_LOCAL_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?")
"""Accepted Host headers. Another site's name that resolves to 127.0.0.1 (DNS rebinding) is not among them."""

_MAX_BODY = MAX_BYTES * 4 // 3 + 4096
"""An upload in base64 and the JSON around it."""

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}

RequestT = TypeVar("RequestT", bound=BaseModel)


def build_app(explorer: Explorer) -> Starlette:
    """Build the application that serves the page and its endpoints.

    An endpoint that cannot do what is asked answers `{"error": why}`.
    """
    # One request at a time, since each uses all cores; in one thread, since OpenMP gives each thread a pool of its own.
    worker = ThreadPoolExecutor(1, "explorer")

    async def page(_: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(explorer.page))

    def endpoint(schema: type[RequestT], action: Callable[[RequestT], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            body = await request.body()
            answer = partial(_answer, schema, action, body)
            return await asyncio.get_running_loop().run_in_executor(worker, answer)

        return respond

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        worker.submit(explorer.warm_up)
        yield
        worker.shutdown(wait=False, cancel_futures=True)

    routes = [
        Route("/api/page", page),
        Route("/api/open", endpoint(OpenRequest, explorer.open), methods=["POST"]),
        Route("/api/fuse", endpoint(FuseRequest, explorer.fuse), methods=["POST"]),
        Route("/api/save", endpoint(SaveRequest, explorer.save), methods=["POST"]),
        Mount("/", StaticFiles(directory=Path(__file__).with_name("static"), html=True)),
    ]
    return Starlette(routes=routes, lifespan=lifespan, middleware=[Middleware(BaseHTTPMiddleware, dispatch=_guard)])


def _answer(schema: type[RequestT], action: Callable[[RequestT], Any], body: bytes) -> Response:
    """Validate a request and answer it; bytes are a ZIP file, everything else is JSON."""
    try:
        answer = action(schema.model_validate_json(body))
    except SessionExpired:
        answer = {"expired": True}
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the request"
        answer = {"error": f"{where[:100]}: {first['msg']}."}
    except UserError as error:
        answer = {"error": str(error)}
    except (RuntimeError, MemoryError) as error:  # torch: out of memory, or an image that the network cannot process
        reason = first_line(error) if str(error) else "out of memory"
        answer = {"error": f"the network cannot process this image: {reason}"}
    return Response(answer, media_type="application/zip") if isinstance(answer, bytes) else JSONResponse(answer)


async def _guard(request: Request, proceed: RequestResponseEndpoint) -> Response:
    """Refuse what the page itself would never send, and add the security headers to every response."""
    status = _refusal(request)
    if status is None:
        response = await proceed(request)
    else:
        response = PlainTextResponse("refused\n", status, {"connection": "close"})
    response.headers.update(_HEADERS)
    return response


def _refusal(request: Request) -> int | None:
    """Return the status code to refuse a request with, None for one that is accepted."""
    headers = request.headers
    origin, host = headers.get("origin"), headers.get("host", "")
    if not _LOCAL_HOST.fullmatch(host) or (origin and origin != f"http://{host}"):
        return 403
    if request.method not in {"GET", "HEAD"}:
        length = headers.get("content-length", "")
        if not re.fullmatch(r"\d{1,12}", length) or "transfer-encoding" in headers:
            return 411
        if int(length) > _MAX_BODY:
            return 413
        if not headers.get("content-type", "").startswith("application/json"):
            return 415  # forms of other sites can send other types without a preflight request
    return None


def listen(port: int | None) -> socket.socket:
    """Open a socket that listens on `port` of 127.0.0.1; 0: any free port, None: 7860, or any if that is taken.

    Raises:
        UserError: the port is in use or not permitted.
    """
    for candidate in (PORT, 0) if port is None else (port,):
        try:
            return socket.create_server((HOST, candidate), backlog=128)
        except OSError as error:
            cause = os.strerror(error.errno) if error.errno else str(error)
    raise UserError(f"--port {port} of {HOST} cannot be used: {cause}. Choose another; 0 takes any that is free.")


def serve(app: Starlette, listener: socket.socket) -> None:
    """Answer requests until the process is interrupted."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        timeout_graceful_shutdown=1,
        server_header=False,
        proxy_headers=False,
    )
    uvicorn.Server(config).run(sockets=[listener])
