"""The fast HTTP way of labelling, beside the page's event queue: small JSON requests, answered in milliseconds.

An `AppError` becomes `{"error": sentence}`. Statuses tell the browser's outbox what to do: 4xx is final, 503 means
"the store cannot write now, send it again". It does not know the page.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from errors import AppError, LabelError, NotFoundError, StorageError
from labeling import annotate, queue
from storage import Store

MAX_BODY_BYTES = 65_536
MAX_ID = 2**63 - 1
Fields = dict[str, Any]
Service = Callable[[Store, Fields], Fields]


def router(store: Store) -> APIRouter:
    """Return the routes `POST /api/label/{next,record,undo,release,restore,progress}` on a store."""
    routes = APIRouter(prefix="/api/label")

    def serve(name: str, service: Service) -> None:
        async def answer(request: Request) -> JSONResponse:
            try:
                fields = await _fields(request)
                return JSONResponse(await run_in_threadpool(service, store, fields))
            except AppError as error:
                return JSONResponse({"error": str(error)}, status_code=_status(error))

        routes.add_api_route(f"/{name}", answer, methods=["POST"], name=f"label_{name}", response_model=None)

    services = {
        "next": _next, "record": _record, "undo": _undo, "release": _release, "restore": _restore,
        "progress": _progress,
    }
    for name, service in services.items():
        serve(name, service)
    return routes


def _next(store: Store, fields: Fields) -> Fields:
    lease = queue.lease_cards(
        store,
        _whole(fields, "project"),
        _text(fields, "kind"),
        annotate.checked_annotator(fields.get("annotator")),
        annotate.checked_id(fields.get("session"), "tab's id"),
        _whole(fields, "count"),
        known=set(_wholes(fields, "known")),
        previous=annotate.checked_id(fields["previous"], "tab's id") if fields.get("previous") else None,
    )
    return dataclasses.asdict(lease)


def _record(store: Store, fields: Fields) -> Fields:
    label = annotate.record(
        store,
        _whole(fields, "project"),
        _whole(fields, "item"),
        annotate.checked_annotator(fields.get("annotator")),
        _text(fields, "word"),
        _wholes(fields, "shown"),
        client_id=annotate.checked_id(fields.get("client_id"), "label's id"),
        session=annotate.checked_id(fields.get("session"), "tab's id"),
        active_seconds=annotate.clamped_seconds(fields.get("active_seconds")),
    )
    return {"label": label.id}


def _undo(store: Store, fields: Fields) -> Fields:
    undone = annotate.undo(
        store,
        _whole(fields, "project"),
        annotate.checked_annotator(fields.get("annotator")),
        client_id=annotate.checked_id(fields.get("client_id"), "undo's id"),
        item_id=None if fields.get("item") is None else _whole(fields, "item"),
    )
    return dataclasses.asdict(undone)


def _release(store: Store, fields: Fields) -> Fields:
    store.items.release(annotate.checked_id(fields.get("session"), "tab's id"))
    return {}


def _restore(store: Store, fields: Fields) -> Fields:
    restored = annotate.restore_skipped(
        store,
        _whole(fields, "project"),
        _text(fields, "kind"),
        annotate.checked_annotator(fields.get("annotator")),
        client_id=annotate.checked_id(fields.get("client_id"), "request's id"),
    )
    return {"restored": restored}


def _progress(store: Store, fields: Fields) -> Fields:
    project = store.projects.by_id(_whole(fields, "project"))
    annotator = str(fields.get("annotator") or "").strip()
    progress = annotate.progress(store, project.id, annotator)
    return {**dataclasses.asdict(progress), "guidelines": project.guidelines, "is_example": project.is_example}


async def _fields(request: Request) -> Fields:
    """Return the JSON object of a request's body.

    Only `application/json` is taken: another site's form or script cannot send that here without being asked.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise LabelError("The request must be of type application/json.")
    body = b""
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


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise LabelError(f"{name!r} must be a text.")
    return value
