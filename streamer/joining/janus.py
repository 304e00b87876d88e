"""A room of a Janus (plug-in VideoRoom): enter, publish, stay, leave. Written for Janus 1.x, multistream."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any

import aiohttp

from engines import SettingError
from streamer.joining.errors import CannotJoin, Unreachable
from streamer.joining.janus_wire import ANSWERS_S, Message, Wire, wire_to
from streamer.joining.settings import JanusSettings
from streamer.viewer import Viewer

log = logging.getLogger(__name__)

PLUGIN = "janus.plugin.videoroom"
KEEPALIVE_S = 20.0  # a session that says nothing for 60 s is forgotten
LEAVE_S = 1.5
MOST_OTHERS = 1_000

UNAUTHORIZED, NO_PLUGIN = 403, 460  # of Janus itself
NO_SUCH_ROOM, MISSING, FULL, NOT_ALLOWED = 426, 429, 432, 433  # of the plug-in


class JanusRoom:
    """One stay in one room: make it, `enter`, wait for `over`, `leave`. Another stay is another object."""

    def __init__(
        self, url: str, room: int | str, name: str, settings: JanusSettings, http: aiohttp.ClientSession
    ) -> None:
        """Raises SettingError for an address that cannot be one of a Janus."""
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.others: dict[object, str] = {}  # who else shows something, by their number in the room
        self.removed = False  # by somebody of the room: coming back would be rude
        self._url, self._room, self._name, self._settings = url, room, name, settings
        try:
            self._wire: Wire = wire_to(url, http)
        except ValueError as error:
            raise SettingError(str(error)) from error
        self._asked: dict[str, tuple[asyncio.Future[Message], bool]] = {}
        self._session: int | None = None
        self._handle: int | None = None
        self._own_id: object = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def where(self) -> str:
        return f"room {self._room} at {self._url}"

    async def enter(self, viewer: Viewer) -> None:
        """Joins and publishes. Raises CannotJoin, and Unreachable where trying again may help."""
        await self._wire.open(self._heard)
        self._wire.lost.add_done_callback(self._wire_lost)
        self._session = self._number(await self._ask({"janus": "create"}))
        self._keeper = asyncio.create_task(self._keep())
        self._handle = self._number(await self._ask({"janus": "attach", "plugin": PLUGIN}))
        joined = await self._request(
            {"request": "join", "ptype": "publisher", "room": self._room, "display": self._name}
            | _given(pin=self._settings.pin, token=self._settings.room_token)
        )
        self._own_id = _data(joined).get("id")
        self._note(_data(joined))
        offer = await viewer.offer()
        codec = None if self._settings.codec == "any" else self._settings.codec
        published = await self._request(
            {"request": "publish", "audiocodec": "opus"} | _given(videocodec=codec),
            {"type": "offer", "sdp": offer, "trickle": False},
        )
        answer = _dict(published.get("jsep")).get("sdp")
        if not isinstance(answer, str):
            raise Unreachable(f"the Janus at {self._url} gave no answer to the picture that was offered")
        if _refuses_video(answer):
            raise CannotJoin(f"{self.where} takes no picture that is sent here (VP8 or H.264): try another --codec")
        await viewer.accept(answer)

    async def leave(self) -> None:
        """Says goodbye, and ends everything. Safe to call at any time, and twice."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if not self._wire.lost.done() and self._session is not None:
            try:
                async with asyncio.timeout(LEAVE_S):
                    if self._handle is not None:
                        await self._request({"request": "leave"})
                    await self._ask({"janus": "destroy"})
            except (CannotJoin, TimeoutError):
                log.info("%s was left without a goodbye", self.where)
        self._session = None
        await self._wire.close()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEPALIVE_S)
            try:
                await self._ask({"janus": "keepalive"})
            except Unreachable as error:
                self._end(str(error))
                return

    async def _request(self, body: Message, jsep: Message | None = None) -> Message:
        """Something of the plug-in. Returns its event. Raises CannotJoin."""
        answer = await self._ask({"janus": "message", "body": body} | _given(jsep=jsep), wants_event=True)
        told = _data(answer)
        if "error_code" in told:
            raise self._refusal(told["error_code"], str(told.get("error", "")))
        return answer

    async def _ask(self, message: Message, wants_event: bool = False) -> Message:
        transaction = secrets.token_hex(8)
        message = (
            message
            | {"transaction": transaction}
            | _given(session_id=self._session, handle_id=self._handle if message["janus"] == "message" else None)
            | _given(apisecret=self._settings.api_secret, token=self._settings.api_token)
        )
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[transaction] = (answer, wants_event)
        try:
            await self._wire.send(message)
            async with asyncio.timeout(ANSWERS_S):
                both: tuple[asyncio.Future[Any], ...] = (answer, self._wire.lost)
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise Unreachable(f"{self._url}: {self._wire.lost.result()}")
            told = answer.result()
        except TimeoutError:
            raise Unreachable(f"the Janus at {self._url} does not answer") from None
        finally:
            del self._asked[transaction]
        if told.get("janus") == "error":
            fault = _dict(told.get("error"))
            raise self._refusal(fault.get("code"), str(fault.get("reason", "")))
        return told

    def _number(self, answer: Message) -> int:
        """That of a session or a handle. Raises Unreachable."""
        number = _dict(answer.get("data")).get("id")
        if not isinstance(number, int):
            raise Unreachable(f"{self._url} does not speak Janus as it should: is something else in between?")
        return number

    def _heard(self, message: Message) -> None:
        kind = message.get("janus")
        asked, wants_event = self._asked.get(str(message.get("transaction")), (None, False))
        if asked is not None and not (wants_event and kind == "ack"):
            if not asked.done():
                asked.set_result(message)
            return
        if kind == "event":
            self._note(_data(message))
        elif kind == "hangup":
            self._end(f"the Janus ended the connection: {message.get('reason', 'no reason given')}")
        elif kind in ("timeout", "detached"):
            self._end("the Janus has forgotten us")
        elif kind in ("webrtcup", "media", "slowlink"):
            log.info(
                "%s: %s", self.where, {key: message[key] for key in message if key not in ("session_id", "sender")}
            )

    def _note(self, told: dict[str, Any]) -> None:
        """Who comes, speaks and goes; and that we have to."""
        publishers = told.get("publishers")
        for one in publishers if isinstance(publishers, list) else ():
            if isinstance(one, dict) and isinstance(one.get("id"), int | str) and len(self.others) < MOST_OTHERS:
                self.others[one["id"]] = str(one.get("display", ""))[:64]
        if told.get("videoroom") == "destroyed":
            self.removed = True
            self._end("the room was closed")
        parted = (told.get(key) for key in ("leaving", "unpublished", "kicked"))
        gone = {one for one in parted if isinstance(one, int | str)}
        if gone & {"ok", self._own_id}:
            self.removed = self.removed or "kicked" in (told.get("reason"), *told)
            if self.removed:
                self._end("somebody of the room removed us")
        for one in gone:
            self.others.pop(one, None)
        log.debug("%s: %s", self.where, told)

    def _wire_lost(self, lost: asyncio.Future[str]) -> None:
        if not lost.cancelled():
            self._end(lost.result())

    def _end(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(why)

    def _refusal(self, code: object, reason: str) -> CannotJoin:
        sentences = {
            UNAUTHORIZED: f"the Janus at {self._url} wants a secret or a token: --api-secret or --api-token",
            NO_PLUGIN: f"the Janus at {self._url} has no VideoRoom (janus.plugin.videoroom): switch that on there",
            NO_SUCH_ROOM: f"there is no room {self._room} at {self._url}: ask who runs it for the room's number",
            FULL: f"{self.where} is full: wait until somebody leaves, or let its `publishers` be raised",
        }
        if code == MISSING and "pin" in reason:
            return CannotJoin(f"{self.where} wants a pin: --pin")
        if (code == MISSING and "token" in reason) or (code == NOT_ALLOWED and "pin" not in reason):
            return CannotJoin(f"{self.where} lets in only who has a token: --room-token")
        if code == NOT_ALLOWED:
            return CannotJoin(f"wrong pin for {self.where}: ask who runs it, then --pin")
        if isinstance(code, int) and code in sentences:
            # Rooms are made anew after a restart, and the place that we lost is free after a while.
            return Unreachable(sentences[code]) if code in (NO_SUCH_ROOM, FULL) else CannotJoin(sentences[code])
        return Unreachable(f"{self.where} refused: {' '.join(reason.split())[:200] or code}")


def _dict(value: object) -> dict[str, Any]:
    """Nothing where it is something else: a stranger wrote it."""
    return value if isinstance(value, dict) else {}


def _data(message: Message) -> dict[str, Any]:
    """What the plug-in says in it."""
    return _dict(_dict(message.get("plugindata")).get("data"))


def _given(**values: object) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None}


def _refuses_video(answer: str) -> bool:
    return any(line.startswith("m=video 0 ") for line in answer.splitlines())
