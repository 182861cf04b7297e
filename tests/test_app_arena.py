"""Ranking, match and round as commands, with the real demo model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands import cli
from errors import AppError
from storage import Project, Store
from tests.arena_world import label_all


def result(capsys: pytest.CaptureFixture, *words: str) -> dict[str, Any]:
    """Run a command with --json in this process; return the object that is its last line."""
    cli([*words, "--json"], standalone_mode=False)
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_match_a_ranking_and_a_round_on_the_command_line(
    store: Store, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    data = ("--data", str(store.folder))
    for number in range(8):
        prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"What does owl {number} eat?"}])
        ids = [store.responses.add(prompt_id, text)[0] for text in ("Happy to help! Mice.", "Ugh, fine. Mice.")]
        item_id, _ = store.items.add(project.id, prompt_id, ids)
        store.labels.add(
            item_id, "ann", "chosen", client_id=f"c{item_id}", shown_response_ids=ids, chosen_response_id=ids[0]
        )
    assert result(capsys, "ranking", *data)["ranks"] == []
    trained = result(capsys, "train", "--project", project.name, "--method", "dpo", "--set", "steps=4", *data)
    assert trained["state"] == "finished"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("What do owls eat?\nWhat is the capital of France?\n怎么泡茶？\n", encoding="utf-8")
    played = result(capsys, "match", "base:demo", "run-1", "--prompts", str(prompts), "--seed", "1", *data)
    assert (played["prompts"], played["pairs"] + played["alike"]) == (3, 3) and played["project"].startswith("Arena: ")
    for row in store.items.pairs(store.projects.get(played["project"]).id, 0, 10):
        card = store.items.card(row["id"])
        tuned = next(each for each in card.responses if each.run_id == 1)
        store.labels.add(
            row["id"], "ann", "chosen", client_id=f"m{row['id']}", chosen_response_id=tuned.id,
            shown_response_ids=[each.id for each in card.responses],
        )
    ranked = result(capsys, "ranking", *data)
    assert [each["model"] for each in ranked["ranks"]] == ["run-1", "base:demo"]
    assert ranked["duels"][0]["wins"] + ranked["excluded"].get("an unfinished answer", 0) == played["pairs"]
    assert result(capsys, "ranking", "--project", project.name, *data)["votes"] == ranked["votes"]  # its run's match

    for text in ("What is rain?", "How do I light a campfire?", "Who are you?"):
        store.prompts.add(project.id, [{"role": "user", "content": text}])
    stands = result(capsys, "round", "--project", project.name, *data)
    assert (stands["step"], stands["sampled"]["run_id"], stands["sampled"]["prompts"]) == ("label", 1, 2)
    assert stands["pairs"] >= 1 and stands["labelled"] == 0
    label_all(store, project)
    ended = result(capsys, "round", "--project", project.name, *data)
    assert ended["run_id"] == 2 and store.runs.get(2).config["start_run"] == 1 and store.runs.get(2).state == "finished"
    assert ended["match"]["pairs"] + ended["match"]["alike"] == 2 * ended["match"]["prompts"] >= 2  # the one kept, at least


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("base:demo", "run-1"), "either --project or --prompts"),
        (("base:demo", "run-9", "--project", "Test project"), "'run-9' is no longer there"),
        (("base:demo", "base:demo", "--project", "Test project"), "two different models"),
    ],
)
def test_a_match_that_cannot_be_is_one_sentence(store: Store, project: Project, words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(AppError, match=sentence):
        cli(["match", *words, "--data", str(store.folder)], standalone_mode=False)
