"""Scores the examples of a run under its base and under the run, with the run's own loss. Does not know the store.

Before training the policy is the base, so that one formula gives both sides of every comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from report.measured import Example
from training.config import TrainingConfig
from training.losses import LOSSES, LossResult, PairedLogps, UnpairedLogps
from training.material import Material
from training.methods import class_weights
from training.objective import ROUNDING
from training.reference import ReferenceLogps
from training.scoring import Scorer


@dataclass(frozen=True)
class Sums:
    """Log-probs of rows under the base and under the run, and their lengths in tokens; float32 [rows], on the CPU."""

    base: Tensor
    policy: Tensor
    tokens: Tensor


def rows_of(examples: Sequence[Any], paired: bool) -> list[Any]:
    """Return the rows to score: all preferred and then all other answers of pairs; else each answer, then each
    mismatched one (KTO measures its distance from the base on those)."""
    if paired:
        return [*(pair.chosen for pair in examples), *(pair.rejected for pair in examples)]
    return [*(row.response for row in examples), *(row.mismatched for row in examples if row.mismatched is not None)]


def scored(
    material: Material,
    scorer: Scorer,
    reference: ReferenceLogps,
    config: TrainingConfig,
    item_ids: Mapping[int, int],
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[list[Example], float]:
    """Return every example of a run, those held out first, and how close to 0 a margin is a tie.

    reference: what the base gives all of `rows_of`, for every method. item_ids: by label id. Raises Stopped when
    asked to.
    """
    examples: list[Example] = []
    largest = 0.0
    for rows, held_out in ((material.held_out, True), (material.train, False)):
        if not rows:
            continue
        scored_rows = rows_of(rows, config.loss.paired)
        sums = Sums(
            reference.of(scored_rows).cpu(),
            scorer.policy_without_gradient(scored_rows, should_stop).float().cpu(),
            torch.tensor([float(len(row.response_ids)) for row in scored_rows]),
        )
        largest = max(largest, float(torch.cat([sums.base, sums.policy]).abs().max()))
        compute = _pairs if config.loss.paired else _singles
        examples += compute(rows, sums, config, item_ids, held_out, material)
    # Where something is subtracted, equal rewards differ by rounding: as in the run's own metrics.
    return examples, config.loss.beta * ROUNDING * largest if config.loss.needs_reference else 0.0


def _pairs(
    rows: Sequence[Any], sums: Sums, config: TrainingConfig, item_ids: Mapping[int, int], held_out: bool, _: Material
) -> list[Example]:
    before, after = (_paired(sums, policy, config) for policy in (sums.base, sums.policy))
    base, policy, tokens = (torch.stack(each.chunk(2), dim=1).tolist() for each in (sums.base, sums.policy, sums.tokens))
    rewards = [
        torch.stack([result.chosen_rewards, result.rejected_rewards], dim=1).tolist() for result in (before, after)
    ]
    margins = [(result.chosen_rewards - result.rejected_rewards).tolist() for result in (before, after)]
    losses = [result.losses.tolist() for result in (before, after)]
    return [
        Example(
            row.example.label_id, item_ids[row.example.label_id], row.example.prompt_id, held_out, None,
            tuple(base[place]), tuple(policy[place]), tuple(map(int, tokens[place])),
            *(tuple(each[place]) for each in rewards), *(each[place] for each in margins),
            *(each[place] for each in losses),
        )
        for place, row in enumerate(rows)
    ]


def _paired(sums: Sums, policy: Tensor, config: TrainingConfig) -> LossResult:
    references = sums.base.chunk(2) if config.loss.needs_reference else ()
    return LOSSES[config.method](PairedLogps(*policy.chunk(2), *sums.tokens.chunk(2), *references), config.loss)


def _singles(
    rows: Sequence[Any], sums: Sums, config: TrainingConfig, item_ids: Mapping[int, int], held_out: bool,
    material: Material,
) -> list[Example]:
    count = len(rows)
    desirable = torch.tensor([row.desirable for row in rows])
    good = sum(row.desirable for row in material.train)
    weights = class_weights(good, len(material.train) - good, config.loss)
    distances = sums.policy[count:] - sums.base[count:]
    kl = distances.mean() if len(distances) and config.loss.reference_point == "kl" else torch.zeros(())
    base, policy, tokens = sums.base[:count], sums.policy[:count], sums.tokens[:count]
    columns = []
    for logps, measured in ((base, torch.zeros(())), (policy, kl)):
        result = LOSSES[config.method](UnpairedLogps(logps, base, desirable, measured, weights), config.loss)
        rewards = torch.empty(count)
        rewards[desirable], rewards[~desirable] = result.chosen_rewards, result.rejected_rewards
        margins = torch.where(desirable, 1.0, -1.0) * (rewards - result.anchor)
        columns.append((rewards.tolist(), margins.tolist(), result.losses.tolist()))
    (rewards_before, margins_before, losses_before), (rewards_after, margins_after, losses_after) = columns
    return [
        Example(
            row.example.label_id, item_ids[row.example.label_id], row.example.prompt_id, held_out, row.desirable,
            (float(base[place]),), (float(policy[place]),), (int(tokens[place]),),
            (rewards_before[place],), (rewards_after[place],), margins_before[place], margins_after[place],
            losses_before[place], losses_after[place],
        )
        for place, row in enumerate(rows)
    ]
