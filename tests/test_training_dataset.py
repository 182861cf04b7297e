"""Labels → examples: what counts, what is left out, and the sentence that says so."""

from __future__ import annotations

import pytest

from errors import ConfigError
from storage import Project, Store
from training.dataset import (
    NO_LABELS,
    LabelSummary,
    paired_examples,
    snapshot_hash,
    summarise,
    summary_of,
    unpaired_examples,
)


def label(store: Store, project: Project, number: int, verdict: str, annotator: str = "ann") -> None:
    """Store prompt `number` with a pair ("better", "worse") or a single ("only") and label it."""
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Question {number}?"}])
    texts = ("only",) if verdict in ("good", "bad") else ("better", "worse")
    ids = [store.responses.add(prompt_id, text)[0] for text in texts]
    item_id, _ = store.items.add(project.id, prompt_id, ids)
    store.labels.add(
        item_id, annotator, verdict, client_id=f"{number}-{verdict}-{annotator}", shown_response_ids=ids,
        chosen_response_id=ids[0] if verdict == "chosen" else None,
    )


@pytest.fixture
def labelled(store: Store, project: Project) -> Store:
    """Three pairs, a tie, a bad pair, two good and one bad single, and a skip."""
    for number, verdict in enumerate(("chosen", "chosen", "chosen", "tie", "both_bad", "good", "good", "bad", "skip")):
        label(store, project, number, verdict)
    return store


def test_the_summary_counts_current_labels(labelled: Store, project: Project) -> None:
    summary = summarise(labelled, project.id)
    assert summary == LabelSummary(pairs=3, ties=1, both_bad=1, good=2, bad=1, prompts=7)
    assert summary == summary_of(labelled.labels.judged(project.id))
    assert (summary.desirable, summary.undesirable) == (5, 6)


def test_paired_examples_are_the_pairs_with_a_preferred_response(labelled: Store, project: Project) -> None:
    examples = paired_examples(labelled.labels.judged(project.id))
    assert [(example.messages[0]["content"], example.chosen, example.rejected) for example in examples] == [
        (f"Question {number}?", "better", "worse") for number in range(3)
    ]


def test_unpaired_examples_split_pairs_and_leave_ties_out(labelled: Store, project: Project) -> None:
    examples = unpaired_examples(labelled.labels.judged(project.id))
    seen = [(example.messages[0]["content"][9:-1], example.response, example.desirable) for example in examples]
    assert seen == [
        *[(str(number), text, text == "better") for number in range(3) for text in ("better", "worse")],
        ("4", "better", False), ("4", "worse", False), ("5", "only", True), ("6", "only", True), ("7", "only", False),
    ]
    summary = summarise(labelled, project.id)
    assert len(examples) == summary.examples(paired=False) == 11


def test_an_undone_label_is_not_trained_on(store: Store, project: Project) -> None:
    label(store, project, 1, "chosen")
    item = store.labels.latest(project.id, "ann")[0]
    store.labels.add(item.item_id, "ann", "undo", client_id="undo", shown_response_ids=item.shown_response_ids)
    assert paired_examples(store.labels.judged(project.id)) == []
    assert summarise(store, project.id).sentence == NO_LABELS


def test_the_same_labels_have_the_same_hash_and_any_change_another(labelled: Store, project: Project) -> None:
    rows = list(labelled.labels.judged(project.id))
    known = snapshot_hash(rows)
    assert len(known) == 64 and known == snapshot_hash(labelled.labels.judged(project.id))
    changes = (
        {"verdict": "tie"}, {"label_id": 99}, {"messages": [{"role": "user", "content": "Other?"}]},
        {"responses": [{**rows[0]["responses"][0], "text": "other"}, rows[0]["responses"][1]]},
    )
    hashes = {snapshot_hash([{**rows[0], **change}, *rows[1:]]) for change in changes}
    assert len({known, snapshot_hash(rows[1:]), *hashes}) == 6
    label(labelled, project, 1, "tie")
    assert snapshot_hash(labelled.labels.judged(project.id)) != known


def test_the_hash_of_plain_labels_is_what_earlier_versions_wrote(labelled: Store, project: Project) -> None:
    """A run that was cancelled before rankings came is taken up again only if this stays."""
    told = [
        [row["label_id"], row["verdict"], row["messages"], row["responses"]] for row in labelled.labels.judged(project.id)
    ]
    assert told[0] == [
        1, "chosen", [{"role": "user", "content": "Question 0?"}],
        [{"id": 1, "text": "better", "chosen": True}, {"id": 2, "text": "worse", "chosen": False}],
    ]
    assert snapshot_hash(labelled.labels.judged(project.id)) == (
        "94411c79947723552bc270b90c23b390e82cf365c47c82001e89b56b3e57fe37"
    )


def test_rankings_and_edits_are_counted_by_what_they_say(store: Store, project: Project) -> None:
    for number in range(3):
        prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Rank {number}?"}])
        ids = [store.responses.add(prompt_id, text)[0] for text in "abc"]
        item_id, _ = store.items.add(project.id, prompt_id, ids)
        store.labels.add(
            item_id, "ann", "ranked", client_id=f"ranked {number}", shown_response_ids=ids,
            ranking=[[each] for each in ids],
        )
        better, _ = store.responses.add(prompt_id, "d", author="bob")
        if number < 2:
            store.labels.add(
                item_id, "bob", "edited", client_id=f"edited {number}", shown_response_ids=ids,
                chosen_response_id=better, rejected_response_id=ids[0],
            )
    summary = summarise(store, project.id)
    assert summary.sentence == "3 rankings (as 9 pairs), 2 better answers written; DPO suggested"
    assert summary == summary_of(store.labels.judged(project.id))
    assert (summary.compared, summary.desirable, summary.undesirable, summary.prompts) == (11, 5, 5, 3)
    assert len(paired_examples(store.labels.judged(project.id))) == summary.examples(paired=True) == 11
    assert len(unpaired_examples(store.labels.judged(project.id))) == summary.examples(paired=False) == 10


@pytest.mark.parametrize(
    ("summary", "sentence"),
    [
        (
            LabelSummary(pairs=12, rankings=3, ranked_pairs=9, edits=2),
            "12 pairs, 3 rankings (as 9 pairs), 2 better answers written; DPO suggested",
        ),
        (
            LabelSummary(rankings=1, ranked_pairs=3, edits=1),
            "1 ranking (as 3 pairs), 1 better answer written; DPO suggested",
        ),
        (LabelSummary(pairs=38, ties=4), "38 pairs, 4 ties left out; DPO suggested"),
        (LabelSummary(good=30, bad=20), "30 good answers, 20 bad answers; KTO suggested"),
        (
            LabelSummary(pairs=2, good=9, bad=1, ties=1),
            "2 pairs, 9 good answers, 1 bad answer, 1 tie left out; KTO suggested",
        ),
        (
            LabelSummary(pairs=1),
            "1 pair; DPO needs at least two pairs with a preferred answer, here is 1: KTO can use these labels",
        ),
        (
            LabelSummary(good=3),
            "3 good answers; KTO needs good and bad answers, and all here are good: mark some bad ones",
        ),
        (LabelSummary(), NO_LABELS),
    ],
)
def test_one_sentence_says_what_there_is(summary, sentence) -> None:
    assert summary.sentence == sentence


def test_one_class_is_refused_for_kto_before_training() -> None:
    with pytest.raises(ConfigError, match="all here are good: mark some bad ones"):
        LabelSummary(good=12).check("kto")
    with pytest.raises(ConfigError, match="all here are bad: mark some good ones"):
        LabelSummary(both_bad=1).check("kto")
    LabelSummary(pairs=1).check("kto")


def test_fewer_than_two_pairs_are_refused_for_paired_methods() -> None:
    for method in ("dpo", "simpo", "orpo"):
        with pytest.raises(ConfigError, match="at least two pairs"):
            LabelSummary(pairs=1, good=5, bad=5).check(method)
