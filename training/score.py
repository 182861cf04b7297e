"""One scoring process: asks a finished run which answer of every pair it prefers, for the order of labelling.

    python -m training.score --data DIR --run ID [--device auto]

Rewards are what the run's own loss calls so, so a margin here is a margin of its curves. Torch is imported only when
there is something to do. Does not know who started it, nor how the order of labelling follows from the scores.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from errors import TrainingError
from models import catalog
from storage import Run, Store
from training.background import MORE, exit_code
from training.config import TrainingConfig
from training.dataset import PairedExample
from training.ordering import SCORING, checked
from training.report import References, insist
from training.run import reference_scope

PAIRS_AT_ONCE = 256
SAY_EVERY_SECONDS = 1.0
NO_NUMBER = "whose margin is not a number"
# What `store.items.set_margins` keeps of a pair: its number, margin and contradiction.
Score = tuple[int, float, "float | None"]


@dataclass(frozen=True)
class ScoreReport:
    """What a scoring did. pairs: there were; scored: got a margin; voted: have a decided vote too, and of these the
    run prefers the other answer of `contradicted`. left_out: pairs without a score, by reason."""

    run: int
    project: str
    pairs: int
    scored: int
    voted: int
    contradicted: int
    left_out: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Say what was done, and where the order of labelling is switched on."""
        left = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        votes = f"; of {self.voted:,} decided by votes it prefers the other answer of {self.contradicted:,}"
        return (
            f"Run {self.run} scored {self.scored:,} of {self.pairs:,} pairs{f' (left out: {left})' if left else ''}"
            f"{votes if self.voted else ''}. Switch the order on in Review, Settings: uncertain or contradicted."
        )


def execute(
    store: Store, run_id: int, device: str = "auto", progress: Callable[[str], None] = lambda line: None
) -> ScoreReport:
    """Score every pair of a run's project with its adapter, and keep the scores in place of earlier ones.

    device: used when the run's own setting is "auto". progress: gets every line of the log. SIGTERM, Ctrl-C and
    `ordering.stop` stop it, and the earlier scores stay. Raises TrainingError when the run has no adapter, a run is
    training, or this one scores already; ModelError when its model or adapter cannot be loaded.
    """
    run = checked(store, run_id)
    with SCORING.doing(store, run_id, progress) as (say, should_stop):
        say(f"Loading {run.model} and the adapter of run {run_id} {MORE}")
        report = _scored(store, run, device, say, should_stop)
        say(report.sentence())
    return report


def _scored(
    store: Store, run: Run, device: str, say: Callable[[str], None], should_stop: Callable[[], bool]
) -> ScoreReport:
    from training.distributed import Stopped

    scores: list[Score] = []
    left_out: Counter[str] = Counter()
    total = store.items.counts(run.project_id)["pair"]["total"]
    scores_of, said = _ready(store, run, device, say, should_stop), time.monotonic()
    try:
        for rows in _batches(store, run.project_id):
            fresh, missing = scores_of(rows)
            scores += fresh
            left_out.update(missing)
            if time.monotonic() - said > SAY_EVERY_SECONDS:
                said, done = time.monotonic(), len(scores) + left_out.total()
                say(f"{done:,} of {max(done, total):,} pairs scored {MORE}")
    except Stopped:
        raise TrainingError("The scoring was stopped; the scores from before stay.") from None
    insist(lambda: store.items.set_margins(run.project_id, scores), say)
    against = [contradiction for _, _, contradiction in scores if contradiction is not None]
    return ScoreReport(
        run.id, store.projects.by_id(run.project_id).name, len(scores) + left_out.total(), len(scores), len(against),
        sum(contradiction > 0.5 for contradiction in against), dict(left_out),
    )


def _batches(store: Store, project_id: int) -> Iterator[list[dict[str, Any]]]:
    after = 0
    while rows := store.items.pairs(project_id, after, PAIRS_AT_ONCE):
        yield rows
        after = rows[-1]["id"]


def _ready(
    store: Store, run: Run, device: str, say: Callable[[str], None], should_stop: Callable[[], bool]
) -> Callable[[Sequence[dict[str, Any]]], tuple[list[Score], list[str]]]:
    """Load the run's model; return what scores rows of `store.items.pairs`, and says why others have no score."""
    from models.loading import context_limit, load_base
    from training import adapter
    from training.objective import contradictions, margins
    from training.reference import score_reference
    from training.rows import pair_rows, renderer
    from training.scoring import Scorer

    config, base = TrainingConfig.from_dict(run.config), catalog.identity(run.model)
    chosen = device if config.device == "auto" else config.device
    loaded = load_base(config.model, chosen, precision=config.precision, quantization=config.quantization)
    model = adapter.load(loaded.model, store.runs.adapter_folder(run.id), base)
    scorer = Scorer(model, loaded.tokenizer.pad_token_id, loaded.device, config.tokens_per_forward, say)
    limit = min(config.max_length_tokens, context_limit(model) or config.max_length_tokens)
    rendered = renderer(loaded.tokenizer, limit)
    cache = References(store.references.of(base, *reference_scope(loaded, config)), say)
    proved = False

    def scores_of(rows: Sequence[dict[str, Any]]) -> tuple[list[Score], list[str]]:
        nonlocal proved
        examples = [PairedExample(row["id"], row["prompt_id"], row["messages"], *row["responses"]) for row in rows]
        pairs, left_out = pair_rows(examples, rendered)
        reasons = [exclusion.reason for exclusion in left_out]
        if not pairs:
            return [], reasons
        both = [row for pair in pairs for row in (pair.chosen, pair.rejected)]
        if not proved:
            scorer.prove(both)
            proved = True
        reference = score_reference(scorer, both, cache, should_stop=should_stop) if config.loss.needs_reference else None
        found = margins(pairs, scorer, reference, config, should_stop)
        majorities = {row["id"]: row["majority"] for row in rows}
        ids = [pair.example.label_id for pair in pairs]  # an item's number, here
        against = contradictions(found, [majorities[item_id] for item_id in ids])
        scores = [score for score in zip(ids, found.tolist(), against) if math.isfinite(score[1])]
        return scores, reasons + [NO_NUMBER] * (len(ids) - len(scores))

    return scores_of


def main(arguments: list[str] | None = None) -> int:
    """Score from the command line; return 0, or 2 when it could not be done."""
    parser = SCORING.parser("Score a project's pairs by a run.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    given = parser.parse_args(arguments)
    return exit_code(lambda: execute(Store(given.data), given.run, given.device))


if __name__ == "__main__":
    raise SystemExit(main())
