"""A proxy between vidmill and an S3 server that breaks what it is told to break, on the wire.

    vidmill --> proxy --(faults)--> moto

A fault says which requests it is for, how many of them, and what happens; the first that fits acts, the rest is handed on unchanged.
"""

import asyncio
import io
import logging
import random
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import ClientSession, web
from yarl import URL

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect", "te", "upgrade", "host", "content-length", "date", "server"})

UNHEARD = logging.getLogger(__name__)  # clients that hang up in the middle are what this is for
UNHEARD.disabled = True


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str  # /bucket/key, unquoted
    query: Mapping[str, str]
    headers: Mapping[str, str]
    target: str  # path and query as they were sent
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut_at: int | None = None  # the connection is reset after so many bytes of the body, 0: before any answer


Forward = Callable[[Asked], Awaitable[Answer]]
Action = Callable[[Asked, Forward], Awaitable[Answer]]


@dataclass(slots=True)
class Fault:
    """What happens to requests that fit: after the first `after` to every `every`th, `times` in all (None: for ever)."""

    action: Action
    method: str = ".*"  # regular expressions, to be met by the whole
    path: str = ".*"
    query: str | None = None  # a key that must be there, such as uploadId; "" for requests without a query
    header: str | None = None  # a header that must be there
    times: int | None = 1
    after: int = 0
    every: int = 1
    seen: int = 0  # requests that fit
    met: int = 0  # requests it acted on

    def acts_on(self, asked: Asked) -> bool:
        """Whether this request is broken; counts."""
        if not self.fits(asked):
            return False
        self.seen += 1
        if self.seen <= self.after or (self.seen - self.after - 1) % self.every or self.met == self.times:
            return False
        self.met += 1
        return True

    def fits(self, asked: Asked) -> bool:
        """Whether the fault is for such requests."""
        queried = self.query is None or (self.query in asked.query if self.query else not asked.query)
        headed = self.header is None or self.header.lower() in {name.lower() for name in asked.headers}
        return bool(queried and headed and re.fullmatch(self.method, asked.method) and re.fullmatch(self.path, asked.path))


@dataclass(slots=True)
class Proxy:
    """A running proxy: its address, what it was asked, what it breaks."""

    url: str = ""
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def breaks(self, action: Action, **which: object) -> Fault:
        """Add a fault; the arguments are those of `Fault`."""
        fault = Fault(action, **which)  # type: ignore[arg-type]
        self.faults.append(fault)
        return fault

    def heal(self) -> None:
        """Break nothing any more."""
        self.faults.clear()

    def count(self, method: str, query: str | None = None, path: str = ".*") -> int:
        """How many such requests came."""
        fault = Fault(nothing, method, path, query)
        return sum(fault.fits(asked) for asked in list(self.asked))


async def nothing(asked: Asked, forward: Forward) -> Answer:
    """No fault."""
    return await forward(asked)


def refuse(status: int, code: str, **headers: str) -> Action:
    """An error of S3's; the request does not reach the store."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>as ordered</Message><RequestId>0</RequestId></Error>'.encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def act(asked: Asked, forward: Forward) -> Answer:
        return Answer(status, {"Content-Type": "application/xml", **named}, b"" if asked.method == "HEAD" else body)

    return act


def refuse_after(status: int, code: str) -> Action:
    """The store does as asked, and the answer says otherwise: an error, also one with status 200."""
    refusal = refuse(status, code)

    async def act(asked: Asked, forward: Forward) -> Answer:
        await forward(asked)
        return await refusal(asked, forward)

    return act


def reset_after(size_bytes: int) -> Action:
    """The connection is reset after so many bytes of the answer's body; with 0 the store has done what was asked and nobody hears of it."""

    async def act(asked: Asked, forward: Forward) -> Answer:
        answer = await forward(asked)
        return Answer(answer.status, answer.headers, answer.body, cut_at=size_bytes)

    return act


lost_answer = reset_after(0)


def truncate(size_bytes: int) -> Action:
    """The body ends early, and the headers say that this is all."""

    async def act(asked: Asked, forward: Forward) -> Answer:
        answer = await forward(asked)
        return Answer(answer.status, answer.headers, answer.body[:size_bytes])

    return act


def stall(seconds: float) -> Action:
    """No answer for so long."""

    async def act(asked: Asked, forward: Forward) -> Answer:
        await asyncio.sleep(seconds)
        return await forward(asked)

    return act


def any_of(*actions: Action, seed: int) -> Action:
    """One of these, drawn."""
    draw = random.Random(seed)

    async def act(asked: Asked, forward: Forward) -> Answer:
        return await draw.choice(actions)(asked, forward)

    return act


def without(*names: str) -> Action:
    """The store never sees these headers, as one that does not know them."""
    unseen = {name.lower() for name in names}

    async def act(asked: Asked, forward: Forward) -> Answer:
        seen = {name: value for name, value in asked.headers.items() if name.lower() not in unseen}
        return await forward(Asked(asked.method, asked.path, asked.query, seen, asked.target, asked.body))

    return act


def first(what: Callable[[], object], then: Action = nothing) -> Action:
    """Something else happens in the store right before the request comes."""

    async def act(asked: Asked, forward: Forward) -> Answer:
        await asyncio.to_thread(what)
        return await then(asked, forward)

    return act


@contextmanager
def proxy_to(endpoint: str) -> Iterator[Proxy]:
    """A proxy in a thread of this process, until the block ends."""
    proxy, ready, loop = Proxy(), threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_serve(proxy, endpoint, ready, over)), name="proxy", daemon=True)
    thread.start()
    try:
        assert ready.wait(30)
        yield proxy
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(30)
        loop.close()


async def _serve(proxy: Proxy, endpoint: str, ready: threading.Event, over: asyncio.Event) -> None:
    async with ClientSession(auto_decompress=False) as session:

        async def handle(request: web.Request) -> web.StreamResponse:
            return await _handle(proxy, request, lambda asked: _forward(session, endpoint, asked))

        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{any:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, logger=UNHEARD)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await over.wait()
        await runner.cleanup()


async def _handle(proxy: Proxy, request: web.Request, forward: Forward) -> web.StreamResponse:
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
    asked = Asked(request.method, request.path, dict(request.query), headers, request.raw_path, await request.read())
    proxy.asked.append(asked)
    fault = next((fault for fault in list(proxy.faults) if fault.acts_on(asked)), None)
    answer = await (fault.action if fault else nothing)(asked, forward)
    if answer.cut_at == 0:
        return _reset(request)
    length = answer.headers.get("Content-Length") if asked.method == "HEAD" else str(len(answer.body))
    response = web.StreamResponse(status=answer.status, headers={**answer.headers, **({"Content-Length": length} if length else {})})
    await response.prepare(request)
    if asked.method != "HEAD":
        await response.write(answer.body[: answer.cut_at])
        if answer.cut_at is not None:
            await asyncio.sleep(0.05)  # or the reset overtakes what was sent
            return _reset(request, response)
    await response.write_eof()
    return response


def _reset(request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return response or web.Response()


async def _forward(session: ClientSession, endpoint: str, asked: Asked) -> Answer:
    body = io.BytesIO(asked.body) if asked.body else None  # aiohttp warns of large bytes
    address = URL(endpoint + asked.target, encoded=True)
    async with session.request(asked.method, address, headers=asked.headers, data=body, allow_redirects=False) as answer:
        content = await answer.read()
        keep = HOP_BY_HOP - {"date"} - ({"content-length"} if asked.method == "HEAD" else set())
        return Answer(answer.status, {name: value for name, value in answer.headers.items() if name.lower() not in keep}, content)
