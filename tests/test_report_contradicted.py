"""A run contradicts the labels that are wrong: a tenth of a scripted person's pairs is flipped, and found again.

The pairs are answers that the demo model wrote, and the person prefers polite before plain before rude, as in
`test_preference_shift`. Chance finds a tenth.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from sklearn.metrics import average_precision_score

from demo.meter import measure as judged
from demo.prompts import STARTERS, Prompt
from models.adapters import AdapterSet
from models.decoding import Row, decode
from models.loading import load_base
from models.prompting import render_prompt
from models.wire import Sampling
from report import measure
from report.measured import Measured
from storage import Store
from training import job, run
from training.config import build
from training.dataset import summarise

PAIRS, WRONG_SHARE, SEEDS = 160, 0.1, (1, 2, 3)
ANSWERS_EACH = 6
MANNER_RANK = {"polite": 2, "plain": 1, "rude": 0}


@dataclass(frozen=True)
class Found:
    """What a run on flipped labels gives, and the items that are labelled the wrong way round."""

    measured: Measured
    wrong: set[int]
    store: Store

    @property
    def marks(self) -> list[bool]:
        """Whether each example is labelled the wrong way round."""
        return [example.item_id in self.wrong for example in self.measured.examples]


def pairs_of_the_demo() -> list[tuple[Prompt, str, str]]:
    """Return what the demo wrote to its prompts, two answers of different manners each, the better one first."""
    loaded = load_base("demo", "cpu")
    rows = [
        (prompt, Row(render_prompt(loaded.tokenizer, list(prompt)), Sampling(1.0, max_tokens=160, seed=1000 * number + place)))
        for place, prompt in enumerate(STARTERS)
        for number in range(ANSWERS_EACH)
    ]
    decode(loaded, AdapterSet(loaded.model, "demo"), [row for _, row in rows])
    pairs = []
    for (prompt, first), (_, second) in zip(rows[::2], rows[1::2]):
        texts = [loaded.tokenizer.decode(row.new_ids, skip_special_tokens=True) for row in (first, second)]
        ranks = [MANNER_RANK.get(judged(prompt, text).manner) for text in texts]
        if None not in ranks and ranks[0] != ranks[1]:
            pairs.append((prompt, *(texts if ranks[0] > ranks[1] else texts[::-1])))
    return random.Random(4).sample(pairs, PAIRS)


@pytest.fixture(scope="module", params=[SEEDS[:1], pytest.param(SEEDS, marks=pytest.mark.slow)], ids=["one seed", "all"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """One default DPO run for each seed, which draws the labels that are flipped and those held out."""
    pairs = pairs_of_the_demo()
    return [found_of(Store(tmp_path_factory.mktemp("flipped")), pairs, seed) for seed in request.param]


def found_of(store: Store, pairs: list[tuple[Prompt, str, str]], seed: int) -> Found:
    project = store.projects.ensure("Flipped")
    draws = random.Random(seed)
    wrong_places, wrong = set(draws.sample(range(PAIRS), round(WRONG_SHARE * PAIRS))), set()
    for place, (prompt, *texts) in enumerate(pairs):
        prompt_id, _ = store.prompts.add(project.id, prompt)
        ids = [store.responses.add(prompt_id, text, model="demo")[0] for text in texts]
        item_id, new = store.items.add(project.id, prompt_id, draws.sample(ids, 2))
        if not new:
            continue
        store.labels.add(
            item_id, "scripted", "chosen", client_id=f"{place}", shown_response_ids=ids,
            chosen_response_id=ids[place in wrong_places],
        )
        if place in wrong_places:
            wrong.add(item_id)
    settings = {"device": "cpu", "held_out_share": 0.2, "seed": seed}
    config = build("dpo", "demo", settings, summarise(store, project.id), {"hidden_size": 256})
    ended = run.execute(store, job.create(store, project, config).id, "cpu")
    assert ended.state == "finished", ended.message
    return Found(measure.execute(store, ended.id, "cpu"), wrong, store)


def test_wrong_labels_are_found_at_three_times_chance(found: list[Found]) -> None:
    for seed, each in zip(SEEDS, found):
        against = [-example.margin_after for example in each.measured.examples]
        precision, chance = average_precision_score(each.marks, against), sum(each.marks) / len(each.marks)
        print(f"seed {seed}: average precision {precision:.3f} of {len(each.marks)}, chance {chance:.3f}")
        assert len(each.marks) >= 0.95 * PAIRS and chance == pytest.approx(WRONG_SHARE, abs=0.01)
        assert precision >= 3 * chance


def test_the_list_begins_with_the_wrong_ones_and_says_all_that_a_person_needs(found: list[Found]) -> None:
    hits, wrong = 0, 0
    for each in found:
        listed = each.measured.contradicted
        weights = [one.weight for one in listed]
        assert weights == sorted(weights, reverse=True) and all(0 <= weight <= 1 for weight in weights)
        first = listed[: len(each.wrong)]
        hits, wrong = hits + sum(one.item_id in each.wrong for one in first), wrong + len(first)
        labels = {row["label_id"]: row for row in each.store.labels.judged(1, 1)}
        for one in first:
            row = labels[one.label_id]
            texts = {response["chosen"]: response["text"] for response in row["responses"]}
            assert (one.item_id, one.annotator) == (row["item_id"], "scripted")
            assert one.prompt == row["messages"][-1]["content"] and one.texts == (texts[True], texts[False])
    print(f"{hits} of the first {wrong} are wrong")
    assert hits >= 3 * WRONG_SHARE * wrong


def test_held_out_figures_have_intervals_and_the_run_moved_away_from_the_base(found: list[Found]) -> None:
    for each in found:
        figures, kl = each.measured.held_out, each.measured.kl
        print(figures, kl)
        for interval in (figures.loss_after, figures.likelier_after, figures.accuracy_after, figures.by_length):
            assert interval.low < interval.value < interval.high
        assert figures.accuracy_after.value > figures.likelier_before.value
        assert kl.low > 0
