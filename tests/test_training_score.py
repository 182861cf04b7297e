"""Scoring a project by a run: margins are the run's own, contradictions find wrong labels, a stop changes nothing."""

from __future__ import annotations

import math
import os
import random
import signal
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from sklearn.metrics import average_precision_score
from tests.background_world import check_death_is_told, last_word, trained
from tests.tiny_models import save_tiny_model
from tests.training_world import label_pairs, label_singles, tiny_config

from errors import ModelError, TrainingError
from labeling.queue import lease_cards
from labeling.settings import LabelingSettings
from models.loading import load_base
from models.prompting import render
from storage import Project, Store
from training import job, ordering, run, score
from training.config import build
from training.dataset import summarise
from training.background import Progress

ANIMALS = ("owl", "cow", "dog", "cat", "horse", "duck", "fox", "goat")
PLACES = ("barn", "field", "river", "yard", "forest", "village", "market")
LABELLED, HELD_OUT, WRONG_SHARE = 60, 40, 0.1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def add_pair(store: Store, project: Project, question: str, texts: tuple[str, str], chosen: int | None) -> int:
    """Store a pair, labelled where chosen says which of the two; return its number."""
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": question}])
    ids = [store.responses.add(prompt_id, text)[0] for text in texts]
    item_id, _ = store.items.add(project.id, prompt_id, ids)
    if chosen is not None:
        store.labels.add(
            item_id, "ann", "chosen", client_id=f"own-{item_id}", shown_response_ids=ids, chosen_response_id=ids[chosen]
        )
    return item_id


@pytest.fixture(scope="module")
def polite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[int, int], set[int], list[int]]:
    """A project scored by a run that learnt "polite before rude" from labels of which a tenth is wrong.

    Also: which response of each pair is polite, which labels are wrong, and the pairs that nobody labelled.
    """
    store, draws = Store(tmp_path_factory.mktemp("polite")), random.Random(1)
    project = store.projects.ensure("Polite")
    questions = [f"What does the {animal} in the {place} eat?" for animal in ANIMALS for place in PLACES] + [
        f"Where does the {animal} sleep in the {place}?" for animal in ANIMALS for place in PLACES
    ]
    wrong_numbers = set(draws.sample(range(LABELLED), round(WRONG_SHARE * LABELLED)))
    right, wrong, waiting = {}, set(), []
    for number, question in enumerate(draws.sample(questions, LABELLED + HELD_OUT)):
        texts = ["Happy to help! It likes the grass there.", "Ugh, fine. It likes the grass there."]
        place = draws.randrange(2)
        chosen = None if number >= LABELLED else 1 - place if number in wrong_numbers else place
        item_id = add_pair(store, project, question, (texts[place], texts[1 - place]), chosen)
        right[item_id] = place
        if number in wrong_numbers:
            wrong.add(item_id)
        elif chosen is None:
            waiting.append(item_id)
    settings = build("dpo", "demo", {"device": "cpu"}, summarise(store, project.id), {"hidden_size": 256})
    ended = run.execute(store, job.create(store, project, settings).id)
    report = score.execute(store, ended.id, "cpu")
    assert (report.pairs, report.scored, report.voted) == (LABELLED + HELD_OUT, LABELLED + HELD_OUT, LABELLED)
    return store, right, wrong, waiting


def test_margins_agree_with_labels_that_the_run_has_not_seen(polite) -> None:
    store, right, _, waiting = polite
    agreeing = [(store.items.get(item_id).margin > 0) == (right[item_id] == 0) for item_id in waiting]
    print(f"held-out sign agreement {sum(agreeing) / len(agreeing):.3f} of {len(agreeing)}")
    assert sum(agreeing) >= 0.9 * len(agreeing)
    assert all(store.items.get(item_id).contradiction is None for item_id in waiting)


def test_wrong_labels_are_contradicted_most(polite) -> None:
    store, right, wrong, waiting = polite
    labelled = [item_id for item_id in right if item_id not in waiting]
    contradictions = [store.items.get(item_id).contradiction for item_id in labelled]
    precision = average_precision_score([item_id in wrong for item_id in labelled], contradictions)
    print(f"average precision {precision:.3f}, chance {len(wrong) / len(labelled):.3f}")
    assert precision >= 3 * len(wrong) / len(labelled)
    assert all(0 <= contradiction <= 1 for contradiction in contradictions)


def picked(store: Store, project_id: int, order: str, random_share: float) -> list[tuple[int, str]]:
    """What one tab is given of a project in an order, as item and why it came."""
    settings = LabelingSettings(order=order, random_share=random_share)
    store.projects.set_labeling(project_id, settings.as_dict())
    session = f"{order}-{random_share}"
    lease_cards(store, project_id, "pair", "Zoe", session, 30, draws=random.Random(0))
    held = store.leases.held(project_id, "pair", "Zoe", session)
    store.leases.release(session)
    return [(one.item_id, one.picked) for one in held]


def test_the_queue_asks_for_what_the_run_is_least_sure_of(polite) -> None:
    store, _, _, waiting = polite
    project_id = store.items.get(waiting[0]).project_id
    picks = picked(store, project_id, "uncertain", 0.0)
    certainties = [abs(store.items.get(item_id).margin) for item_id, _ in picks]
    assert len(picks) == 30 and certainties == sorted(certainties)
    assert set(waiting) >= {item_id for item_id, _ in picks}


def test_the_queue_asks_again_for_what_the_run_contradicts_with_random_items_between(polite) -> None:
    store, _, wrong, waiting = polite
    project_id = store.items.get(waiting[0]).project_id
    store.items.want(project_id, 2)
    picks = picked(store, project_id, "contradicted", 0.0)
    against = [store.items.get(item_id).contradiction for item_id, _ in picks]
    assert len(picks) == 30 and against == sorted(against, reverse=True)
    reasons = [why for _, why in picked(store, project_id, "contradicted", 0.5)]
    assert set(reasons) == {"contradicted", "shuffled"} and 5 <= reasons.count("shuffled") <= 25
    store.items.want(project_id, 1)


def logps(model: torch.nn.Module, tokenizer, messages: list[dict[str, str]], text: str) -> tuple[float, int]:
    """The plain way: logits of one row, log-softmax, the response's tokens."""
    row = render(tokenizer, messages, text, 512)
    ids = torch.tensor([row.ids])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    own = logits.gather(1, ids[0, 1:, None])[row.prompt_length - 1 :, 0]
    return float(own.sum()), len(own)


@pytest.mark.parametrize("method", ["dpo", "kto", "simpo", "orpo", "ipo"])
def test_a_margin_is_what_transformers_and_peft_give(store, project, model, method) -> None:
    label_pairs(store, project, 4)
    if method == "kto":
        label_singles(store, project, 2, 2)
    ended = trained(store, project, method, model)
    score.execute(store, ended.id, "cpu")
    base, tuned = load_base(str(model), "cpu"), load_base(str(model), "cpu")
    adapted = PeftModel.from_pretrained(tuned.model, str(store.folder / ended.adapter)).eval()
    beta = ended.config["loss"]["beta"]
    for row in store.items.pairs(project.id):
        rewards = []
        for text in row["responses"]:
            policy, length = logps(adapted, base.tokenizer, row["messages"], text)
            reference, _ = logps(base.model, base.tokenizer, row["messages"], text)
            rewards.append(beta * (policy / length if method in ("simpo", "orpo") else policy - reference))
        item = store.items.get(row["id"])
        assert item.margin == pytest.approx(rewards[0] - rewards[1], abs=1e-4) and item.margin != 0
        assert item.contradiction == pytest.approx(1 / (1 + math.exp(item.margin)), abs=1e-6)  # all prefer the first


def test_a_pair_that_cannot_be_scored_gets_none_and_earlier_scores_are_forgotten(store, project, model) -> None:
    label_pairs(store, project, 4)
    ended = trained(store, project, "dpo", model, max_length_tokens=64)
    long = add_pair(store, project, "Long?", ("yes " * 200, "no"), 0)
    split = add_pair(store, project, "Split?", ("yes", "no"), 0)
    ids = store.items.response_ids(split)
    store.labels.add(split, "bob", "chosen", client_id="b", shown_response_ids=ids, chosen_response_id=ids[1])
    store.items.set_margins(project.id, [(long, 1.0, 0.5)])
    report = score.execute(store, ended.id, "cpu")
    assert store.items.get(long).margin is None and store.items.get(split).margin is not None
    assert store.items.get(split).contradiction is None
    assert (report.pairs, report.scored, report.voted) == (6, 5, 4)
    assert report.left_out == {"longer than max_length_tokens": 1}
    assert "scored 5 of 6 pairs (left out: 1 longer than max_length_tokens)" in report.sentence()
    assert report.sentence().endswith("Switch the order on in Review, Settings: uncertain or contradicted.")


def test_batches_change_no_score_and_the_reference_is_computed_once(store, project, model, monkeypatch) -> None:
    label_pairs(store, project, 7)
    ended = trained(store, project, "dpo", model)
    score.execute(store, ended.id, "cpu")
    before = [store.items.get(row["id"]).margin for row in store.items.pairs(project.id)]
    known = store.db.execute("SELECT count(*) FROM reference_logps").fetchone()
    monkeypatch.setattr(score, "PAIRS_AT_ONCE", 2)
    score.execute(store, ended.id, "cpu")
    after = [store.items.get(row["id"]).margin for row in store.items.pairs(project.id)]
    assert after == pytest.approx(before, abs=1e-4)
    assert store.db.execute("SELECT count(*) FROM reference_logps").fetchone() == known


@pytest.mark.parametrize("how", [lambda store: os.kill(os.getpid(), signal.SIGTERM), lambda store: ordering.stop(store, 1)])
def test_a_stop_keeps_the_scores_from_before(store, project, model, how) -> None:
    label_pairs(store, project, 4)
    ended = trained(store, project, "dpo", model)
    store.items.set_margins(project.id, [(1, 0.25, None)])

    def interrupt(line: str) -> None:
        if line.startswith("Loading"):
            how(store)

    with pytest.raises(TrainingError, match="stopped; the scores from before stay"):
        score.execute(store, ended.id, "cpu", interrupt)
    assert store.items.get(1).margin == 0.25
    assert store.items.get(2).margin is None and not ordering.SCORING.stop_file(store, 1).exists()
    assert ordering.status(store, ended) == Progress("The scoring was stopped; the scores from before stay.")


def test_what_cannot_score_is_refused_with_words(store, project, model) -> None:
    label_pairs(store, project, 4)
    queued = job.create(store, project, tiny_config(store, project, "dpo", model))
    with pytest.raises(TrainingError, match="no adapter to score with: it is queued"):
        score.execute(store, queued.id)
    ended = run.execute(store, queued.id)
    lock = ordering.SCORING.lock(store, ended.id)
    assert lock.take()
    with pytest.raises(TrainingError, match="at work already"):
        score.execute(store, ended.id)
    lock.release()
    job.create(store, project, tiny_config(store, project, "dpo", model))
    with pytest.raises(TrainingError, match="still training"):
        ordering.start(store, ended.id)
    store.runs.end(2, "cancelled")
    save_tiny_model(model, seed=5)
    with pytest.raises(ModelError, match="trained on other weights"):
        score.execute(store, ended.id, "cpu")


def test_a_process_of_its_own_scores_and_any_page_sees_how_far_it_is(store, project, tmp_path) -> None:
    label_pairs(store, project, 4)
    ended = trained(store, project, "dpo", save_tiny_model(tmp_path / "model"))
    said = last_word(ordering.SCORING, store, ended.id, lambda: ordering.start(store, ended.id, "cpu"))
    assert said.startswith("Run 1 scored 4 of 4 pairs; of 4 decided by votes") and store.items.get(1).margin is not None


def test_a_scoring_that_died_says_so(store, project, monkeypatch) -> None:
    check_death_is_told(ordering.SCORING, store, project, "512 of 9,000 pairs scored …", monkeypatch)
