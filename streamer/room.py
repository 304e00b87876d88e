"""The calls of one server: how many there are, what each of them may change, and that all of them end with it."""

from __future__ import annotations

import asyncio
import io
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache
from typing import Any, Literal, Protocol

from PIL import Image

from engines import (
    Identity,
    IdentityError,
    MediaError,
    Session,
    SettingError,
    StrictModel,
    SwapSettings,
    engine_names,
    engines_here,
    load,
    nearest,
)
from streamer import consents
from streamer.audit import calls as audit
from streamer.config import ServerConfig
from streamer.decoding.parent import Nursery
from streamer.encoding import choose
from streamer.errors import AuditFault, ServerBusy
from streamer.peer import Peer
from streamer.signalling.description import prefer
from streamer.signalling.ice import IceServers
from streamer.signalling.negotiation import is_no_common_codec
from streamer.signalling.refusal import not_live, taken
from streamer.spare_memory import Sweep
from streamer.stats import Journey
from streamer.telemetry import open_traces
from streamer.tracks import CameraPicture, standby_frame
from streamer.viewer import Viewer
from streamer.worker import Worker

log = logging.getLogger(__name__)

WARM_HEIGHT_PX, WARM_WIDTH_PX = 480, 640
CLOSE_S = 5.0
RETRY_S = 5  # what is told to wait when a stream is not there, or is there already
RAW = "passthrough"  # shows the real face: only where the server itself was started with it


class Store(Protocol):
    """Where identities come from: `engines.IdentityStore`."""

    def names(self) -> tuple[str, ...]: ...

    def load(self, name: str) -> Identity: ...


class Loader(Protocol):
    """What builds a session: `engines.load`. Called in a worker thread."""

    def __call__(self, settings: SwapSettings, identity: Identity | None = None) -> Session: ...


class Choice(StrictModel):
    """What a person chooses on the page, at the beginning or in the middle of a call. None: as it was."""

    identity: str | None = None
    engine: str | None = None
    tone: Literal["identity", "driver", "mix"] | None = None
    faces: Literal["one", "all"] | None = None


def _nothing() -> None:
    """Nobody wants to know."""


class Room:
    """All calls of this server. Everything here runs on the event loop, and hands work to the worker threads."""

    def __init__(
        self, config: ServerConfig, workers: Sequence[Worker[CameraPicture]], store: Store, loader: Loader = load
    ) -> None:
        self.peers: dict[str, Peer] = {}
        self.begun = 0  # calls
        self.traces = open_traces(config.telemetry)
        self.past = Journey()  # of the pictures of calls that have ended
        self.streams: dict[str, Peer] = {}  # calls that have a name, which viewers ask for
        self.viewers: dict[str, Viewer] = {}
        self.ice_servers = IceServers(config)
        self.ready = asyncio.Event()
        self._config = config
        self._nursery = Nursery()
        self._workers = workers
        self._store = store
        self._load = loader
        self._spare: tuple[Worker[CameraPicture], Session] | None = None  # what the warm-up made, for the first call
        self._lives: set[asyncio.Task[None]] = set()
        self._coming_streams: set[str] = set()
        self._sweep = Sweep()
        self._portrait = lru_cache(maxsize=256)(self._draw_portrait)

    def engines(self) -> tuple[str, ...]:
        """The engines that a page offers: those that can run here."""
        return self._allowed(engines_here(self._config.swap))

    def _allowed(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """`auto`, and of the names those that a page may ask for."""
        return ("auto", *(name for name in names if name != RAW or self._config.swap.engine == RAW))

    def names(self) -> tuple[str, ...]:
        """The identities that a page may ask for."""
        return tuple(self._store.names())

    def default_identity(self) -> str | None:
        """The identity that is worn when a page does not say."""
        return self._config.identity or next(iter(self.names()), None)

    async def portrait_png(self, name: str) -> bytes:
        """The identity's portrait. Raises IdentityError where there is no such identity."""
        return await asyncio.to_thread(self._portrait, self._known(name))

    async def warm_up(self) -> None:
        """Compiles and starts everything once, so that the first call is not late; it gets the session made here.

        Raises IdentityError for a name that there is none of, EngineUnavailable, EncoderUnavailable.
        """
        if self._config.identity is not None:
            self._known(self._config.identity)  # before seconds of work
        self._nursery.start()
        await asyncio.to_thread(choose.probe_card, self._config.encoding)
        await asyncio.to_thread(standby_frame, WARM_HEIGHT_PX, WARM_WIDTH_PX)  # compiles its kernel
        worker = self._workers[0]
        self._spare = worker, await self._open(self._config.swap, self.default_identity(), worker)
        self.ready.set()

    async def enter(
        self,
        sdp: str,
        choice: Choice,
        stream: str | None = None,
        both_ways: bool = True,
        ended: Callable[[], object] = _nothing,
    ) -> tuple[Peer, str]:
        """Begins a call: it and the answer. Raises ServerBusy, MediaError, SettingError, IdentityError, Refusal.

        How many calls there may be is not decided here, but at the gate (streamer/guards).

        stream     the name by which viewers find it
        both_ways  the caller gets the result back over the same connection
        ended      called once when a call that began is over and freed
        """
        if stream is not None and (stream in self.streams or stream in self._coming_streams):
            raise taken(stream, RETRY_S)
        worker, served = self._freest()
        refusal = worker.load.refusal(served, time.monotonic())
        if refusal:
            raise ServerBusy(refusal)
        names = set() if stream is None else {stream}
        self._coming_streams |= names
        ice = self.ice_servers.for_us(time.time())
        peer = Peer(secrets.token_urlsafe(16), worker, self._nursery, ice, self._config.guard)
        try:
            settings = self._settings(self._config.swap, choice)
            answer = await peer.negotiate(self._in_order(sdp), both_ways)
            session = await self._open(settings, choice.identity or self.default_identity(), worker)
            self.begun += 1
            peer.number = self.begun
            await self._recorded(session, worker, audit.begun(peer.number, session.engine, settings, session.identity))
            await peer.use(session)
        except BaseException:
            await peer.close()
            raise
        finally:
            self._coming_streams -= names
        peer.follow(self.traces.call(peer.number, peer.engine))
        self.peers[peer.call] = peer
        if stream is not None:
            self.streams[stream] = peer
        self._keep(self._life(peer, stream, ended), f"call {peer.call}")
        return peer, answer

    async def watch(
        self, stream: str, sdp: str, kinds: frozenset[str], ended: Callable[[], object] = _nothing
    ) -> tuple[Viewer, str]:
        """Begins to show a stream. Returns the viewer and our answer; or, where the offer is empty or has no
        codec that we have, an offer of our own: then `viewer.is_agreed` is False. Raises Refusal and MediaError.
        """
        source = self.streams.get(stream)
        if source is None:
            raise not_live(stream, RETRY_S)
        viewer, description = await self._agree(source, sdp, kinds)
        if self.streams.get(stream) is not source:  # it ended meanwhile: nobody would send this viewer home
            await viewer.close()
            raise not_live(stream, RETRY_S)
        self.viewers[viewer.name] = viewer
        self._keep(self._watching(viewer, ended), f"viewer {viewer.name}")
        return viewer, description

    async def _agree(self, source: Peer, sdp: str, kinds: frozenset[str]) -> tuple[Viewer, str]:
        viewer = self._new_viewer(source)
        try:
            return viewer, await (viewer.answer(self._in_order(sdp), kinds) if sdp else viewer.offer())
        except MediaError as error:
            await viewer.close()
            if not is_no_common_codec(error):
                raise
        except BaseException:
            await viewer.close()
            raise
        viewer = self._new_viewer(source)
        try:
            return viewer, await viewer.offer()
        except BaseException:
            await viewer.close()
            raise

    def _in_order(self, sdp: str) -> str:
        """The offer as it came; with H.264 first where a graphics card codes that."""
        return prefer(sdp, "H264") if choose.has_hardware(self._config.encoding) else sdp

    def _new_viewer(self, source: Peer) -> Viewer:
        ice = self.ice_servers.for_us(time.time())
        return Viewer(secrets.token_urlsafe(16), source, ice, self._config.guard.handshake_s)

    async def change(self, call: str, choice: Choice) -> Peer:
        """Another identity, engine or tone in the middle of a call. Raises KeyError where there is no such call."""
        peer = self.peers[call]
        settings, other = self._settings(peer.settings, choice), choice.identity not in (None, peer.identity)
        if settings != peer.settings:
            session = await self._open(settings, choice.identity or peer.identity, peer.worker)
            if other and session.identity is not None:
                await self._recorded(session, peer.worker, audit.worn(peer.number, session.identity))
            await peer.use(session)
        elif choice.identity is not None and other:
            identity = await asyncio.to_thread(self._store.load, self._known(choice.identity))
            await audit.worn(peer.number, identity)
            await peer.wear(identity)
        return peer

    async def _recorded(self, session: Session, worker: Worker[CameraPicture], line: Coroutine[Any, Any, None]) -> None:
        """Writes the line before the session draws anything; a session that nobody can account for is closed."""
        try:
            await line
        except BaseException:
            await asyncio.wrap_future(worker.call(session.close))
            raise

    async def close(self) -> None:
        """Ends every call and waits until all is freed, but not for ever."""
        ending: list[Peer | Viewer] = [*self.peers.values(), *self.viewers.values()]
        for one in ending:
            one.hang_up("the server is shutting down")
        if self._lives:
            _, late = await asyncio.wait(self._lives, timeout=CLOSE_S)
            for life in late:
                life.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._spare is not None:
            (owner, session), self._spare = self._spare, None
            await asyncio.wait({asyncio.wrap_future(owner.call(session.close))}, timeout=CLOSE_S)
        await self._nursery.close()
        await asyncio.to_thread(self.traces.close)

    def _keep(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        life = asyncio.create_task(coroutine, name=name)
        self._lives.add(life)
        life.add_done_callback(self._lives.discard)

    async def _life(self, peer: Peer, stream: str | None, ended: Callable[[], object]) -> None:
        since_s = time.monotonic()
        watching = asyncio.create_task(self._watch_consent(peer), name=f"consent of {peer.call}")
        try:
            await peer.live()
        finally:
            watching.cancel()
            ended()
            self._forget(peer, stream)  # all at once: whoever looks from now on finds no part of it
            drawn, why = peer.stats.shown["drawn"], peer.ended_because or "the server ended it"
            try:
                await audit.ended(peer.number, why, time.monotonic() - since_s, drawn)
            except AuditFault as error:  # the call is over: all that is left is to say so
                log.error("%s", error)
            self._sweep.soon()

    def _forget(self, peer: Peer, stream: str | None) -> None:
        """The call is over: its name is free, its viewers are sent home."""
        self.peers.pop(peer.call, None)
        if stream is not None:
            self.streams.pop(stream, None)
        for viewer in self.viewers.values():
            if viewer.source is peer:
                viewer.hang_up("the call is over")
        self.past.merge(peer.stats.journey)

    async def _watch_consent(self, peer: Peer) -> None:
        """A consent that ends in the middle of the call ends what is drawn by it."""

        async def end(worn: Identity, why: str) -> None:
            peer.take_off(why)
            await asyncio.to_thread(consents.taken_off, worn, why, call=peer.number)

        await consents.watch(self._store.load, lambda: peer.worn, end)

    async def _watching(self, viewer: Viewer, ended: Callable[[], object]) -> None:
        try:
            await viewer.live()
        finally:
            ended()
            self.viewers.pop(viewer.name, None)
            self._sweep.soon()

    def _freest(self) -> tuple[Worker[CameraPicture], int]:
        """The worker that serves the fewest calls, and how many those are."""
        served = [sum(peer.worker is worker for peer in self.peers.values()) for worker in self._workers]
        number = served.index(min(served))
        return self._workers[number], served[number]

    async def _open(self, settings: SwapSettings, name: str | None, worker: Worker[CameraPicture]) -> Session:
        """A session that is ready to draw. Built and warmed in the worker thread that will step it."""
        identity = None if name is None else await asyncio.to_thread(self._store.load, self._known(name))
        spare = await self._take_spare(settings, worker)

        def build() -> Session:
            session = self._load(settings, identity) if spare is None else spare
            try:
                if spare is None:
                    session.warm_up(WARM_HEIGHT_PX, WARM_WIDTH_PX)
                else:
                    session.set_identity(identity)
            except BaseException:
                session.close()
                raise
            return session

        return await asyncio.wrap_future(worker.call(build))

    async def _take_spare(self, settings: SwapSettings, worker: Worker[CameraPicture]) -> Session | None:
        """The session that is kept, where it is of these settings; another one gives its place up."""
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        owner, session = spare
        if owner is worker and session.settings == settings:
            return session
        await asyncio.wrap_future(owner.call(session.close))
        return None

    def _settings(self, before: SwapSettings, choice: Choice) -> SwapSettings:
        allowed = self._allowed(engine_names())
        if choice.engine is not None and choice.engine not in allowed:
            raise SettingError(f'unknown engine "{choice.engine[:40]}"; {nearest(choice.engine, allowed)}')
        changes = choice.model_dump(exclude_none=True, exclude={"identity"})
        return SwapSettings.read({**before.model_dump(), **changes})

    def _known(self, name: str) -> str:
        """Names from outside never reach the store's file system unless the store itself listed them."""
        names = self.names()
        if name not in names:
            raise IdentityError(f'unknown identity "{name[:40]}"; {nearest(name, names)}')
        return name

    def _draw_portrait(self, name: str) -> bytes:
        png = io.BytesIO()
        Image.fromarray(self._store.load(name).portrait_PP3).save(png, "PNG")
        return png.getvalue()
