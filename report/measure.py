"""One measuring process: what a finished run has learned from its labels, written beside its adapter.

    python -m report.measure --data DIR --run ID [--device auto]

Loads the base and the adapter once, scores every example of the run's snapshot under both, and answers the same
prompts with both. Rewards are what the run's own loss calls so. Torch is imported only when there is something to do.
Does not know who started it, nor how the report looks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from errors import TrainingError
from models import catalog
from report.job import MEASURING, checked
from report.measured import Contradicted, Example, Measured, figures_of, read, write
from storage import Run, Store
from training.background import MORE, exit_code
from training.config import TrainingConfig
from training.dataset import examples_for, learned_before
from training.report import References
from training.run import reference_scope

if TYPE_CHECKING:
    from models.loading import LoadedModel
    from peft import PeftModel
    from training.material import Material
    from training.scoring import Scorer

MOST_CONTRADICTED = 100
NO_NUMBER = "{count} left out, because their figures are no numbers"


def execute(
    store: Store, run_id: int, device: str = "auto", progress: Callable[[str], None] = lambda line: None
) -> Measured:
    """Measure a run, keep its report in place of an earlier one, and return it.

    device: used when the run's own setting is "auto". progress: gets every line of the log. SIGTERM, Ctrl-C and
    `job.stop` stop it, and the earlier report stays. Raises TrainingError when the run has no adapter, a run is
    training, or this one is measured already; ModelError when its model or adapter cannot be loaded; StorageError
    when the report cannot be written.
    """
    run = checked(store, run_id)
    started = time.monotonic()
    with MEASURING.doing(store, run_id, progress) as (say, should_stop):
        say(f"Loading {run.model} and the adapter of run {run_id} {MORE}")
        measured = _measured(store, run, device, say, should_stop)
        write(measured, store.runs.folder(run_id))
        count, seconds = len(measured.examples), time.monotonic() - started
        say(f"Run {run_id} is measured: {count:,} examples and {len(measured.samples)} prompts in {seconds:.0f} s.")
    return measured


@dataclass(frozen=True)
class _Ready:
    """The run's model, loaded, and the rows of its labels."""

    config: TrainingConfig
    loaded: LoadedModel
    model: PeftModel
    scorer: Scorer
    references: References
    material: Material
    rows: list[dict[str, Any]]


def _measured(
    store: Store, run: Run, device: str, say: Callable[[str], None], should_stop: Callable[[], bool]
) -> Measured:
    from report.answers import TEMPERATURE, Answered, answer, prompts_of
    from training.distributed import Stopped

    ready = _ready(store, run, device, say)
    config, material = ready.config, ready.material
    try:
        examples, rounding = _scored(ready, say, should_stop)
        say(f"Answering the same prompts before and after training {MORE}")
        chosen = prompts_of(material.held_out, material.train)
        answered: Answered = answer(ready.loaded, ready.model, config.model, ready.scorer, chosen, should_stop)
    except Stopped:
        kept = "the earlier report stays" if read(store.runs.folder(run.id)) else "there is no report yet"
        raise TrainingError(f"The measuring of run {run.id} was stopped; {kept}.") from None
    told = [row.example for row in [*material.held_out, *material.train]]
    numbers = [both for both in zip(examples, told) if math.isfinite(both[0].margin_after + both[0].loss_after)]
    notes = [line for line in material.lines if "left out" in line or "held out" in line]
    if len(numbers) < len(examples):
        notes.append(f"{NO_NUMBER.format(count=len(examples) - len(numbers))}.")
    sets = [[example for example, _ in numbers if example.held_out is held_out] for held_out in (True, False)]
    held_out, trained = (figures_of(each, config.loss.needs_reference, rounding) for each in sets)
    return Measured(
        run.id, config.method, config.loss.needs_reference, time.time(),
        tuple(example for example, _ in numbers), held_out, trained,
        tuple(_contradicted(numbers, ready.rows)), answered.samples, TEMPERATURE, answered.lengths, answered.kl,
        answered.kl_per_token, tuple(notes),
    )


def _ready(store: Store, run: Run, device: str, say: Callable[[str], None]) -> _Ready:
    from models.loading import context_limit, load_base
    from training import adapter
    from training.material import gather
    from training.scoring import Scorer

    config, base = TrainingConfig.from_dict(run.config), catalog.identity(run.model)
    rows = list(store.labels.judged(run.project_id, run.id))
    chosen = device if config.device == "auto" else config.device
    loaded = load_base(config.model, chosen, precision=config.precision, quantization=config.quantization)
    limit = min(config.max_length_tokens, context_limit(loaded.model) or config.max_length_tokens)
    learned = learned_before(store, run.project_id, config.start_run)
    material = gather(examples_for(config.method, rows), loaded.tokenizer, config, limit, learned)
    model = adapter.load(loaded.model, store.runs.adapter_folder(run.id), base)
    scorer = Scorer(model, loaded.tokenizer.pad_token_id, loaded.device, config.tokens_per_forward, say)
    references = References(store.references.of(base, *reference_scope(loaded, config)), say)
    return _Ready(config, loaded, model, scorer, references, material, rows)


def _scored(
    ready: _Ready, say: Callable[[str], None], should_stop: Callable[[], bool]
) -> tuple[list[Example], float]:
    from report.scores import rows_of, scored
    from training.reference import score_reference

    examples = [*ready.material.held_out, *ready.material.train]
    rows = rows_of(examples, ready.config.loss.paired)
    say(f"Scoring {len(examples):,} examples under the base and under the run {MORE}")
    ready.scorer.prove(rows)
    # The same rows in the same order as in the run, so that most references are known.
    reference = score_reference(ready.scorer, rows, ready.references, should_stop=should_stop)
    item_ids = {row["label_id"]: row["item_id"] for row in ready.rows}
    return scored(ready.material, ready.scorer, reference, ready.config, item_ids, should_stop)


def _contradicted(scored: Sequence[tuple[Example, Any]], rows: Sequence[dict[str, Any]]) -> list[Contradicted]:
    """Return the labels that the run contradicts most, the worst first. scored: examples, each with its texts."""
    import torch

    from training.objective import contradictions

    margins = torch.tensor([example.margin_after for example, _ in scored])
    weights = contradictions(margins, [0] * len(scored))
    annotators = {row["label_id"]: row["annotator"] for row in rows}
    found = []
    for place in sorted(range(len(scored)), key=lambda place: -weights[place])[:MOST_CONTRADICTED]:
        example, told = scored[place]
        texts = (told.chosen, told.rejected) if example.desirable is None else (told.response,)
        found.append(Contradicted(
            example.label_id, example.item_id, annotators[example.label_id], example.held_out, example.desirable,
            weights[place], told.messages[-1]["content"], texts,
        ))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure from the command line; return 0, or 2 when it could not be done."""
    parser = MEASURING.parser("Measure what a run has learned.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    given = parser.parse_args(arguments)
    return exit_code(lambda: execute(Store(given.data), given.run, given.device))


if __name__ == "__main__":
    raise SystemExit(main())
