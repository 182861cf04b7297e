"""The fast HTTP way of labelling, beside the page's event queue: small JSON requests, answered in milliseconds.

An `AppError` becomes `{"error": sentence}`. Statuses tell the browser's outbox what to do: 4xx is final, 503 means
"the store cannot write now, send it again". What annotators send at the same time is written together
(`storage.write_queue`). It does not know the page.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from errors import AppError, LabelError, NotFoundError, StorageError
from labeling import annotate, queue
from labeling.answers import Answer, Edit
from labeling.settings import LabelingSettings
from labeling.tickets import Tickets
from storage import Store

MAX_BODY_BYTES = 524_288
MAX_ID = 2**63 - 1
Fields = dict[str, Any]


def router(store: Store) -> APIRouter:
    """Return the routes `POST /api/label/{next,record,undo,recent,release,restore,progress}` on a store."""
    desk = _Desk(store, queue.tickets_of(store))
    routes = APIRouter(prefix="/api/label")

    def serve(name: str, service: Callable[[Fields], Any]) -> None:
        async def answer(request: Request) -> Response:
            try:
                fields = await _fields(request)
                result = await asyncio.wrap_future(store.writes.submit(partial(service, fields)))
                return _json(result)
            except AppError as error:
                return _json({"error": str(error)}, _status(error))

        # A plain Starlette route: FastAPI's own would look at parameters and dependencies there are none of.
        routes.add_route(f"/api/label/{name}", answer, methods=["POST"], name=f"label_{name}")

    for name in ("next", "record", "undo", "recent", "release", "restore", "progress"):
        serve(name, getattr(desk, name))
    return routes


class _Desk:
    """What each route does with the fields of a request; every method runs in a transaction."""

    def __init__(self, store: Store, tickets: Tickets) -> None:
        self.store, self.tickets = store, tickets

    def next(self, fields: Fields) -> Any:
        return queue.lease_cards(
            self.store,
            _whole(fields, "project"),
            _text(fields, "kind"),
            annotate.checked_annotator(fields.get("annotator")),
            annotate.checked_id(fields.get("session"), "tab's id"),
            _whole(fields, "count"),
            known=set(_texts(fields, "known")),
            previous=annotate.checked_id(fields["previous"], "tab's id") if fields.get("previous") else None,
            tickets=self.tickets,
        )

    def record(self, fields: Fields) -> Any:
        item, shown = _whole(fields, "item"), _wholes(fields, "shown")
        annotator = annotate.checked_annotator(fields.get("annotator"))
        label = annotate.record(
            self.store,
            _whole(fields, "project"),
            item,
            annotator,
            _answer(fields),
            shown,
            client_id=annotate.checked_id(fields.get("client_id"), "label's id"),
            session=annotate.checked_id(fields.get("session"), "tab's id"),
            active_seconds=annotate.clamped_seconds(fields.get("active_seconds")),
            picked=self.tickets.check(fields.get("ticket"), item, annotator, shown),
        )
        return {"label": label.id}

    def undo(self, fields: Fields) -> Any:
        return annotate.undo(
            self.store,
            _whole(fields, "project"),
            annotate.checked_annotator(fields.get("annotator")),
            client_id=annotate.checked_id(fields.get("client_id"), "undo's id"),
            item_id=None if fields.get("item") is None else _whole(fields, "item"),
            repeated=fields.get("repeat") is True,
            session=annotate.checked_id(fields.get("session"), "tab's id"),
            tickets=self.tickets,
        )

    def recent(self, fields: Fields) -> Any:
        annotator = annotate.checked_annotator(fields.get("annotator"))
        return {"labels": annotate.recent(self.store, _whole(fields, "project"), annotator, self.tickets)}

    def release(self, fields: Fields) -> Any:
        self.store.leases.release(annotate.checked_id(fields.get("session"), "tab's id"))
        return {}

    def restore(self, fields: Fields) -> Any:
        restored = annotate.restore_skipped(
            self.store,
            _whole(fields, "project"),
            _text(fields, "kind"),
            annotate.checked_annotator(fields.get("annotator")),
            client_id=annotate.checked_id(fields.get("client_id"), "request's id"),
        )
        return {"restored": restored}

    def progress(self, fields: Fields) -> Any:
        project = self.store.projects.by_id(_whole(fields, "project"))
        annotator = annotate.checked_annotator(fields["annotator"]) if fields.get("annotator") else ""
        progress = annotate.progress(self.store, project.id, annotator)
        return {
            "pair": progress.pair, "single": progress.single, "ranking": progress.ranking, "skipped": progress.skipped,
            "guidelines": project.guidelines, "is_example": project.is_example,
            "is_match": project.is_match,
            "reasons": LabelingSettings.of(project.labeling).reasons,
        }


def _json(value: Any, status: int = 200) -> Response:
    try:
        content = orjson.dumps(value)
    except TypeError:  # a lone surrogate, which orjson refuses: a stored text may have one
        content = json.dumps(value, default=dataclasses.asdict).encode()
    return Response(content, status, media_type="application/json")


async def _fields(request: Request) -> Fields:
    """Return the JSON object of a request's body.

    Only `application/json` is taken: another site's form or script cannot send that here without being asked.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise LabelError("The request must be of type application/json.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise LabelError(f"The request is larger than {MAX_BODY_BYTES // 1024} KiB; nothing was stored.")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"The request is not JSON: {error}.") from error
    if not isinstance(fields, dict):
        raise LabelError("The request must be a JSON object.")
    return fields


def _answer(fields: Fields) -> Answer:
    ranking, edit = fields.get("ranking"), fields.get("edit")
    if ranking is not None:
        if not isinstance(ranking, list):
            raise LabelError("'ranking' must be a list of lists of whole numbers.")
        ranking = tuple(tuple(_wholes({"ranking": tier}, "ranking")) for tier in ranking)
    if edit is not None:
        if not isinstance(edit, dict):
            raise LabelError("'edit' must be an object with 'response' and 'text'.")
        edit = Edit(_whole(edit, "response"), _text(edit, "text"))
    strength = fields.get("strength")
    if strength is not None and not isinstance(strength, str):
        raise LabelError("'strength' must be 'slightly' or 'clearly'.")
    comment = _text({"comment": fields.get("comment", "")}, "comment")
    return Answer(_text(fields, "word"), strength, tuple(_texts(fields, "reasons")), comment, ranking, edit)


def _status(error: AppError) -> int:
    if isinstance(error, StorageError):
        return 503
    return 404 if isinstance(error, NotFoundError) else 400


def _whole(fields: Fields, name: str) -> int:
    value = fields.get(name)
    if type(value) is not int or not 0 <= value <= MAX_ID:
        raise LabelError(f"{name!r} must be a whole number.")
    return value


def _wholes(fields: Fields, name: str) -> list[int]:
    values = fields.get(name, [])
    if not isinstance(values, list) or any(type(value) is not int or not 0 <= value <= MAX_ID for value in values):
        raise LabelError(f"{name!r} must be a list of whole numbers.")
    return values


def _texts(fields: Fields, name: str) -> list[str]:
    values = fields.get(name, [])
    if not isinstance(values, list) or any(not isinstance(value, str) for value in values):
        raise LabelError(f"{name!r} must be a list of texts.")
    return values


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise LabelError(f"{name!r} must be a text.")
    return value
