"""The HTTP way: what the browser may send, what it gets, and that no request leaves half a label."""

from __future__ import annotations

import json

import fastapi
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import StorageError
from labeling import routes
from storage import Store
from tests.labeling_page import fill

WHO = {"annotator": "Ann", "session": "session-1"}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def client(store):
    app = fastapi.FastAPI()
    app.include_router(routes.router(store))
    with TestClient(app) as client:
        yield client


def ask(client, route: str, **fields):
    return client.post(f"/api/label/{route}", json={**WHO, **fields})


def label_fields(card: dict, **changes) -> dict:
    shown = [response["id"] for response in card["responses"]]
    fields = {"item": card["item_id"], "shown": shown, "word": "a", "client_id": "client-0001", "active_seconds": 1.5}
    fields["ticket"] = card["ticket"]
    return {**fields, **changes}


def test_a_card_is_fetched_labelled_and_undone(store, client):
    project = fill(store, pairs=2, singles=0)
    cards = ask(client, "next", project=project, kind="pair", count=5).json()["cards"]
    assert len(cards) == 2
    assert set(cards[0]) == {"key", "item_id", "kind", "messages", "responses", "ticket"}
    answer = ask(client, "record", project=project, **label_fields(cards[0], word="b"))
    assert answer.status_code == 200
    label = store.labels.get(answer.json()["label"])
    assert label.chosen_response_id == cards[0]["responses"][1]["id"] and label.active_seconds == 1.5
    undone = ask(client, "undo", project=project, client_id="undo-0001").json()
    assert undone["card"] == cards[0] and undone["said"]["word"] == "b"


def test_no_model_name_reaches_the_browser(store, client):
    project = fill(store)
    for kind in ("pair", "single"):
        assert "secret-model" not in ask(client, "next", project=project, kind=kind, count=50).text


def test_progress_has_counts_and_guidelines(store, client):
    project = fill(store, pairs=3, singles=1, guidelines="Be kind.")
    progress = ask(client, "progress", project=project).json()
    assert progress["pair"] == {"total": 3, "done": 0, "mine": 0}
    assert progress["guidelines"] == "Be kind." and progress["is_example"] is False


def test_release_gives_the_items_to_others(store, client):
    project = fill(store, pairs=2, singles=0)
    ask(client, "next", project=project, kind="pair", count=5)
    bob = {"annotator": "Bob", "session": "session-2", "project": project, "kind": "pair", "count": 5}
    assert client.post("/api/label/next", json=bob).json()["keys"] == []
    assert ask(client, "release").status_code == 200
    assert len(client.post("/api/label/next", json=bob).json()["keys"]) == 2


def test_skipped_items_are_restored(store, client):
    project = fill(store, pairs=1, singles=0)
    (card,) = ask(client, "next", project=project, kind="pair", count=5).json()["cards"]
    ask(client, "record", project=project, **label_fields(card, word="skip"))
    restored = ask(client, "restore", project=project, kind="pair", client_id="restore-1").json()
    assert restored == {"restored": 1}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"item": 999}, 400), ({"item": "1"}, 400), ({"item": True}, 400), ({"item": 2**70}, 400), ({"item": -1}, 400),
        ({"project": 99}, 400), ({"word": None}, 400), ({"word": "love"}, 400), ({"shown": "ab"}, 400),
        ({"shown": [1, None]}, 400), ({"annotator": ""}, 400), ({"annotator": ["Ann"]}, 400), ({"client_id": 5}, 400),
        ({"session": None}, 400), ({"comment": "x" * 100_000}, 400),
    ],
)  # fmt: skip
def test_a_bad_label_is_refused_with_a_sentence_and_not_stored(store, client, changes, status):
    project = fill(store, pairs=1, singles=0)
    (card,) = ask(client, "next", project=project, kind="pair", count=1).json()["cards"]
    answer = ask(client, "record", **{"project": project, **label_fields(card), **changes})
    assert answer.status_code == status
    assert answer.json()["error"].endswith((".", "?"))
    assert store.labels.history(card["item_id"]) == []


@pytest.mark.parametrize("seconds", [None, -5, "NaN", float("1e300"), [], {}])
def test_a_wrong_clock_does_not_lose_the_label(store, client, seconds):
    project = fill(store, pairs=1, singles=0)
    (card,) = ask(client, "next", project=project, kind="pair", count=1).json()["cards"]
    assert ask(client, "record", project=project, **label_fields(card, active_seconds=seconds)).status_code == 200
    assert 0 <= store.labels.history(card["item_id"])[0].active_seconds <= 86_400


def test_only_json_of_this_page_is_taken(client):
    """A form or script of another site can send text/plain without being asked, but not application/json."""
    body = json.dumps({"session": "session-1"})
    for headers in ({"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}, {}):
        assert client.post("/api/label/release", content=body, headers=headers).status_code == 400
    for broken in ("{", "[1]", "null", "[" * 50_000, "\xff"):
        answer = client.post("/api/label/release", content=broken, headers={"content-type": "application/json"})
        assert answer.status_code == 400 and answer.json()["error"]


def test_a_store_that_cannot_write_says_try_again(store, client, monkeypatch):
    project = fill(store, pairs=1, singles=0)
    (card,) = ask(client, "next", project=project, kind="pair", count=1).json()["cards"]

    def full(*_, **__):
        raise StorageError("Nothing was stored: the disk is full.")

    monkeypatch.setattr(store.labels, "add", full)
    answer = ask(client, "record", project=project, **label_fields(card))
    assert (answer.status_code, answer.json()["error"]) == (503, "Nothing was stored: the disk is full.")


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=3)
)
NAMES = (
    "project", "kind", "annotator", "session", "count", "known", "previous", "item", "word", "shown", "client_id",
    "ticket", "strength", "reasons", "comment", "ranking", "edit", "repeat",
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(route=st.sampled_from(["next", "record", "undo", "recent", "release", "restore", "progress"]),
       fields=st.dictionaries(st.sampled_from(NAMES), SCALARS))
def test_no_request_breaks_a_route(client, route, fields):
    body = json.dumps(fields)
    answer = client.post(f"/api/label/{route}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 404)
