"""Matches of two models over a list of prompts, and rounds: sample the best, label, train on top."""

from __future__ import annotations

import threading

import pytest

from arena import matches, rounds
from arena.ranking import ranking
from chat.speakers import Speaker, base_speaker
from errors import AppError, ConfigError
from models.client import Sampling
from storage import Project, Store
from tests.arena_world import BASE, Workers, asked, compared, finished, labelled, server
from tests.completion_server import CompletionServer

__all__ = ["server"]  # fixtures


def test_a_match_uses_prompts_that_neither_was_trained_on(store: Store, project: Project) -> None:
    prompts = asked(store, project, 4)
    run = finished(store, project, (labelled(store, project, prompts[1]),))
    tuned = Speaker("demo", run.id, "Run 1")
    assert [each[-1]["content"] for each in matches.held_out(store, project.id, (BASE, tuned))] == ["Q0", "Q2", "Q3"]
    assert len(matches.held_out(store, project.id, (BASE, base_speaker("other")))) == 4
    on_top = finished(store, project, (), start_run=run.id)
    later = Speaker("demo", on_top.id, "Run 2")
    assert len(matches.held_out(store, project.id, (BASE, later))) == 3  # what the run before learned is known too
    store.runs.hold_out(run.id, store.runs.label_ids(run.id))
    assert len(matches.held_out(store, project.id, (BASE, tuned))) == 4  # it only measured on it
    store.db.execute("UPDATE run_labels SET held_out = 0")
    store.db.conn.commit()
    copy = store.projects.ensure("copy")
    asked(store, copy, 2)
    assert [each[-1]["content"] for each in matches.held_out(store, copy.id, (BASE, tuned))] == ["Q0"]


def test_a_match_is_voted_on_like_any_labels_and_ranked(store: Store, project: Project, server: CompletionServer) -> None:
    run = finished(store, project)
    tuned = Speaker("demo", run.id, "Run 1 · DPO")
    prompts = [[{"role": "user", "content": f"Q{n}"}] for n in range(12)]
    played = matches.prepare(store, (BASE, tuned), prompts)
    assert played.name.startswith("Arena: Base (demo) against Run 1 · DPO") and "better" in played.guidelines
    report = matches.play(store, Workers(server), played, (BASE, tuned), Sampling(seed=3))
    assert (report.prompts, report.pairs, report.alike, report.failed) == (12, 12, 0, {})
    assert "12 pairs of 12 prompts" in report.sentence()
    cards = [store.items.card(row["id"]) for row in store.items.pairs(played.id, 0, 100)]
    assert {tuple(each.run_id for each in card.responses) for card in cards} == {(None, run.id)}
    for number, card in enumerate(cards):
        chosen = card.responses[1 if number < 10 else 0]
        store.labels.add(
            card.item.id, "ann", "chosen", client_id=f"m{card.item.id}", chosen_response_id=chosen.id,
            shown_response_ids=[each.id for each in card.responses],
        )
    (only,) = ranking(store).duels
    assert (only.model, only.other, only.wins, only.losses) == (f"run-{run.id}", "base:demo", 10, 2)
    assert ranking(store, project.id).votes == 12  # it was played for the project of its run
    assert ranking(store, store.projects.ensure("other").id).votes == 0


def test_the_first_of_three_answers_anew_for_each_other(store: Store, project: Project, server: CompletionServer) -> None:
    runs = [finished(store, project) for _ in range(2)]
    speakers = [Speaker("demo", runs[1].id, "Run 2"), BASE, Speaker("demo", runs[0].id, "Run 1")]
    played = matches.prepare(store, speakers, [[{"role": "user", "content": f"Q{n}"}] for n in range(5)])
    report = matches.play(store, Workers(server), played, speakers)
    assert (report.pairs, report.alike) == (10, 0)
    shown = [response.id for row in store.items.pairs(played.id, 0, 100) for response in store.items.card(row["id"]).responses]
    assert len(set(shown)) == 20  # nobody meets an answer twice, and knows from the first time whose it is
    again = matches.play(store, Workers(server), played, speakers)
    assert again.pairs == 10 and len(server.requests) == 20  # played on, nothing was left to ask


def test_prompts_to_which_both_say_the_same_have_nothing_to_vote_on(store: Store, project: Project, server: CompletionServer) -> None:
    run = finished(store, project)
    server.answer = lambda body: "same" if body["messages"][-1]["content"] == "Q0" else f"{body['model']} {body['seed']}"
    speakers = (BASE, Speaker("demo", run.id, "Run 1"))
    played = matches.prepare(store, speakers, [[{"role": "user", "content": f"Q{n}"}] for n in range(3)])
    report = matches.play(store, Workers(server), played, speakers)
    assert (report.pairs, report.alike) == (2, 1) and "In 1 case both models kept saying the same" in report.sentence()


def test_a_prompt_that_cannot_be_answered_leaves_the_others_to_vote_on(store: Store, project: Project, server: CompletionServer) -> None:
    run = finished(store, project)
    said = server.answer
    server.answer = lambda body: 400 if body["messages"][-1]["content"] == "Q1" else said(body)
    speakers = (BASE, Speaker("demo", run.id, "Run 1"))
    played = matches.prepare(store, speakers, [[{"role": "user", "content": f"Q{n}"}] for n in range(4)])
    report = matches.play(store, Workers(server), played, speakers)
    assert (report.prompts, report.pairs, report.alike) == (4, 3, 0) and report.failed
    assert "3 pairs of 4 prompts" in report.sentence() and "failed" in report.sentence()
    server.answer = lambda body: 400
    empty = matches.prepare(store, speakers, [[{"role": "user", "content": "Q1"}], [{"role": "user", "content": "Q9"}]])
    with pytest.raises(AppError):
        matches.play(store, Workers(server), empty, speakers)


def test_a_cancelled_match_leaves_what_both_have_answered(
    store: Store, project: Project, server: CompletionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matches, "PROMPTS_AT_ONCE", 2)
    run = finished(store, project)
    speakers, stop, told = (BASE, Speaker("demo", run.id, "Run 1")), threading.Event(), []

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        if done >= 5:
            stop.set()

    played = matches.prepare(store, speakers, [[{"role": "user", "content": f"Q{n}"}] for n in range(10)])
    report = matches.play(store, Workers(server), played, speakers, progress=progress, stop=stop)
    assert report.cancelled and 2 <= report.pairs < 10 and "Cancelled" in report.sentence()
    assert {total for _, total in told} == {20} and [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_match_takes_evenly_spread_prompts_and_refuses_nonsense(store: Store, project: Project) -> None:
    prompts = matches.written("\n".join(f"Q{n}" for n in range(10)) + "\nQ1\n\n")
    assert len(prompts) == 10
    speakers = (BASE, Speaker("demo", finished(store, project).id, "Run 1"))
    played = matches.prepare(store, speakers, prompts, 5)
    assert [each.messages[0]["content"] for each in store.prompts.list(played.id)] == ["Q0", "Q2", "Q4", "Q6", "Q8"]
    with pytest.raises(ConfigError, match="two different models. There is no prompt"):
        matches.prepare(store, (BASE, BASE), [])


def test_rounds_are_listed_with_their_win_rates_over_the_base_and_the_one_before(store: Store, project: Project) -> None:
    first = finished(store, project)
    second = finished(store, project, start_run=first.id)
    compared(store, f"run-{first.id}", "base:demo", 9)
    compared(store, "base:demo", f"run-{first.id}", 3)
    compared(store, f"run-{second.id}", f"run-{first.id}", 8)
    listed = rounds.rounds(store, project.id)
    assert [(each.number, each.run.id) for each in listed] == [(1, first.id), (2, second.id)]
    assert (listed[0].against_base.wins, listed[0].against_base.losses) == (9, 3)
    assert listed[0].before is None and listed[0].against_before is None and listed[1].against_base is None
    assert listed[1].before.id == first.id and listed[1].against_before.rate == 1.0
    assert rounds.best(store, project.id).id == second.id


def test_a_run_that_votes_put_below_the_base_is_not_gone_on_from(store: Store, project: Project) -> None:
    run = finished(store, project)
    compared(store, "base:demo", f"run-{run.id}", 38)
    compared(store, f"run-{run.id}", "base:demo", 2)
    assert rounds.best(store, project.id) is None
