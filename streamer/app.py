"""The server: a page, a few routes, and the life of everything behind them."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import click
from aiohttp import web

from engines import (
    EngineBusy,
    EnginePool,
    IdentityError,
    IdentityStore,
    MediaError,
    SettingError,
    VividError,
    load,
    local_key,
)
from streamer.config import ReachSettings, ServerConfig
from streamer.errors import CannotListen, ServerBusy, WorkerBusy
from streamer.guards.access import COOKIE
from streamer.guards.doorman import Doorman, Entrance
from streamer.guards.gate import Gate
from streamer.guards.limits import Limits, Refused
from streamer.guards.sdp import OfferRefused
from streamer.loop_lag import LoopLag
from streamer.metrics import CONTENT_TYPE, metrics_text
from streamer.room import Loader, Room, Store
from streamer.signalling import page, whep, whip
from streamer.signalling.http import ADMITTED, CONFIG, GATE, PLACEMENT, VIEWERS, claim_of, who
from streamer.signalling.http import ROOM as ROOM
from streamer.signalling.placement import Overflow, Placement
from streamer.signalling.refusal import Refusal
from streamer.spare_memory import keep_together
from streamer.tracks import CameraPicture
from streamer.transport import pin
from streamer.verify.http import prepare, verify_routes
from streamer.worker import Worker

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
PAGE_FILES = {
    "index.html": "text/html",
    "app.js": "text/javascript",
    "call.js": "text/javascript",
    "ages.js": "text/javascript",
    "ice.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}
MOST_BODY_BYTES = 128 * 1024
STUCK_S = 2.0
SWITCH_S = 0.0005
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

WORKERS: web.AppKey[tuple[Worker[CameraPicture], ...]] = web.AppKey("workers", tuple)
LAG = web.AppKey("lag", LoopLag)
DOORMAN = web.AppKey("doorman", Doorman)
FILES: web.AppKey[dict[str, bytes]] = web.AppKey("files", dict)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_app(
    config: ServerConfig,
    store: Store | None = None,
    loader: Loader | None = None,
    placement: Placement | None = None,
) -> web.Application:
    """The application, with nothing started yet. `store` and `loader` are for tests; by default the real ones.

    placement  decides which server of several takes a WHIP or WHEP offer; by default `Overflow` from the settings
    """
    app = web.Application(client_max_size=MOST_BODY_BYTES, middlewares=[_errors_as_sentences, _guard, _attend])
    app[CONFIG] = config
    app[DOORMAN] = Doorman(config.guard.connections)
    app[GATE] = Gate(config)
    app[VIEWERS] = Limits(config.guard, config.reach.max_viewers)
    app[PLACEMENT] = placement or Overflow(config.reach.overflow)
    app[FILES] = {name: (STATIC / name).read_bytes() for name in PAGE_FILES}
    prepare(app)
    identities = store if store is not None else IdentityStore(config.identities_dir)

    async def life(app: web.Application) -> AsyncIterator[None]:
        pin.install(app[GATE].policy, config.encoding, loopback=config.is_loopback, udp_ports=config.reach.ports)
        workers = tuple(Worker[CameraPicture]() for _ in range(config.workers))
        for worker in workers:
            worker.start()
        app[LAG] = LoopLag()
        watching = asyncio.create_task(app[LAG].watch(), name="loop lag")
        sweeping = asyncio.create_task(app[DOORMAN].keep_sweeping(), name="doorman")
        pool = EnginePool()
        opening = loader if loader is not None else partial(load, pool=pool)
        app[WORKERS], app[ROOM] = workers, Room(config, workers, identities, opening)
        yield
        watching.cancel()
        sweeping.cancel()
        await app[ROOM].close()
        if all(await asyncio.gather(*(asyncio.to_thread(worker.close) for worker in workers))):
            await asyncio.to_thread(pool.close)
        else:
            log.warning("an engine did not come back in time; its thread is left behind")

    app.cleanup_ctx.append(life)
    app.on_response_prepare.append(_add_headers)
    app.add_routes(
        [
            web.get("/", _page),
            web.get("/static/{file}", _page_file),
            web.get("/identities", _identities),
            web.get("/identities/{name}/portrait", _portrait),
            web.get("/engines", _engines),
            web.get("/healthz", _healthz),
            web.get("/metrics", _metrics),
            *page.routes(),
            *whip.routes(),
            *whep.routes(),
            *verify_routes(),
        ]
    )
    return app


def run_server(config: ServerConfig, ready: Callable[[str], None] = click.echo) -> None:
    """Serves until Ctrl-C or SIGTERM. `ready` is called with the page's address when it can be used.

    Raises CannotListen where the address cannot be used, EngineUnavailable where the engine cannot run here, KeyFault
    where this installation's key cannot be read or made.
    """
    local_key()  # nothing is drawn without
    # A thread that draws in Python gives way to the event loop after half a millisecond, not after five.
    sys.setswitchinterval(SWITCH_S)
    keep_together()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(config, ready))


async def _serve(config: ServerConfig, ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if not config.swap.label:
        log.warning("the label that says that the face is synthetic is switched off for every call")
    app = create_app(config)
    # No access log: the page's address carries the token.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    assert runner.server is not None
    app[DOORMAN].watch(runner.server)
    try:
        address = await listen(runner, config)
        warming = asyncio.create_task(app[ROOM].warm_up())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((warming, stopping), return_when=asyncio.FIRST_COMPLETED)
        if warming.done():
            await warming
            gc.collect()
            gc.freeze()  # what is loaded stays: looking through all of it again stopped everything for 100 ms
            ready(f"vividstream is ready: {address}")
        await stopping
        warming.cancel()
    finally:
        await runner.cleanup()


async def listen(runner: web.AppRunner, config: ServerConfig) -> str:
    """Opens the port. Returns the page's address."""
    secured = tls(config.reach)
    try:
        await Entrance(runner, config.host, config.port, ssl_context=secured).start()
    except OSError as error:
        where = f"{config.host} port {config.port}"
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(f"{where} is in use; stop the other program or choose another with --port") from error
        raise CannotListen(f"cannot listen on {where}: {error.strerror or error}") from error
    host, port = runner.addresses[0][:2]
    name = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::"):
        name = socket.gethostname()
    query = f"?token={config.token}" if config.token is not None else ""
    return f"{'http' if secured is None else 'https'}://{name}:{port}/{query}"


def tls(reach: ReachSettings) -> ssl.SSLContext | None:
    """What https needs; None where no certificate is set. Raises SettingError for files that cannot be used."""
    if reach.certificate is None:
        if reach.key is not None:
            raise SettingError("a key without its certificate: give --certificate too")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(reach.certificate, reach.key, password="")  # encrypted keys are not asked for
    except (OSError, ValueError) as error:
        files = reach.certificate if reach.key is None else f"{reach.certificate} and {reach.key}"
        raise SettingError(f"no https with {files}: {error}") from error
    return context


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@web.middleware
async def _errors_as_sentences(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal is JSON with one sentence in it; what is not foreseen is logged and says nothing of the inside."""
    try:
        return await handler(request)
    except Refusal as error:
        return _sentence(error.status, str(error), error.headers)
    except OfferRefused as error:
        return _sentence(error.status, str(error))
    except (ServerBusy, WorkerBusy, EngineBusy) as error:
        return _sentence(503, str(error), {"Retry-After": "5"})
    except IdentityError as error:
        return _sentence(404 if request.method == "GET" else 400, str(error))
    except (MediaError, SettingError, VividError) as error:
        return _sentence(400, str(error))
    except web.HTTPRequestEntityTooLarge:
        return _sentence(413, f"the request is too large: {MOST_BODY_BYTES // 1024} KiB at most")
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return _sentence(error.status, error.reason.lower(), allow)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _sentence(500, "an internal error; the server's log says more")


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    admitted = request.app[GATE].admit(claim_of(request), time.monotonic())
    if isinstance(admitted, Refused):
        return _sentence(admitted.status, admitted.sentence, admitted.headers)
    request[ADMITTED] = admitted
    return await handler(request)


@web.middleware
async def _attend(request: web.Request, handler: Handler) -> web.StreamResponse:
    return await request.app[DOORMAN].attend(request, handler)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in {**HEADERS, **request.app[GATE].cors(claim_of(request))}.items():
        response.headers.setdefault(name, value)


def _sentence(status: int, error: str, headers: dict[str, str] | None = None) -> web.Response:
    challenge = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return web.json_response({"error": error}, status=status, headers={**challenge, **(headers or {})})


async def _page(request: web.Request) -> web.StreamResponse:
    response = _file(request, "index.html")
    token = who(request).token
    if token is not None:  # so that the page's own requests carry it, and no script has to
        response.set_cookie(COOKIE, token, httponly=True, samesite="Strict", secure=request.secure)
    return response


async def _page_file(request: web.Request) -> web.StreamResponse:
    name = request.match_info["file"]
    if name not in PAGE_FILES:
        raise web.HTTPNotFound(reason="there is no such file")
    return _file(request, name)


def _file(request: web.Request, name: str) -> web.Response:
    return web.Response(body=request.app[FILES][name], content_type=PAGE_FILES[name], charset="utf-8")


async def _identities(request: web.Request) -> web.StreamResponse:
    room = request.app[ROOM]
    names = await asyncio.to_thread(room.names)
    return web.json_response({"identities": list(names), "chosen": room.default_identity()})


async def _portrait(request: web.Request) -> web.StreamResponse:
    png = await request.app[ROOM].portrait_png(request.match_info["name"])
    return web.Response(body=png, content_type="image/png", headers={"Cache-Control": "private, max-age=300"})


async def _engines(request: web.Request) -> web.StreamResponse:
    swap = request.app[CONFIG].swap
    return web.json_response(
        {"engines": list(request.app[ROOM].engines()), "chosen": swap.engine, "tone": swap.tone, "label": swap.label}
    )


async def _healthz(request: web.Request) -> web.StreamResponse:
    """200 when calls can be taken; 503 while starting, or when the engine has been stuck for seconds."""
    stuck = max(worker.busy_s(time.monotonic()) for worker in request.app[WORKERS]) > STUCK_S
    ready = request.app[ROOM].ready.is_set()
    state = ("stuck" if stuck else "ready") if ready else "starting"
    return web.json_response({"state": state}, status=200 if state == "ready" else 503)


async def _metrics(request: web.Request) -> web.StreamResponse:
    app, workers = request.app, request.app[WORKERS]
    text = metrics_text(app[ROOM], workers, app[LAG], app[GATE].limits.refused)
    return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})
