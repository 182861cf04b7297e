"""The next round of a project: which step it stands at, and the steps one after another."""

from __future__ import annotations

import threading

import pytest

from arena import next_round, rounds
from arena.next_round import Step, begin, give_up, go, how_many, next_step, train_on_top
from arena.ranking import ranking
from errors import ConfigError, TrainingError, WorkerError
from storage import Project, Run, Store
from storage.records import COMPARE, LABEL, SAMPLE, TRAIN
from tests.arena_world import Workers, compared, label_all, server, trained_at_once, world
from tests.completion_server import CompletionServer
from training import job

__all__ = ["server", "trained_at_once"]  # fixtures


@pytest.fixture
def workers(server: CompletionServer, monkeypatch: pytest.MonkeyPatch) -> Workers:
    monkeypatch.setattr(next_round, "POLL_SECONDS", 0.01)
    return Workers(server)


def test_a_round_goes_from_step_to_step_and_ends_where_people_are_needed(
    store: Store, project: Project, workers: Workers, trained_at_once: None
) -> None:
    with pytest.raises(ConfigError, match="No run of this project has finished"):
        next_step(store, project.id)
    first, told = world(store, project), []
    assert next_step(store, project.id) == Step(SAMPLE, first)
    report = go(store, workers, project, most=4, wait=False, told=told.append)
    assert (report.step.kind, report.step.run, report.sampled.pairs) == (LABEL, first, 4)
    assert "4 of 4 pairs wait for labels" in report.sentence()
    assert go(store, workers, project, wait=False).sampled is None  # it is not sampled again
    label_all(store, project, most=3)
    assert next_step(store, project.id).labelled == next_step(store, project.id).done == 3
    label_all(store, project)
    report = go(store, workers, project, wait=False, told=told.append)
    assert [step.kind for step in told] == [SAMPLE, LABEL, LABEL, COMPARE]
    second = report.step.run
    assert second.config["start_run"] == first.id and report.as_dict()["match"]["pairs"] == report.match.pairs > 0
    assert "wait for votes" in report.sentence()
    assert next_step(store, project.id) == Step(SAMPLE, second)  # the newest, as long as there are no votes
    listed = rounds.rounds(store, project.id)
    assert [(each.run.id, each.parent and each.parent.id) for each in listed] == [(first.id, None), (second.id, first.id)]


def test_the_new_run_meets_its_base_and_the_run_it_went_on_from(
    store: Store, project: Project, workers: Workers, trained_at_once: None
) -> None:
    first = world(store, project)
    go(store, workers, project, wait=False, most=1)
    label_all(store, project)
    report = go(store, workers, project, wait=False)
    second, match = report.step.run, report.match.project
    cards = [store.items.card(row["id"]) for row in store.items.pairs(match.id, 0, 1000)]
    met = [tuple(sorted(each.run_id or 0 for each in card.responses)) for card in cards]
    assert report.match.prompts == 5 and len(met) == 10  # those that neither run has learned from
    assert set(met) == {(0, second.id), (first.id, second.id)}
    assert match.is_match and match.home_id == project.id and store.projects.list()[-1].id == match.id
    assert store.rounds.newest(project.id).match_id == match.id
    label_all(store, match)
    here, other = ranking(store, project.id), store.projects.ensure("other")
    assert here.votes == ranking(store, match.id).votes == 10 and ranking(store, other.id).votes == 0
    listed = rounds.rounds(store, project.id)
    assert listed[1].against_base.votes == listed[1].against_before.votes == 5


def test_a_sampling_that_was_stopped_or_failed_goes_on(store: Store, project: Project, workers: Workers) -> None:
    world(store, project)
    said = workers.server.answer
    workers.server.answer = lambda body: 400 if body["messages"][-1]["content"] == "Q3" else said(body)
    with pytest.raises(WorkerError):
        go(store, workers, project, wait=False)
    assert next_step(store, project.id).kind == SAMPLE
    stop = threading.Event()
    report = go(store, workers, project, wait=False, stop=stop, told=lambda step: stop.set())
    assert report.cancelled and report.step.kind == SAMPLE and "Stopped" in report.sentence()
    workers.server.answer = said
    report = go(store, workers, project, wait=False)
    assert (report.sampled.pairs, report.step.total) == (1, 5)  # of six prompts one is kept to compare on


def test_a_pair_that_is_set_aside_does_not_hold_a_round_up(
    store: Store, project: Project, workers: Workers, trained_at_once: None
) -> None:
    world(store, project)
    go(store, workers, project, wait=False)
    label_all(store, project, most=3)
    for row in store.items.pairs(project.id, 0, 1000):
        if not store.items.get(row["id"]).label_count:
            shown = store.items.response_ids(row["id"])
            store.labels.add(row["id"], "ann", "skip", client_id=f"skip{row['id']}", shown_response_ids=shown)
    step = next_step(store, project.id)
    assert (step.total, step.done, step.labelled) == (5, 5, 3)
    assert go(store, workers, project, wait=False).match is not None


def test_a_round_of_which_all_is_set_aside_ends(store: Store, project: Project, workers: Workers) -> None:
    world(store, project)
    go(store, workers, project, wait=False, most=1)
    (row,) = [row for row in store.items.pairs(project.id, 0, 1000) if not store.items.get(row["id"]).label_count]
    shown = store.items.response_ids(row["id"])
    store.labels.add(row["id"], "ann", "flag", client_id="flagged1", shown_response_ids=shown)
    with pytest.raises(ConfigError, match="set aside"):
        go(store, workers, project, wait=False)
    assert next_step(store, project.id).round is None


def test_the_labels_there_are_can_be_enough_and_the_others_come_in_the_next_round(
    store: Store, project: Project, workers: Workers, trained_at_once: None
) -> None:
    first, enough = world(store, project), threading.Event()
    enough.set()
    go(store, workers, project, wait=False)
    label_all(store, project, most=2)
    report = go(store, workers, project, wait=False, enough=enough)
    assert report.match is not None
    compared(store, f"run-{first.id}", "base:demo", 9)  # so that the same run is sampled again
    compared(store, f"run-{first.id}", f"run-{report.step.run.id}", 9)
    report = go(store, workers, project, wait=False)
    assert report.step.run.id == first.id and (report.step.total, report.step.done) == (3, 0)  # of four, one is kept


def test_a_round_with_nothing_held_out_ends_after_its_run(
    store: Store, project: Project, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(store: Store, project: Project, config, device, free) -> Run:  # noqa: ANN001
        run = job.create(store, project, config)
        store.runs.end(run.id, "finished", adapter="a")
        return store.runs.get(run.id)

    monkeypatch.setattr(job, "start", start)
    monkeypatch.setattr(next_round, "MOST_COMPARED", 0)
    world(store, project)
    go(store, workers, project, wait=False)
    label_all(store, project)
    report = go(store, workers, project, wait=False)
    assert report.match is None and "nothing to compare it on" in report.sentence()
    assert next_step(store, project.id).kind == SAMPLE


def test_a_comparison_in_which_all_say_the_same_ends_its_round(
    store: Store, project: Project, workers: Workers, trained_at_once: None
) -> None:
    world(store, project)
    go(store, workers, project, wait=False)
    label_all(store, project)
    workers.server.answer = lambda body: "Always this."
    report = go(store, workers, project, wait=False)
    assert report.match.pairs == 0 and report.match.alike > 0
    assert next_step(store, project.id).kind == SAMPLE and len([each for each in store.projects.list() if each.is_match]) == 1


def test_a_comparison_that_was_stopped_is_played_on(
    store: Store, project: Project, workers: Workers, trained_at_once: None
) -> None:
    world(store, project)
    go(store, workers, project, wait=False, most=1)
    label_all(store, project)
    stop = threading.Event()
    report = go(store, workers, project, wait=False, stop=stop, progress=lambda done, total: done and stop.set())
    assert report.match.cancelled and next_step(store, project.id).kind == COMPARE
    again = go(store, workers, project, wait=False)
    assert again.match.project == report.match.project and again.match.pairs == 10


def test_a_round_whose_run_fails_says_so_and_trains_anew(
    store: Store, project: Project, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    world(store, project)
    go(store, workers, project, wait=False)
    label_all(store, project)
    monkeypatch.setattr(job, "start", lambda store, project, config, device, free: job.create(store, project, config))

    def told(step: Step) -> None:
        if step.kind == TRAIN and step.run.is_active:
            store.runs.end(step.run.id, "failed", "Out of memory.")

    with pytest.raises(TrainingError, match="is failed: Out of memory. The labels are kept"):
        go(store, workers, project, wait=False, told=told)
    failed = next_step(store, project.id)
    assert (failed.kind, failed.run.state) == (TRAIN, "failed")
    with pytest.raises(TrainingError):
        go(store, workers, project, wait=False, told=told)
    assert next_step(store, project.id).run.id > failed.run.id


def test_a_round_waits_for_a_run_of_another_project(
    store: Store, project: Project, workers: Workers, monkeypatch: pytest.MonkeyPatch, trained_at_once: None
) -> None:
    world(store, project)
    go(store, workers, project, wait=False)
    label_all(store, project)
    other = store.runs.create(store.projects.ensure("other").id, "dpo", "demo", {}, ())
    looks = []

    def told(step: Step) -> None:
        looks.append(step.kind)
        if len(looks) == 5:
            assert store.runs.list(project.id)[0].id < other.id  # nothing was started meanwhile
            store.runs.end(other.id, "cancelled", "")

    report = go(store, workers, project, told=told)
    assert looks[:5] == [LABEL] * 5 and report.step.run.id > other.id


def test_a_round_can_be_given_up(store: Store, project: Project, workers: Workers) -> None:
    world(store, project)
    go(store, workers, project, wait=False, most=2)
    give_up(store, project.id)
    assert next_step(store, project.id).round is None
    label_all(store, project)
    begin(store, project.id)
    assert next_step(store, project.id).kind == SAMPLE
    for row in store.prompts.unlabelled(project.id):
        ids = [store.responses.add(row, text)[0] for text in ("x", "y")]
        store.items.add(project.id, row, ids)
    label_all(store, project)
    with pytest.raises(ConfigError, match="Every prompt of this project is labelled"):
        begin(store, project.id)


def test_a_fifth_of_the_prompts_is_kept_to_compare_on() -> None:
    assert [how_many(each) for each in (0, 1, 2, 5, 10, 100, 1000)] == [0, 1, 1, 4, 8, 80, 960]
    assert [how_many(1000, 50), how_many(10, 50)] == [50, 8]


def test_answers_that_are_always_the_same_end_a_round_in_a_sentence(
    store: Store, project: Project, workers: Workers
) -> None:
    workers.server.answer = lambda body: "Always this."
    world(store, project)
    with pytest.raises(ConfigError, match="keeps saying the same"):
        go(store, workers, project, most=1, wait=False)
    assert next_step(store, project.id).round is None


def test_training_on_top_keeps_the_settings_and_lowers_the_rate_once(
    store: Store, project: Project, workers: Workers, trained_at_once: None
) -> None:
    first = world(store, project)
    run = train_on_top(store, workers, project, first)
    assert (run.config["start_run"], run.config["lora_rank"], run.config["learning_rate"]) == (first.id, 6, 0.001)
    assert run.config["loss"] == first.config["loss"]
    again = train_on_top(store, workers, project, run)
    assert (again.config["start_run"], again.config["learning_rate"]) == (run.id, 0.001)


def test_nothing_goes_on_from_what_votes_put_below_the_base(store: Store, project: Project, workers: Workers) -> None:
    run = world(store, project)
    compared(store, "base:demo", f"run-{run.id}", 30)
    compared(store, f"run-{run.id}", "base:demo", 1)
    with pytest.raises(ConfigError, match="under its base"):
        go(store, workers, project)
