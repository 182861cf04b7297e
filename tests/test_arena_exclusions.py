"""Which answers name the model that wrote them: a run's by its base too."""

from __future__ import annotations

import pytest

from arena import exclusions
from arena.ranking import ranking
from storage import Project, Store
from storage.comparisons import Compared, Comparison


def between(first: str, second: str, said: str) -> Comparison:
    """Return a blind vote for the first of two models, which said this."""
    return Comparison(Compared(first, said, "stop"), Compared(second, "Yes.", "stop"), "first", "ann", True, "chat", 1, 0.0)


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "Hello! I am SmolLM, at your service."),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "I'm SmolLM2-135M-Instruct."),
        ("org/Zephyr-7b", "My name is Zephyr."),
        ("/home/me/models/Zephyr-7b@main", "I am an AI assistant called Zephyr-7b."),
        ("C:\\models\\house-helper", "I am house-helper."),
        ("org/Model-2-chat", "I am model-2-chat."),
    ],
)
def test_a_run_that_names_its_base_is_no_blind_vote(base: str, said: str) -> None:
    bases = {"run-1": base, "run-2": "org/Other-1b"}
    for sides in (("run-1", "run-2"), ("run-2", "run-1"), ("run-1", f"base:{base}")):
        assert exclusions.reason(between(*sides, said), bases) == exclusions.NAMES_ITSELF


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("demo", "I am a demo."),
        ("org/Zephyr-7b", "I am fond of a zephyr."),
        ("org/Zephyr-7b", "I am Zephyrine."),
        ("org/tiny-2b", "I am tiny."),
        ("org/Tiny-1B", "I am tiny."),
        ("org/Zeal-1B", "I am zeal itself."),
        ("org/Model-2-chat", "I am a language model and cannot do this."),
        ("org/Assistant-7B", "I am an assistant."),
        ("org/Assistant-7B", "I am an AI Assistant."),
        ("/models/Assistant", "I am an Assistant."),
        ("org/Open-1B", "I am an open book."),
        ("org/Open-1B", "I am Open."),
        ("org/Instruct-1B", "As Instruct says."),
        ("/models/base", "I am the base."),
        ("org/Other-1b", "I am Zephyr."),
    ],
)
def test_a_run_may_say_what_names_no_model_of_the_vote(base: str, said: str) -> None:
    assert exclusions.reason(between("run-1", "run-2", said), {"run-1": base, "run-2": base}) is None


def test_the_base_of_a_run_counts_only_where_it_is_told() -> None:
    vote = between("run-1", "run-2", "My name is Zephyr.")
    assert exclusions.reason(vote) is None
    assert exclusions.reason(vote, {"run-1": "org/Zephyr-7b"}) == exclusions.NAMES_ITSELF
    assert exclusions.reason(between("base:org/Zephyr-7b", "run-2", "My name is Zephyr.")) == exclusions.NAMES_ITSELF


def test_the_ranking_knows_the_base_of_each_run(store: Store, project: Project) -> None:
    run = store.runs.create(project.id, "dpo", "org/Zephyr-7b", {}, ())
    for said in ("I am Zephyr.", "I am here to help."):
        chat = store.chats.create([f"run-{run.id}", "base:org/Zephyr-7b"], {}, is_blind=True)
        question = store.chats.add_message(chat.id, "user", "Who are you?")
        for side, text in enumerate((said, "Yes.")):
            store.chats.add_message(
                chat.id, "assistant", text, side=side, model=chat.models[side], settings={"question_id": question},
                finish_reason="stop",
            )
        store.chats.add_vote(question, "ann", "chosen", 0)
    found = ranking(store)
    assert found.votes == 1 and found.excluded == {exclusions.NAMES_ITSELF: 1}
