"""The worker's HTTP side: routes, the token, and answers that end when their reader goes.

Owns what is answered to whom. Does not know how text is made (`engine`), nor the life of the process (`worker`).
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from errors import AppError
from models.engine import Piece, Ticket
from models.protocol import DONE, Answers, ChatRequest, ProtocolError, event, parse, parse_token_logps
from models.service import Service

_DISCONNECT_POLL_SECONDS = 0.1


def build_app(service: Service, token: str) -> FastAPI:
    """Return the worker's web application.

    token: every path but `/health` asks for it as a bearer token; `/health` says only "loading" or "ready".
    """

    async def authorised(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise ProtocolError("The bearer token is missing or wrong.", 401, "authentication_error")

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    activity = _Activity()
    app.add_middleware(_Counted, activity=activity)
    app.add_exception_handler(AppError, _refuse)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ready" if service.engine is not None else "loading"}

    @app.get("/v1/activity", dependencies=[Depends(authorised)])
    async def tell_activity() -> dict[str, Any]:
        return {"open_requests": activity.open_requests, "idle_seconds": time.monotonic() - activity.last}

    @app.get("/v1/models", dependencies=[Depends(authorised)])
    async def models() -> dict[str, Any]:
        same = {"object": "model", "created": 0, "owned_by": "local", "context_length": service.context_length}
        return {"object": "list", "data": [{"id": name, **same} for name in service.names()]}

    @app.post("/v1/chat/completions", dependencies=[Depends(authorised)], response_model=None)
    async def chat_completions(request: Request) -> Response:
        asked = parse(await request.body())
        prepared = await run_in_threadpool(service.prepare, asked)
        reply = _Reply(asked, len(prepared.prompt_ids), prepared.fingerprint)
        reply.start(partial(service.submit, prepared))
        if asked.stream:
            return StreamingResponse(reply.stream(request), media_type="text/event-stream")
        return JSONResponse(await reply.whole(request))

    @app.post("/v1/token_logps", dependencies=[Depends(authorised)])
    async def token_logps(request: Request) -> dict[str, Any]:
        asked, response = parse_token_logps(await request.body())
        return asdict(await run_in_threadpool(service.token_logps, asked, response))

    return app


@dataclass
class _Activity:
    """How many requests for work are open, and when there last was one, by `time.monotonic`."""

    open_requests: int = 0
    last: float = field(default_factory=time.monotonic)


class _Counted:
    """Counts requests for work until the last byte of their answer; questions about the worker are none."""

    def __init__(self, app: ASGIApp, activity: _Activity) -> None:
        self._app = app
        self._activity = activity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "POST":
            return await self._app(scope, receive, send)
        self._activity.open_requests += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._activity.open_requests -= 1
            self._activity.last = time.monotonic()


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    known = error if isinstance(error, ProtocolError) else ProtocolError(str(error))
    return JSONResponse(known.body(), known.status)


class _Reply:
    """The answers to one request, on their way from the engine's thread to the event loop."""

    def __init__(self, asked: ChatRequest, prompt_tokens: int, fingerprint: str) -> None:
        self._asked = asked
        self._prompt_tokens = prompt_tokens
        self._answers = Answers(f"chatcmpl-{uuid.uuid4().hex}", asked.model, int(time.time()), fingerprint)
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[tuple[int, Piece] | None] = asyncio.Queue()
        self._tickets: list[Ticket] = []
        self._texts = [""] * asked.n

    def start(self, submit: Callable[..., Ticket]) -> None:
        """Ask the engine for every answer."""
        try:
            for choice in range(self._asked.n):
                self._tickets.append(submit(self._asked.sampling_of(choice), partial(self._give, choice)))
        except AppError:
            self._cancel()
            raise

    async def stream(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the events of a streamed answer."""
        tokens = [0] * self._asked.n
        for choice in range(self._asked.n):
            yield self._answers.chunk(choice, {"role": "assistant", "content": ""})
        async with self._pieces(request) as pieces:
            async for choice, piece in pieces:
                if piece.error is not None:
                    yield event(ProtocolError(piece.error, 500, "server_error").body())
                    return
                tokens[choice] = piece.tokens
                if piece.text:
                    yield self._answers.chunk(choice, {"content": piece.text})
                if piece.finish_reason:
                    yield self._answers.chunk(choice, {}, piece.finish_reason)
        if self._asked.include_usage:
            yield self._answers.usage_chunk(self._prompt_tokens, sum(tokens))
        yield DONE

    async def whole(self, request: Request) -> dict[str, Any]:
        """Return all answers when they are finished. Raises ProtocolError when one fails."""
        reasons, tokens = ["stop"] * self._asked.n, [0] * self._asked.n
        async with self._pieces(request) as pieces:
            async for choice, piece in pieces:
                if piece.error is not None:
                    raise ProtocolError(piece.error, 500, "server_error")
                reasons[choice], tokens[choice] = str(piece.finish_reason), piece.tokens
        return self._answers.whole(self._texts, reasons, tokens, self._prompt_tokens)

    def _give(self, choice: int, piece: Piece) -> None:
        """Take a piece, in the engine's thread. Without streaming only the last one wakes the event loop."""
        if not self._asked.stream:
            self._texts[choice] += piece.text
            if not piece.is_last:
                return
        with suppress(RuntimeError):  # the loop has been closed: the process is ending
            self._loop.call_soon_threadsafe(self._inbox.put_nowait, (choice, piece))

    @asynccontextmanager
    async def _pieces(self, request: Request) -> AsyncIterator[AsyncIterator[tuple[int, Piece]]]:
        """Give the pieces until every answer has ended or the reader has gone, which cancels them all."""
        watcher = asyncio.create_task(self._watch(request))
        try:
            yield self._until_the_end()
        finally:
            watcher.cancel()
            self._cancel()

    async def _until_the_end(self) -> AsyncIterator[tuple[int, Piece]]:
        open_answers = self._asked.n
        while open_answers:
            item = await self._inbox.get()
            if item is None:
                return
            open_answers -= item[1].is_last
            yield item

    async def _watch(self, request: Request) -> None:
        while not await request.is_disconnected():
            await asyncio.sleep(_DISCONNECT_POLL_SECONDS)
        self._cancel()
        self._inbox.put_nowait(None)

    def _cancel(self) -> None:
        for ticket in self._tickets:
            ticket.cancel()
