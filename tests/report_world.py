"""What tests of reports share: a measured run made of plain numbers, and a project with finished runs."""

from __future__ import annotations

import random
from dataclasses import replace

from report.intervals import Interval
from report.measured import Contradicted, Example, Measured, Sample, figures_of, write
from storage import Project, Run, Store
from training.config import TrainingConfig

HOSTILE = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=2</script>${window.pwned=3}{{value}}`'\""


def pair(number: int, held_out: bool, draws: random.Random) -> Example:
    """Return a pair of which the run has learned something, most of the time."""
    base = (draws.gauss(-20, 3), draws.gauss(-20, 3))
    rewards = (draws.gauss(0.5, 0.5), draws.gauss(-0.8, 0.5))
    policy = (base[0] + rewards[0] * 10, base[1] + rewards[1] * 10)
    margin = rewards[0] - rewards[1]
    tokens = (draws.randrange(5, 40), draws.randrange(5, 40))
    return Example(number, number, number, held_out, None, base, policy, tokens, (0.0, 0.0), rewards, 0.0, margin, 0.69, 0.5)


def single(number: int, good: bool, draws: random.Random) -> Example:
    """Return one judged answer."""
    reward = draws.gauss(1.0 if good else -1.0, 0.8)
    margin = reward if good else -reward
    return Example(
        number, number, number, False, good, (-20.0,), (-20.0 + reward,), (draws.randrange(5, 40),), (0.0,), (reward,),
        0.0, margin, 0.5, 0.4,
    )


def measured_run(run_id: int, method: str = "dpo", text: str = "An answer.", held_out: int = 20) -> Measured:
    """Return a report; text: what all prompts, answers and annotators are."""
    draws = random.Random(run_id)
    if method == "kto":
        examples, held_out = [single(number, number % 2 == 0, draws) for number in range(1, 41)], 0
    else:
        examples = [pair(number, number <= held_out, draws) for number in range(1, 61)]
    texts = (text,) if method == "kto" else (text, f"Another. {text}")
    return Measured(
        run_id, method, method not in ("simpo", "orpo"), 1_700_000_000.0, tuple(examples),
        figures_of([each for each in examples if each.held_out], True),
        figures_of([each for each in examples if not each.held_out], True),
        tuple(
            Contradicted(n, n, text, n <= held_out, True if method == "kto" else None, 0.9 - n / 100, f"Prompt {n} {text}", texts)
            for n in range(1, 31)
        ),
        tuple(Sample(n, n <= held_out, f"Question {n} {text}", f"Before {n}. {text}", f"After {n}.", (12, 9), (False, True)) for n in range(1, 6)),
        0.8, (Interval(12.0, 11.0, 13.0, 5), Interval(9.0, 8.0, 10.0, 5)), Interval(1.25, 0.9, 1.6, 5), 0.104,
        ("3 labels left out: longer than max_length_tokens.",),
    )


def finished_run(store: Store, project: Project, measured: bool = True, method: str = "dpo", text: str = "An answer.") -> Run:
    """Return a run that has ended with metrics, and a report where wanted."""
    run = store.runs.create(project.id, method, "demo", TrainingConfig(method=method).to_dict() | {"loss": {}}, [])
    store.runs.start(run.id, 1, 20)
    for step in range(1, 21):
        values = {
            "loss": 0.69 / step, "rewards/chosen": -0.1 * step, "rewards/rejected": -0.3 * step, "rewards/margins": 0.2 * step,
            "rewards/accuracies": 1 - 0.5 / step,
        }
        if step % 10 == 0:
            values |= {"held_out/loss": 0.6, "held_out/accuracies": 0.7}
        store.runs.add_metrics(run.id, step, values)
    store.runs.end(run.id, "finished", "Done.", adapter=f"runs/run-{run.id}/adapter")
    if measured:
        folder = store.runs.folder(run.id)
        folder.mkdir(parents=True, exist_ok=True)
        write(measured_run(run.id, method, text), folder)
    return store.runs.get(run.id)


def without_held_out(measured: Measured) -> Measured:
    """Return the same, as of a run that held nothing out."""
    examples = tuple(replace(each, held_out=False) for each in measured.examples)
    return replace(measured, examples=examples, held_out=None, trained=figures_of(examples, measured.needs_reference))
