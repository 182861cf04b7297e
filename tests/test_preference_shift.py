"""The shift is real: a scripted annotator labels answers of the demo model, one default run moves the model.

Labels go the way a person's go (prompts, sampled responses, items, labels, one run, its adapter); the figures are
those of `python -m demo.evaluate` on held-out questions at temperature 0.8. Targets: three seeds each (`make bench`; one
in `make test`), and no mean hides a bad seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from demo.evaluate import Figures, evaluate
from demo.meter import measure
from demo.prompts import STARTERS, Prompt
from models import catalog
from models.client import Endpoint, Sampling, Workers
from storage import Store
from training import config, dataset, job, run

SEEDS = (1, 2, 3)
MANNER_RANK = {"polite": 2, "plain": 1, "rude": 0, None: None}
Rule = Callable[[Prompt, str], "int | None"]


def politeness(prompt: Prompt, answer: str) -> int | None:
    """Rank polite above plain above rude; None where manners mix."""
    return MANNER_RANK[measure(prompt, answer).manner]


def polite_and_concise(prompt: Prompt, answer: str) -> int:
    """Rank polite and concise answers above all others."""
    measured = measure(prompt, answer)
    return int(measured.manner == "polite" and measured.concise)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Workers]]:
    """One data folder and its worker for all seeds; every seed has a project of its own."""
    store = Store(tmp_path_factory.mktemp("shift"))
    workers = Workers(store.folder / "runs", "cpu")
    yield store, workers
    workers.stop()


@pytest.fixture(scope="module")
def base() -> Figures:
    """The figures of the base model."""
    return evaluate()


def sampled(endpoint: Endpoint, prompts: list[Prompt], seed: int) -> list[str]:
    """Return one answer of the base to each prompt at temperature 1, decoded together."""
    with ThreadPoolExecutor(32) as pool:
        calls = [
            pool.submit(endpoint.complete, "base", prompt, Sampling(temperature=1.0, max_tokens=160, seed=seed * 10_000 + place))
            for place, prompt in enumerate(prompts)
        ]
        return [call.result()[0].text for call in calls]


def label_pairs(store: Store, endpoint: Endpoint, project_id: int, rule: Rule, wanted: int, seed: int) -> None:
    """Label `wanted` pairs by the rule; pairs that it does not decide are ties and are not counted."""
    prompts = list(STARTERS)
    random.Random(seed).shuffle(prompts)
    labelled = 0
    for draw in range(10):
        for prompt, texts in zip(prompts, zip(*(sampled(endpoint, prompts, seed * 100 + draw * 2 + side) for side in (0, 1)))):
            ranks = [rule(prompt, text) for text in texts]
            if labelled == wanted:
                return
            if None in ranks or ranks[0] == ranks[1]:
                continue
            prompt_id, _ = store.prompts.add(project_id, prompt)
            ids = [store.responses.add(prompt_id, text, model="demo")[0] for text in texts]
            item_id, new = store.items.add(project_id, prompt_id, ids)
            chosen = ids[0] if ranks[0] > ranks[1] else ids[1]
            if new:
                store.labels.add(
                    item_id, "scripted", "chosen", client_id=f"{project_id}-{item_id}", shown_response_ids=ids,
                    chosen_response_id=chosen,
                )
                labelled += 1
    raise AssertionError(f"only {labelled} of {wanted} pairs are decided by the rule")


def label_singles(store: Store, endpoint: Endpoint, project_id: int, rule: Rule, wanted: int, seed: int) -> None:
    """Mark `wanted` single responses good or bad by the rule."""
    prompts = list(STARTERS)
    random.Random(seed).shuffle(prompts)
    for prompt, text in zip(prompts[:wanted], sampled(endpoint, prompts[:wanted], seed * 100)):
        prompt_id, _ = store.prompts.add(project_id, prompt)
        response_id, _ = store.responses.add(prompt_id, text, model="demo")
        item_id, _ = store.items.add(project_id, prompt_id, [response_id])
        store.labels.add(
            item_id, "scripted", "good" if rule(prompt, text) else "bad", client_id=f"{project_id}-{item_id}",
            shown_response_ids=[response_id],
        )


def trained(store: Store, project_name: str, method: str, seed: int) -> tuple[Figures, dict]:
    """Train with the defaults; return the tuned model's figures and the run's metrics."""
    project = store.projects.get(project_name)
    summary = dataset.summarise(store, project.id)
    settings = config.build(method, "demo", {"seed": seed}, summary, catalog.architecture("demo"))
    ended = run.execute(store, job.create(store, project, settings).id, "cpu")
    assert ended.state == "finished", ended.message
    return evaluate(adapter=Path(store.folder / ended.adapter)), ended.summary


def check_guards(base: Figures, tuned: Figures) -> None:
    """The rule must not be met by broken text."""
    assert tuned.well_formed >= base.well_formed - 0.08
    assert tuned.right >= base.right - 0.10
    assert tuned.nll <= base.nll + 0.10


@pytest.mark.parametrize("seeds", [SEEDS[:1], pytest.param(SEEDS, marks=pytest.mark.slow)], ids=["one seed", "all"])
def test_forty_pairs_and_one_default_dpo_run_make_the_model_polite(
    studio: tuple[Store, Workers], base: Figures, seeds: tuple[int, ...]
) -> None:
    store, workers = studio
    shares = []
    for seed in seeds:
        project = store.projects.ensure(f"dpo {len(seeds)} {seed}")
        label_pairs(store, workers.endpoint("demo"), project.id, politeness, 40, seed)
        tuned, metrics = trained(store, project.name, "dpo", seed)
        print(f"dpo seed {seed}: polite {base.polite:.2f} -> {tuned.polite:.2f} in {metrics['seconds']:.0f} s", tuned)
        check_guards(base, tuned)
        shares.append(tuned.polite)
    assert base.polite <= 0.45
    assert min(shares) >= 0.75 and sum(shares) / len(shares) >= 0.85, shares


@pytest.mark.slow
def test_eighty_good_bad_labels_and_one_default_kto_run_make_it_polite_and_concise(
    studio: tuple[Store, Workers], base: Figures
) -> None:
    store, workers = studio
    shares = []
    for seed in SEEDS:
        project = store.projects.ensure(f"kto {seed}")
        label_singles(store, workers.endpoint("demo"), project.id, polite_and_concise, 80, seed)
        tuned, metrics = trained(store, project.name, "kto", seed)
        print(f"kto seed {seed}: {base.polite_and_concise:.2f} -> {tuned.polite_and_concise:.2f} in {metrics['seconds']:.0f} s", tuned)
        check_guards(base, tuned)
        shares.append(tuned.polite_and_concise)
    assert base.polite_and_concise <= 0.35
    assert sum(shares) / len(shares) >= 0.50, shares
