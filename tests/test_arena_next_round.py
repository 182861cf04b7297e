"""The next round of a project: which step it stands at, and the steps one after another."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from arena import next_round, rounds
from arena.ranking import ranking
from arena.next_round import COMPARE, LABEL, SAMPLE, TRAIN, go, how_many, next_step, train_on_top
from errors import ConfigError
from storage import Project, Run, Store
from tests.completion_server import CompletionServer
from tests.test_arena_matches import Workers, asked, compared, finished
from tests.training_world import label_pairs
from training import job
from training.config import TrainingConfig


class RoundWorkers(Workers):
    """What a round asks of workers besides their endpoint."""

    device = "cpu"

    def free_gpu(self) -> None:
        pass


@pytest.fixture
def server() -> Iterator[CompletionServer]:
    started = CompletionServer()
    started.answer = lambda body: f"{body['model']} on {body['messages'][-1]['content']} {body['seed'] % 1000}"
    yield started
    started.close()


@pytest.fixture
def trained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are created as the job creates them, and have finished at once: no process trains."""

    def start(store: Store, project: Project, config: TrainingConfig, device: str, free) -> Run:  # noqa: ANN001
        run = job.create(store, project, config)
        store.runs.hold_out(run.id, store.runs.label_ids(run.id)[:2])
        store.runs.end(run.id, "finished", adapter=f"runs/run-{run.id}/adapter")
        return store.runs.get(run.id)

    monkeypatch.setattr(job, "start", start)


def world(store: Store, project: Project) -> Run:
    """Six labelled pairs, a run that learned from them, and six prompts that nobody has labelled."""
    label_pairs(store, project, 6)
    config = TrainingConfig(learning_rate=0.004, lora_rank=6).to_dict()
    first = finished(store, project, tuple(row["label_id"] for row in store.labels.judged(project.id)), **config)
    asked(store, project, 6)
    return first


def label_all(store: Store, project: Project, most: int | None = None) -> None:
    """Prefer the first response of a project's pairs without a label."""
    waiting = [row for row in store.items.pairs(project.id, 0, 1000) if not store.items.get(row["id"]).label_count]
    for row in waiting[:most]:
        ids = store.items.response_ids(row["id"])
        store.labels.add(
            row["id"], "ann", "chosen", client_id=f"all{row['id']}", shown_response_ids=ids, chosen_response_id=ids[0]
        )


def test_a_round_stands_where_the_store_says(store: Store, project: Project, server: CompletionServer, trained_at_once: None) -> None:
    workers = RoundWorkers(server)
    with pytest.raises(ConfigError, match="No run of this project has finished"):
        next_step(store, project.id)
    first = world(store, project)
    assert next_step(store, project.id) == next_round.Step(SAMPLE, first)
    rounds.sample(store, workers, project, most=4)
    assert next_step(store, project.id) == next_round.Step(LABEL, first, 4, 0)
    label_all(store, project, most=3)
    assert next_step(store, project.id) == next_round.Step(LABEL, first, 4, 3)
    label_all(store, project)
    assert next_step(store, project.id) == next_round.Step(TRAIN, first, 4, 4)
    second = train_on_top(store, workers, project)
    assert next_step(store, project.id) == next_round.Step(COMPARE, second)
    report = next_round.compare(store, workers, project, second)
    assert report.pairs > 0
    assert next_step(store, project.id).kind == SAMPLE


def test_the_new_run_meets_its_base_and_the_run_it_went_on_from(
    store: Store, project: Project, server: CompletionServer, trained_at_once: None
) -> None:
    first = world(store, project)
    second = train_on_top(store, RoundWorkers(server), project)
    report = next_round.compare(store, RoundWorkers(server), project, second)
    cards = [store.items.card(row["id"]) for row in store.items.pairs(report.project.id, 0, 1000)]
    met = [tuple(sorted(each.run_id or 0 for each in card.responses)) for card in cards]
    assert report.prompts == 6 and len(met) == 12  # those that neither run has learned from
    assert set(met) == {(0, second.id), (first.id, second.id)}
    (played,) = store.comparisons.matches_of(second.id)
    assert (played.project_id, played.pairs, played.waiting) == (report.project.id, 12, 12)
    assert report.project.is_match and report.project.home_id == project.id and store.projects.list()[-1].id == report.project.id


def test_votes_in_its_matches_are_votes_of_a_project(
    store: Store, project: Project, server: CompletionServer, trained_at_once: None
) -> None:
    world(store, project)
    second = train_on_top(store, RoundWorkers(server), project)
    report = next_round.compare(store, RoundWorkers(server), project, second)
    label_all(store, report.project)
    here, other = ranking(store, project.id), store.projects.ensure("other")
    assert here.votes == ranking(store, report.project.id).votes == 12 and ranking(store, other.id).votes == 0
    listed = rounds.rounds(store, project.id)
    assert listed[1].against_base.votes == listed[1].against_before.votes == 6


def test_without_waiting_a_round_ends_where_people_are_needed(
    store: Store, project: Project, server: CompletionServer, trained_at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_round, "POLL_SECONDS", 0.01)
    first, workers, told = world(store, project), RoundWorkers(server), []
    report = go(store, workers, project, most=5, wait=False, told=told.append)
    assert report.step.kind == LABEL and report.sampled.pairs == 5
    assert "5 of 5 pairs wait for labels" in report.sentence()
    assert go(store, workers, project, wait=False).sampled is None  # not sampled again
    label_all(store, project)
    report = go(store, workers, project, wait=False, told=told.append)
    assert [step.kind for step in told] == [SAMPLE, LABEL, TRAIN, COMPARE]
    assert report.run.config["start_run"] == first.id and report.match.pairs > 0
    assert report.as_dict()["match"]["pairs"] == report.match.pairs and "wait for votes" in report.sentence()
    listed = rounds.rounds(store, project.id)
    assert [(each.run.id, each.parent and each.parent.id) for each in listed] == [(first.id, None), (report.run.id, first.id)]


def test_a_round_compares_the_run_that_was_started_by_hand_meanwhile(
    store: Store, project: Project, server: CompletionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_round, "POLL_SECONDS", 0.01)
    first = world(store, project)
    by_hand = job.create(store, project, TrainingConfig.from_dict(first.config))

    def told(step: next_round.Step) -> None:
        if step.kind == TRAIN:
            store.runs.end(by_hand.id, "finished", adapter="a")

    report = go(store, RoundWorkers(server), project, wait=False, told=told)
    assert report.match.pairs == 6 and report.step.run.id == by_hand.id  # with its base: there was none before it


def test_a_round_with_nothing_held_out_ends_after_its_run(
    store: Store, project: Project, server: CompletionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(store: Store, project: Project, config, device, free) -> Run:  # noqa: ANN001
        run = job.create(store, project, config)
        store.runs.end(run.id, "finished", adapter="a")
        return store.runs.get(run.id)

    monkeypatch.setattr(job, "start", start)
    world(store, project)
    monkeypatch.setattr(next_round, "MOST_COMPARED", 0)
    go(store, RoundWorkers(server), project, wait=False)
    label_all(store, project)
    report = go(store, RoundWorkers(server), project, wait=False)
    assert report.match is None and "nothing to compare it on" in report.sentence()


def test_a_fifth_of_the_prompts_is_kept_to_compare_on() -> None:
    assert [how_many(each) for each in (0, 1, 2, 5, 10, 100, 1000)] == [0, 1, 1, 4, 8, 80, 960]
    assert [how_many(1000, 50), how_many(10, 50)] == [50, 8]


def test_answers_that_are_always_the_same_end_a_round_in_a_sentence(store: Store, project: Project, server: CompletionServer) -> None:
    server.answer = lambda body: "Always this."
    world(store, project)
    with pytest.raises(ConfigError, match="keeps saying the same"):
        go(store, RoundWorkers(server), project, most=1, wait=False)


def test_a_round_that_is_stopped_keeps_what_it_has(store: Store, project: Project, server: CompletionServer) -> None:
    world(store, project)
    stop = threading.Event()
    stop.set()
    report = go(store, RoundWorkers(server), project, stop=stop)
    assert report.cancelled and report.step.kind == SAMPLE and not server.requests


def test_votes_in_chats_are_no_sampled_answers(store: Store, project: Project, server: CompletionServer) -> None:
    first = world(store, project)
    second = finished(store, project, **first.config)
    prompt_id = asked(store, project, 7)[-1]
    ids = [store.responses.add(prompt_id, f"of {run.id}", model="demo", run_id=run.id)[0] for run in (first, second)]
    item_id, _ = store.items.add(project.id, prompt_id, ids)
    assert next_step(store, project.id).total == 1
    store.labels.add(
        item_id, "ann", "chosen", client_id="chat-vote", shown_response_ids=ids, chosen_response_id=ids[0], source="chat"
    )
    assert next_step(store, project.id).kind == SAMPLE


def test_training_on_top_keeps_the_settings_and_lowers_the_rate_once(
    store: Store, project: Project, server: CompletionServer, trained_at_once: None
) -> None:
    first = world(store, project)
    run = train_on_top(store, RoundWorkers(server), project)
    assert (run.config["start_run"], run.config["lora_rank"], run.config["learning_rate"]) == (first.id, 6, 0.001)
    assert run.config["loss"] == first.config["loss"]
    again = train_on_top(store, RoundWorkers(server), project)
    assert (again.config["start_run"], again.config["learning_rate"]) == (run.id, 0.001)


def test_nothing_is_trained_on_top_of_what_votes_put_below_the_base(store: Store, project: Project, server: CompletionServer) -> None:
    run = world(store, project)
    compared(store, "base:demo", f"run-{run.id}", 30)
    compared(store, f"run-{run.id}", "base:demo", 1)
    with pytest.raises(ConfigError, match="Train one first"):
        train_on_top(store, RoundWorkers(server), project)
    with pytest.raises(ConfigError, match="under its base"):
        next_step(store, project.id)
