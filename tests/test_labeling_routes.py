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


def test_a_label_needs_the_ticket_of_its_card_and_annotator(store, client):
    project = fill(store, pairs=2, singles=0)
    one, two = ask(client, "next", project=project, kind="pair", count=2).json()["cards"]
    for forged in (None, "", "shuffled.0", two["ticket"], one["ticket"].replace("shuffled", "check"), 7):
        answer = ask(client, "record", project=project, **label_fields(one, ticket=forged))
        assert answer.status_code == 400 and "not given" in answer.json()["error"]
    turned = label_fields(one, shown=[response["id"] for response in one["responses"]][::-1])
    assert ask(client, "record", project=project, **turned).status_code == 400
    bob = {"annotator": "Bob", "session": "session-2", "project": project, **label_fields(one)}
    assert client.post("/api/label/record", json=bob).status_code == 400
    assert store.labels.counts(project) == {}
    assert ask(client, "record", project=project, **label_fields(one)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strength": "very"}, "slightly or clearly"), ({"strength": 3}, "slightly"), ({"strength": ["clearly"]}, "slightly"),
        ({"comment": "x" * 4_001}, "4,001 characters"), ({"comment": "x" * 1_000_000}, "larger than 512 KiB"),
        ({"comment": ["x"]}, "text"), ({"comment": "\0"}, "cannot be stored"), ({"reasons": "kind"}, "list of texts"),
        ({"reasons": [str(number) for number in range(30)]}, "At most"), ({"ranking": 5}, "ranking"),
        ({"ranking": [[1], [2]]}, "goes with"), ({"edit": {"response": 1, "text": "x"}}, "goes with"),
        ({"word": "edited", "edit": {"response": 10**6, "text": "x"}}, "not one of those"),
        ({"word": "edited", "edit": {"response": 1, "text": " "}}, "empty"), ({"word": "edited", "edit": "x"}, "edit"),
    ],
)  # fmt: skip
def test_what_goes_with_a_label_is_refused_with_it_and_nothing_is_half_stored(store, client, changes, words):
    project = fill(store, pairs=1, singles=0)
    (card,) = ask(client, "next", project=project, kind="pair", count=1).json()["cards"]
    before = len(store.responses.of_prompt(1))
    answer = ask(client, "record", project=project, **label_fields(card, **changes))
    assert answer.status_code == 400 and words in answer.json()["error"]
    assert store.labels.history(card["item_id"]) == [] and len(store.responses.of_prompt(1)) == before


def test_a_label_sent_twice_is_stored_once(store, client):
    project = fill(store, pairs=1, singles=0)
    (card,) = ask(client, "next", project=project, kind="pair", count=1).json()["cards"]
    fields = label_fields(card, strength="clearly", reasons=["kind"], comment="Good.")
    answers = [ask(client, "record", project=project, **fields).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    (label,) = store.labels.history(card["item_id"])
    assert (label.strength, label.reasons, label.comment, label.picked) == (2, ["kind"], "Good.", "shuffled")


def test_a_label_of_a_deleted_item_is_refused(store, client):
    project = fill(store, pairs=1, singles=0)
    (card,) = ask(client, "next", project=project, kind="pair", count=1).json()["cards"]
    store.db.execute("DELETE FROM items")
    assert ask(client, "record", project=project, **label_fields(card)).status_code == 404


def test_the_last_labels_can_be_opened_and_changed(store, client):
    project = fill(store, pairs=2, singles=0)
    (card, _) = ask(client, "next", project=project, kind="pair", count=2).json()["cards"]
    ask(client, "record", project=project, **label_fields(card, strength="clearly", comment="Good."))
    (latest,) = ask(client, "recent", project=project).json()["labels"]
    assert latest["said"] == {
        "word": "a", "strength": "clearly", "reasons": [], "comment": "Good.", "ranking": None, "edit": None,
    }  # fmt: skip
    assert latest["card"]["responses"] == card["responses"]
    changed = label_fields(latest["card"], word="tie", client_id="client-0002")
    assert ask(client, "record", project=project, **changed).status_code == 200
    assert [label.verdict for label in store.labels.history(card["item_id"])] == ["chosen", "tie"]
    assert store.items.get(card["item_id"]).label_count == 1


def test_a_ranking_and_a_better_answer_are_taken(store, client):
    project = fill(store, pairs=1, singles=0)
    prompt_id, _ = store.prompts.add(project, [{"role": "user", "content": "Rank"}])
    ids = [store.responses.add(prompt_id, text)[0] for text in "wxyz"]
    store.items.add(project, prompt_id, ids)
    (card,) = ask(client, "next", project=project, kind="ranking", count=5).json()["cards"]
    tiers = [[ids[2]], [ids[0], ids[3]], [ids[1]]]
    fields = label_fields(card, word="ranked", ranking=tiers)
    assert ask(client, "record", project=project, **fields).status_code == 200
    assert store.labels.current_of(card["item_id"], "Ann").ranking == tiers
    (pair,) = ask(client, "next", project=project, kind="pair", count=5).json()["cards"]
    edit = {"response": pair["responses"][1]["id"], "text": "A better one."}
    fields = label_fields(pair, word="edited", edit=edit, client_id="client-0002")
    assert ask(client, "record", project=project, **fields).status_code == 200
    undone = ask(client, "undo", project=project, client_id="undo-0001").json()
    assert undone["said"]["edit"] == edit


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
