"""Votes in a chat become ordinary labels: pairs, good and bad, better answers; blind ones are final."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from chat import view, votes
from chat.session import Question, SideBySide, ask
from chat.speakers import Speaker, base_speaker
from chat.transcript import reopen, turns
from errors import ConfigError, LabelError, NotFoundError
from storage import Project, Store
from tests.openai_server import FakeWorkers, Manner, SpeakingServer, speaking_server

BASE = base_speaker("demo")


class Room:
    """A chat of a project: what is asked in it, and what its models say."""

    def __init__(self, store: Store, project: Project, server: SpeakingServer) -> None:
        self.store, self.project, self.server = store, project, server
        run = store.runs.create(project.id, "dpo", "demo", {}, [])
        store.runs.end(run.id, "finished", adapter="a")
        self.tuned = Speaker("demo", run.id, "Run 1 · DPO")
        self.chat_id: int | None = None

    def ask(self, text: str, says: tuple[str, ...] = ("One.", "Two."), speakers=None, **options) -> SideBySide:  # noqa: ANN001, ANN003
        speakers = speakers or (BASE, self.tuned)
        names = [speaker.served_name for speaker in speakers]
        self.server.manners.update({name: Manner([said]) for name, said in zip(names, says)})
        project_id = options.pop("project_id", self.project.id)
        question = Question(text, tuple(speakers), chat_id=self.chat_id, project_id=project_id, **options)
        last = list(ask(self.store, FakeWorkers({"demo": self.server}), question, threading.Event()))[-1]
        self.chat_id = last.chat_id
        return last

    def judged(self) -> list[tuple]:
        """Return each current label as its verdict, its prompt's texts and its responses, the chosen one first."""
        found = []
        for row in self.store.labels.judged(self.project.id):
            texts = [each["text"] for each in sorted(row["responses"], key=lambda each: not each["chosen"])]
            found.append((row["said"], [message["content"] for message in row["messages"]], texts))
        return found


@pytest.fixture
def room(store: Store, project: Project) -> Iterator[Room]:
    with ExitStack() as stack:
        yield Room(store, project, stack.enter_context(speaking_server(base=Manner())))


def test_a_vote_is_a_pair_with_the_conversation_as_its_prompt(room: Room) -> None:
    asked = room.ask("Capital?", system="Be brief.")
    votes.vote(room.store, asked.question_id, "B", "ann")
    assert room.judged() == [("chosen", ["Be brief.", "Capital?"], ["Two.", "One."])]
    label = room.store.labels.get(1)
    assert (label.source, label.annotator, label.active_seconds) == ("chat", "ann", None)
    card = room.store.items.card(label.item_id)
    assert [response.run_id for response in card.responses] == [None, room.tuned.run_id]
    assert [response.settings["finish_reason"] for response in card.responses] == ["stop", "stop"]
    assert label.shown_response_ids == [response.id for response in card.responses]


@pytest.mark.parametrize(("choice", "said"), [("tie", "tie"), ("both_bad", "both_bad")])
def test_a_tie_and_both_bad_are_labels_of_the_pair(room: Room, choice: str, said: str) -> None:
    votes.vote(room.store, room.ask("Capital?").question_id, choice, "ann")
    assert room.store.labels.counts(room.project.id) == {said: 1}


def test_after_a_vote_all_sides_go_on_from_the_preferred_answer(room: Room) -> None:
    votes.vote(room.store, room.ask("First?").question_id, "B", "ann")
    asked = room.ask("Second?", ("Three.", "Four."))
    sent = [request["messages"] for request in room.server.requests[-2:]]
    assert sent[0] == sent[1] and [message["content"] for message in sent[0]] == ["First?", "Two.", "Second?"]
    votes.vote(room.store, asked.question_id, "A", "ann")
    assert room.judged()[1] == ("chosen", ["First?", "Two.", "Second?"], ["Three.", "Four."])


def test_sides_that_were_told_different_conversations_give_a_good_and_a_bad_answer(room: Room) -> None:
    room.ask("First?")
    votes.vote(room.store, room.ask("Second?", ("Three.", "Four.")).question_id, "B", "ann")
    assert sorted(room.judged()) == [
        ("bad", ["First?", "One.", "Second?"], ["Three."]), ("good", ["First?", "Two.", "Second?"], ["Four."]),
    ]


def test_going_on_from_the_preferred_answer_can_be_switched_off(room: Room) -> None:
    votes.vote(room.store, room.ask("First?").question_id, "B", "ann")
    room.ask("Second?", goes_on=False)
    sent = {request["model"]: request["messages"][1]["content"] for request in room.server.requests[-2:]}
    assert sent == {"base": "One.", room.tuned.served_name: "Two."}


def test_of_four_answers_the_best_is_preferred_to_each_other_one(room: Room) -> None:
    for _ in range(2):
        run = room.store.runs.create(room.project.id, "dpo", "demo", {}, [])
        room.store.runs.end(run.id, "finished", adapter="a")
    speakers = [BASE, *(Speaker("demo", number, f"Run {number}") for number in (1, 2, 3))]
    asked = room.ask("Capital?", ("One.", "Two.", "Three.", "Four."), speakers)
    votes.vote(room.store, asked.question_id, "C", "ann")
    assert [texts for _, _, texts in room.judged()] == [["Three.", "One."], ["Three.", "Two."], ["Three.", "Four."]]
    compared = list(room.store.comparisons.of_models(room.project.id))
    assert [(each.first.model, each.second.model, each.verdict) for each in compared] == [
        ("base:demo", "run-2", "second"), ("run-1", "run-2", "second"), ("run-2", "run-3", "first"),
    ]


@pytest.mark.parametrize("says", [("Same.", "Same. "), ("", "Two.")])
def test_equal_or_empty_answers_count_as_a_vote_but_are_no_example(room: Room, says: tuple[str, str]) -> None:
    votes.vote(room.store, room.ask("Capital?", says).question_id, "tie", "ann")
    assert room.judged() == [] and len(room.store.chats.votes(room.chat_id)) == 1


def test_an_answer_cut_at_the_limit_is_no_example(room: Room) -> None:
    room.server.manners["base"] = Manner(["On and"], finish_reason="length")
    question = Question("Capital?", (BASE, room.tuned), project_id=room.project.id)
    room.server.manners[room.tuned.served_name] = Manner(["Two."])
    last = list(ask(room.store, FakeWorkers({"demo": room.server}), question, threading.Event()))[-1]
    votes.vote(room.store, last.question_id, "B", "ann")
    assert room.judged() == []
    (compared,) = room.store.comparisons.of_models()
    assert compared.first.finish_reason == "length"


def test_a_vote_before_the_answers_have_ended_becomes_a_label_at_their_end(room: Room) -> None:
    name = room.tuned.served_name
    room.server.manners.update({"base": Manner(["One."]), name: Manner(["w "] * 30, pause_seconds=0.03)})
    question = Question("Capital?", (BASE, room.tuned), project_id=room.project.id)
    voted_early = False
    for snapshot in ask(room.store, FakeWorkers({"demo": room.server}), question, threading.Event()):
        if not voted_early:
            assert not snapshot.is_done
            votes.vote(room.store, snapshot.question_id, "A", "ann")
            voted_early = not room.judged()
    assert voted_early
    votes.settle(room.store, snapshot.question_id)
    assert [texts[0] for _, _, texts in room.judged()] == ["One."]
    votes.settle(room.store, snapshot.question_id)
    assert len(room.judged()) == 1


def test_a_named_vote_can_be_changed_and_the_newest_counts(room: Room) -> None:
    asked = room.ask("Capital?")
    votes.vote(room.store, asked.question_id, "A", "ann")
    votes.vote(room.store, asked.question_id, "B", "ann")
    votes.vote(room.store, asked.question_id, "tie", "bob")
    assert [texts for said, _, texts in room.judged() if said == "chosen"] == [["Two.", "One."]]
    said = [(each.annotator, each.verdict, each.is_blind) for each in room.store.comparisons.of_models()]
    assert said == [("ann", "second", False), ("bob", "tie", False)]


def test_a_blind_vote_is_final_and_the_next_question_begins_another_chat(room: Room) -> None:
    asked = room.ask("Capital?", is_blind=True)
    again = room.ask("And of Italy?", is_blind=True)
    assert again.chat_id == asked.chat_id
    votes.vote(room.store, again.question_id, "A", "ann")
    with pytest.raises(LabelError, match="final"):
        votes.vote(room.store, again.question_id, "B", "bob")
    assert room.ask("Next", is_blind=True).chat_id != asked.chat_id


def test_blind_sides_are_shuffled_and_both_orders_come(room: Room) -> None:
    orders = set()
    for number in range(40):
        room.chat_id = None
        asked = room.ask(f"Question {number}", is_blind=True)
        orders.add(tuple(room.store.chats.get(asked.chat_id).models))
        said = {speaker.key: text for speaker, text in zip((BASE, room.tuned), ("One.", "Two."))}
        assert [answer.text for answer in asked.answers] == [said[answer.speaker.key] for answer in asked.answers]
        if len(orders) == 2:
            break
    assert len(orders) == 2


def test_a_question_asked_anew_takes_the_place_of_the_old_one_and_what_came_after(room: Room) -> None:
    first = room.ask("First?")
    second = room.ask("Second?")
    room.ask("Third?")
    room.ask("Second, better?", ("Five.", "Six."), replaces=second.question_id)
    shown = turns(room.store, room.chat_id)
    assert [turn.question.content for turn in shown] == ["First?", "Second, better?"]
    assert [message["content"] for message in room.server.requests[-1]["messages"]][0] == "First?"
    assert shown[0].question.id == first.question_id
    with pytest.raises(LabelError, match="anew"):
        votes.rate(room.store, second.question_id, 0, True, "ann")
    for choice in ("A", "tie", "both_bad"):
        with pytest.raises(LabelError, match="anew"):
            votes.vote(room.store, second.question_id, choice, "ann")
    assert room.store.chats.votes(room.chat_id) == []


def test_a_thumb_labels_one_answer_and_is_taken_back(room: Room) -> None:
    asked = room.ask("Capital?")
    votes.rate(room.store, asked.question_id, 1, True, "ann")
    assert room.judged() == [("good", ["Capital?"], ["Two."])]
    votes.rate(room.store, asked.question_id, 1, False, "ann")
    assert room.judged() == [("bad", ["Capital?"], ["Two."])]
    votes.rate(room.store, asked.question_id, 1, None, "ann")
    assert room.judged() == []


def test_a_better_answer_is_preferred_to_the_one_it_was_made_from(room: Room) -> None:
    asked = room.ask("Capital?")
    votes.improve(room.store, asked.question_id, 0, "One, and more.", "ann")
    (row,) = room.store.labels.judged(room.project.id)
    assert [(each["text"], each["chosen"]) for each in row["responses"]] == [("One, and more.", True), ("One.", False)]
    with pytest.raises(LabelError, match="Change the answer"):
        votes.improve(room.store, asked.question_id, 0, " One. ", "ann")


def test_the_first_vote_of_a_blind_chat_ends_all_voting_in_it(room: Room) -> None:
    first = room.ask("First?", is_blind=True)
    second = room.ask("Second?", is_blind=True)
    votes.vote(room.store, second.question_id, "A", "ann")
    with pytest.raises(LabelError, match="final"):
        votes.vote(room.store, first.question_id, "B", "bob")


def three(room: Room) -> list[Speaker]:
    for _ in range(2):
        run = room.store.runs.create(room.project.id, "dpo", "demo", {}, [])
        room.store.runs.end(run.id, "finished", adapter="a")
    return [BASE, Speaker("demo", 1, "Run 1"), Speaker("demo", 2, "Run 2")]


@pytest.mark.parametrize(("before", "after"), [("A", "B"), ("tie", "C"), ("C", "both_bad"), ("B", "A")])
def test_a_changed_vote_leaves_no_label_of_what_was_said_before(room: Room, before: str, after: str) -> None:
    asked = room.ask("Capital?", ("One.", "Two.", "Three."), three(room))
    votes.vote(room.store, asked.question_id, before, "ann")
    votes.vote(room.store, asked.question_id, after, "ann")
    changed = sorted(room.judged())
    room.chat_id = None
    again = room.ask("Capital of Italy?", ("One.", "Two.", "Three."), three(room)[:3])
    votes.vote(room.store, again.question_id, after, "ann")
    fresh = sorted((said, texts) for said, prompt, texts in room.judged() if prompt == ["Capital of Italy?"])
    assert sorted((said, texts) for said, _, texts in changed) == fresh


def test_a_vote_on_different_conversations_that_becomes_a_tie_leaves_nothing(room: Room) -> None:
    room.ask("First?")
    asked = room.ask("Second?", ("Three.", "Four."))
    votes.vote(room.store, asked.question_id, "A", "ann")
    assert len(room.judged()) == 2
    votes.vote(room.store, asked.question_id, "tie", "ann")
    assert room.judged() == []
    votes.vote(room.store, asked.question_id, "A", "ann")
    assert len(room.judged()) == 2


def test_whose_answer_is_gone_on_from_his_whole_conversation_is(room: Room) -> None:
    room.ask("First?")  # no vote: each side goes on from its own
    votes.vote(room.store, room.ask("Second?", ("Three.", "Four.")).question_id, "B", "ann")
    asked = room.ask("Third?", ("Five.", "Six."))
    sent = [[message["content"] for message in request["messages"]] for request in room.server.requests[-2:]]
    assert sent == [["First?", "Two.", "Second?", "Four.", "Third?"]] * 2
    votes.vote(room.store, asked.question_id, "A", "ann")
    assert room.judged()[-1] == ("chosen", sent[0], ["Five.", "Six."])


def test_votes_become_labels_when_the_answers_end_though_nobody_looks(room: Room) -> None:
    room.server.manners.update({"base": Manner(["One."]), room.tuned.served_name: Manner(["w "] * 20, pause_seconds=0.03)})
    question = Question("Capital?", (BASE, room.tuned), project_id=room.project.id)
    for snapshot in ask(room.store, FakeWorkers({"demo": room.server}), question, threading.Event()):
        if not room.store.chats.votes(snapshot.chat_id):
            votes.vote(room.store, snapshot.question_id, "A", "ann")
    assert [texts[0] for _, _, texts in room.judged()] == ["One."]


def test_votes_of_a_chat_that_a_crash_left_become_labels_later(room: Room) -> None:
    chat = room.store.chats.create(["base:demo", "run-1"], {}, room.project.id)
    for text in ("First?", "Second?"):
        question = room.store.chats.add_message(chat.id, "user", text)
        room.store.chats.add_vote(question, "ann", "chosen", 1)
        for side, model in enumerate(chat.models):
            room.store.chats.add_message(
                chat.id, "assistant", f"Answer {side} to {text}", side=side, model=model,
                settings={"question_id": question, "model": "demo", "run": side or None}, finish_reason="stop",
            )
    votes.settle_chat(room.store, chat.id)
    assert room.judged()[0] == ("chosen", ["First?"], ["Answer 1 to First?", "Answer 0 to First?"])
    count = len(room.judged())
    votes.settle_chat(room.store, chat.id)
    assert count >= 2 and len(room.judged()) == count


def test_a_better_answer_keeps_what_the_model_thought(room: Room) -> None:
    asked = room.ask("Capital?", ("<think>hm</think>\nParis.", "Two."))
    with pytest.raises(LabelError, match="Change the answer"):
        votes.improve(room.store, asked.question_id, 0, "Paris.", "ann")
    votes.improve(room.store, asked.question_id, 0, "It is Paris.", "ann")
    (row,) = room.store.labels.judged(room.project.id)
    assert row["responses"][0]["text"] == "<think>hm</think>\nIt is Paris."


def test_a_label_on_an_item_of_a_chat_is_no_second_comparison(room: Room) -> None:
    asked = room.ask("Capital?")
    votes.vote(room.store, asked.question_id, "A", "ann")
    label = room.store.labels.get(1)
    for who in ("ann", "bob"):
        room.store.labels.add(
            label.item_id, who, "chosen", client_id=f"later-{who}", shown_response_ids=label.shown_response_ids,
            chosen_response_id=label.shown_response_ids[1],
        )
    assert [(each.source, each.verdict) for each in room.store.comparisons.of_models()] == [("chat", "first")]


def test_a_side_that_gave_no_answer_cannot_win(room: Room) -> None:
    name = room.tuned.served_name
    room.server.manners.update({"base": Manner(["One."]), name: Manner(refuses=(500, "no memory left"))})
    question = Question("Capital?", (BASE, room.tuned), project_id=room.project.id)
    last = list(ask(room.store, FakeWorkers({"demo": room.server}), question, threading.Event()))[-1]
    with pytest.raises(LabelError, match="B gave no answer"):
        votes.vote(room.store, last.question_id, "B", "ann")
    votes.vote(room.store, last.question_id, "A", "ann")
    assert room.judged() == []


def test_everybody_finds_their_own_chat_again(room: Room) -> None:
    first = room.ask("Of ann", annotator="ann")
    room.chat_id = None
    second = room.ask("Of bob", annotator="bob")
    assert reopen(room.store, room.project.id, "ann").chat.id == first.chat_id
    assert reopen(room.store, room.project.id, "bob").chat.id == second.chat_id
    assert reopen(room.store, room.project.id, "eve").chat is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>bold</b> & 1 < 2", "&lt;b>bold&lt;/b> & 1 &lt; 2"),
        ("`a<b` and ```\n<script>\n``` <i>", "`a<b` and ```\n<script>\n``` &lt;i>"),
        ("$$a<b$$ \\(c<d\\) <", "$$a<b$$ \\(c<d\\) &lt;"),
    ],
)
def test_tags_are_read_not_obeyed_and_come_back_as_written(text: str, shown: str) -> None:
    assert view.as_read(text) == shown and view.written(shown) == text


def test_a_label_has_the_conversation_that_was_sent_not_what_no_longer_fitted(room: Room) -> None:
    room.ask("First?")
    name = room.tuned.served_name
    room.server.manners.update({"base": Manner(["Three."]), name: Manner(["Four."], fits=1)})
    question = Question("Second?", (BASE, room.tuned), chat_id=room.chat_id, project_id=room.project.id)
    last = list(ask(room.store, FakeWorkers({"demo": room.server}), question, threading.Event()))[-1]
    assert [answer.left_out for answer in last.answers] == [0, 2]
    votes.vote(room.store, last.question_id, "B", "ann")
    assert sorted(room.judged()) == [
        ("bad", ["First?", "One.", "Second?"], ["Three."]), ("good", ["Second?"], ["Four."]),
    ]


@pytest.mark.parametrize(
    ("question", "choice", "annotator", "error", "words"),
    [
        (None, "E", "ann", LabelError, "no vote 'E'"), (None, "C", "ann", LabelError, "2 models"),
        (None, "A", " ", LabelError, "your name"), (999, "A", "ann", NotFoundError, "no message"),
    ],
)
def test_a_vote_that_cannot_be_is_refused(room: Room, question, choice, annotator, error, words) -> None:  # noqa: ANN001
    asked = room.ask("Capital?")
    with pytest.raises(error, match=words):
        votes.vote(room.store, question or asked.question_id, choice, annotator)
    assert room.store.chats.votes(asked.chat_id) == []


def test_a_chat_without_a_project_keeps_votes_and_says_why_it_keeps_no_label(room: Room) -> None:
    asked = room.ask("Capital?", project_id=None)
    votes.vote(room.store, asked.question_id, "A", "ann")
    assert len(room.store.chats.votes(asked.chat_id)) == 1
    with pytest.raises(ConfigError, match="Choose a project"):
        votes.rate(room.store, asked.question_id, 0, True, "ann")


def test_labels_of_pairs_of_two_models_are_comparisons_too(store: Store, project: Project) -> None:
    run = store.runs.create(project.id, "dpo", "demo", {}, [])
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": "Hi"}])
    answers = [
        store.responses.add(prompt_id, text, model="demo", run_id=run_id, settings={"finish_reason": "stop"})[0]
        for text, run_id in (("a", None), ("b", run.id), ("c", None))
    ]
    mixed, _ = store.items.add(project.id, prompt_id, answers[:2])
    alike, _ = store.items.add(project.id, prompt_id, [answers[0], answers[2]])
    for item_id, shown in ((mixed, answers[:2]), (alike, [answers[0], answers[2]])):
        store.labels.add(
            item_id, "ann", "chosen", client_id=f"key-{item_id}", shown_response_ids=shown, chosen_response_id=shown[1]
        )
    (compared,) = store.comparisons.of_models(project.id)
    assert (compared.first.model, compared.second.model) == ("base:demo", f"run-{run.id}")
    assert (compared.verdict, compared.is_blind, compared.source) == ("second", True, "label")
