"""The base model's log-probs of the rows of a run: computed once, ever. Does not know losses, nor where they are kept.

A log-prob is found again by what it follows from: the base's weights and precision (the cache's scope) and the row's
tokens. So a run over data that has grown computes what is new, and a run that is taken up again reads the numbers it
began with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from models.packing import by_prompt
from models.prompting import Rendered
from training.distributed import Processes
from training.scoring import Scorer

# Prompts scored before the results are kept. The rest is cut the same way whether or not these were known before, so
# a pass that is taken up again gives the same numbers to the last bit.
PROMPTS_AT_ONCE = 256


class ReferenceCache(Protocol):
    """Log-probs of one base model in one precision, by row key."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return those that are known."""

    def put(self, values: dict[bytes, float]) -> None:
        """Keep some."""


class NoCache:
    """Knows nothing and keeps nothing."""

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return nothing."""
        return {}

    def put(self, values: dict[bytes, float]) -> None:
        """Forget."""


class ReferenceLogps:
    """The base model's logps of all rows of a run, by row key. computed: how many were not known before."""

    def __init__(self, logps: dict[bytes, float], device: torch.device, computed: int = 0) -> None:
        self.computed = computed
        self._logps = logps
        self._device = device

    def __len__(self) -> int:
        return len(self._logps)

    def of(self, rows: Sequence[Rendered]) -> Tensor:
        """Return the logps of rows that were scored before, float32 [rows]."""
        return torch.tensor([self._logps[row_key(row)] for row in rows], device=self._device, dtype=torch.float32)


def score_reference(
    scorer: Scorer,
    rows: Iterable[Rendered],
    cache: ReferenceCache | None = None,
    processes: Processes | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ReferenceLogps:
    """Return the logps of every different row with the adapter disabled, which is exactly the base model.

    What the cache knows is not computed; what is computed it keeps. cache: asked and told in the leading process
    only. processes: those that share the work, all with the same rows. Raises Stopped when asked to.
    """
    cache, processes = NoCache() if cache is None else cache, processes or Processes()
    different = {row_key(row): row for row in rows}
    known = processes.tell(processes.guard(lambda: cache.get(list(different)) if processes.leads else {}))
    missing = [key for key in different if key not in known]
    groups = by_prompt([different[key] for key in missing])
    with scorer.model.disable_adapter():
        for start in range(0, len(groups), PROMPTS_AT_ONCE):
            mine = processes.share(groups[start : start + PROMPTS_AT_ONCE])
            keys = [missing[place] for group in mine for place in group]

            def score() -> dict[bytes, float]:
                logps = scorer.policy_without_gradient([different[key] for key in keys], should_stop)
                return dict(zip(keys, logps.tolist()))

            fresh = {key: value for part in processes.each(score) for key, value in part.items()}
            if processes.leads:
                cache.put(fresh)
            known |= fresh
    return ReferenceLogps(known, scorer.device, len(missing))


def row_key(row: Rendered) -> bytes:
    """Return 16 bytes that stand for a row's tokens and where its response begins."""
    digest = hashlib.blake2b(row.prompt_length.to_bytes(8, "little"), digest_size=16)
    digest.update(b"".join(token.to_bytes(4, "little") for token in row.ids))
    return digest.digest()
