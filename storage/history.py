"""Every version of every label of a project, as rows that can leave it. Does not know what they are written as."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.database import Store


def history(store: Store, project_id: int, run_id: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield all labels in label order, undone, skipped and replaced ones too.

    run_id: only those of that run's snapshot. Responses are named by their place in `responses` (from 0): `chosen`,
    `rejected`, `tiers`, `shown`. `better`: the response that an edit wrote, which is not among them. `kind`: the item's.
    """
    rows = store.db.query(
        """
        SELECT labels.*, items.kind, items.is_check, projects.name AS project, prompts.messages,
               EXISTS (SELECT 1 FROM current_labels AS kept WHERE kept.item_id = labels.item_id AND kept.role = labels.role
                   AND kept.annotator = labels.annotator AND kept.label_id = labels.id) AS is_current,
               (SELECT json_group_array(json_object('id', id, 'text', text, 'model', model, 'settings', settings,
                    'author', author)) FROM (
                        SELECT responses.* FROM item_responses
                        JOIN responses ON responses.id = item_responses.response_id
                        WHERE item_responses.item_id = items.id ORDER BY item_responses.position)) AS responses,
               (SELECT json_object('text', text, 'model', model, 'settings', settings, 'author', author)
                    FROM responses WHERE verdict = 'edited' AND responses.id = chosen_response_id) AS better
        FROM labels JOIN items ON items.id = labels.item_id JOIN prompts ON prompts.id = items.prompt_id
        JOIN projects ON projects.id = items.project_id
        WHERE items.project_id = :project
            AND (:run IS NULL OR labels.id IN (SELECT label_id FROM run_labels WHERE run_id = :run))
        ORDER BY labels.id
        """,
        {"project": project_id, "run": run_id},
    )
    return map(_row, rows)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    responses = [_response(response) for response in json.loads(row["responses"])]
    places = {response.pop("id"): place for place, response in enumerate(responses)}
    tiers = row["ranking"] and [[places[one] for one in tier] for tier in json.loads(row["ranking"])]
    return {
        "project": row["project"], "label": row["id"], "item": row["item_id"], "replaces": row["replaces_id"],
        "current": bool(row["is_current"]), "kind": row["kind"], "prompt": json.loads(row["messages"]),
        "responses": responses, "verdict": row["verdict"], "chosen": places.get(row["chosen_response_id"]),
        "tiers": tiers, "rejected": places.get(row["rejected_response_id"]),
        "better": row["better"] and _response(json.loads(row["better"])), "role": row["role"],
        "annotator": row["annotator"], "strength": row["strength"], "reasons": json.loads(row["reasons"]),
        "comment": row["comment"],
        "shown": [places[one] for one in json.loads(row["shown_response_ids"]) if one in places],
        "active_seconds": row["active_seconds"], "picked": row["picked"], "margin": row["margin"],
        "source": row["source"], "created_at": row["created_at"], "is_check": bool(row["is_check"]),
    }


def _response(response: dict[str, Any]) -> dict[str, Any]:
    settings = response["settings"]
    return {**response, "settings": json.loads(settings) if settings else None}
