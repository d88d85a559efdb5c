"""The server of the page: on this machine alone, for who knows its token, and only to read."""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..core.errors import SteadyganError
from .hub import Hub, Page

HOST, PORT = "127.0.0.1", 8817
"""Where the page is, unless another port was asked for or this one is taken."""

_PAUSE, _SIGN = 1.0, 15.0  # seconds between looks, and until a silent stream gives a sign of life
_ASSETS = {
    "page.css": ("report", "text/css"),
    "watch.css": ("watch", "text/css"),
    "watch.js": ("watch", "text/javascript"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def watch(
    places: Sequence[Path], port: int | None = None, *, browser: bool = True, token: str = ""
) -> None:
    """Serve the page about runs until Ctrl-C.

    Args:
        places: Run folders, or folders that hold some; none of them need be there yet.
        port: By default ``PORT``, or a free one where that is taken; 0 is a free one.
        browser: Whether to open the page in a browser, where there is a screen.
        token: What whoever looks must know; by default a new one.

    Raises:
        SteadyganError: For a port that is taken.
    """
    token = token or secrets.token_urlsafe(24)
    hub = Hub(places)
    with _bound(port) as listening:
        listening.listen()
        at = listening.getsockname()[1]
        url = f"http://{HOST}:{at}/?token={token}"
        print(f"{url}\nonly on this machine, and only to look; Ctrl-C ends it", flush=True)
        if "SSH_CONNECTION" in os.environ:
            print(
                f"from your own machine: ssh -L {at}:{HOST}:{at} THIS-HOST, then open that address"
            )
        if browser and _screen():
            webbrowser.open(url)
        server = _Server(
            uvicorn.Config(
                application(hub, token),
                log_level="critical",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=5,
            )
        )
        server.hub = hub
        try:
            server.run([listening])
        except KeyboardInterrupt:  # how it is ended
            print(flush=True)


def application(hub: Hub, token: str) -> Starlette:
    """Return the page about what a hub looks at, for who knows a token."""

    async def page(request: Request) -> Response:
        return _file(Path(__file__).parent / "page.html", "text/html")

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _ASSETS:
            return PlainTextResponse("There is no such file.", 404)
        room, kind = _ASSETS[name]
        return _file(Path(__file__).parent.parent / room / name, kind)

    async def events(request: Request) -> Response:
        return StreamingResponse(_events(hub), media_type="text/event-stream")

    async def picture(request: Request) -> Response:
        run, step = request.path_params["run"], request.path_params.get("step")
        try:
            found = await to_thread.run_sync(hub.picture, run, step)
        except (SteadyganError, OSError) as error:
            return PlainTextResponse(str(error), 404)
        if found is None:
            return PlainTextResponse("There are no such samples.", 404)
        # Its address tells of when it is.
        return Response(
            found, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"}
        )

    routes = [
        Route("/", page, methods=["GET"]),
        Route("/events", events, methods=["GET"]),
        Route("/samples/{run:int}/real", picture, methods=["GET"]),
        Route("/samples/{run:int}/{step:int}", picture, methods=["GET"]),
        Route("/{name}", asset, methods=["GET"]),
    ]
    guards = [
        Middleware(_Careful),
        # A page elsewhere that has its name point here still asks for that name.
        Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"], www_redirect=False),
        Middleware(_Secret, token=token),
    ]
    return Starlette(routes=routes, middleware=guards)


async def _events(hub: Hub) -> AsyncIterator[str]:
    page, silent = Page(), 0.0
    yield "retry: 2000\n\n"
    while True:
        news, more = await to_thread.run_sync(hub.news, page)
        if news:
            yield f"data: {json.dumps(news, allow_nan=False, separators=(',', ':'))}\n\n"
            silent = 0.0
        elif silent >= _SIGN:
            yield ": nothing new\n\n"
            silent = 0.0
        if hub.ended:
            return
        if not more:
            await anyio.sleep(_PAUSE)
            silent += _PAUSE


def _file(path: Path, kind: str) -> Response:
    return Response(path.read_bytes(), media_type=kind)


class _Careful:
    """Gives every answer the headers that keep a browser from doing more than it must."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def careful(message: Message) -> None:
            if message["type"] == "http.response.start":
                held = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in _HEADERS.items()
                        if name.lower().encode() not in held
                    ),
                ]
            await send(message)

        await self._app(scope, receive, careful)


class _Secret:
    """Turns away whoever does not know the token, from the address or from the cookie it leaves."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        cookie = f"steadygan-watch-{(scope.get('server') or ('', 0))[1]}"
        if self._known(request.query_params.get("token")):
            # What the page loads comes without the token in its address.
            kept = f"{cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"

            async def keep(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message["headers"], (b"set-cookie", kept.encode())]
                await send(message)

            await self._app(scope, receive, keep)
        elif self._known(request.cookies.get(cookie)):
            await self._app(scope, receive, send)
        else:
            text = "Open the address that `steadygan watch` printed: it ends in a token.\n"
            await PlainTextResponse(text, 403)(scope, receive, send)

    def _known(self, given: str | None) -> bool:
        return given is not None and secrets.compare_digest(given.encode(), self._token.encode())


class _Server(uvicorn.Server):
    """Ends the streams of events when it ends, which would last for ever."""

    hub: Hub

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Have the pages be told that there is nothing more."""
        self.hub.ended = True
        await super().shutdown(sockets)


def _bound(port: int | None) -> socket.socket:
    for candidate in (PORT, 0) if port is None else (port,):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, candidate))
            return found
        except OSError as error:
            found.close()
            if candidate != port:
                continue
            why = {errno.EADDRINUSE: "is taken", errno.EACCES: "is not for everybody"}
            raise SteadyganError(
                f"Port {port} {why.get(error.errno or 0, str(error))}: give another one with"
                " --port, or none for a free one."
            ) from error
        except OverflowError as error:
            found.close()
            raise SteadyganError(f"--port must be from 0 to 65535, not {port}.") from error
    raise SteadyganError("There is no free port on this machine.")


def _screen() -> bool:
    """Return whether a browser would open beside the terminal, and not in it."""
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
