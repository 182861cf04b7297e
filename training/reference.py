"""Log-probs of rows: the policy's in training, the base model's once before it. Does not know losses.

This is the seam for faster ways of computing them (packed rows that share a prompt, references kept from
earlier runs): what is above only hands over rendered rows and gets one number for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from peft import PeftModel
from torch import Tensor

from models.logps import collate, response_logps
from models.prompting import Rendered
from training.batching import micro_batches
from training.distributed import Stopped

Key = tuple[int, tuple[int, ...]]


class Scorer:
    """Scores rows with one model. tokens_per_forward: padded tokens a forward pass may compute at once."""

    def __init__(self, model: PeftModel, pad_id: int, device: torch.device, tokens_per_forward: int) -> None:
        self.model = model
        self.tokens_per_forward = tokens_per_forward
        self._pad_id = pad_id
        self._device = device

    def policy(self, rows: Sequence[Rendered]) -> tuple[Tensor, Tensor]:
        """Return logps and lengths, both float32 [rows], in one forward pass that gradients can go through."""
        logps, lengths = response_logps(self.model, collate(rows, self._pad_id).to(self._device))
        return logps, lengths.to(logps.dtype)

    @torch.no_grad()
    def policy_without_gradient(
        self, rows: Sequence[Rendered], should_stop: Callable[[], bool] = lambda: False
    ) -> tuple[Tensor, Tensor]:
        """Return logps and lengths of any number of rows, within the token budget. Raises Stopped when asked to."""
        logps = torch.zeros(len(rows), device=self._device)
        lengths = torch.zeros(len(rows), device=self._device)
        for part in micro_batches([[len(row.ids)] for row in rows], self.tokens_per_forward):
            if should_stop():
                raise Stopped
            logps[part], lengths[part] = self.policy([rows[place] for place in part])
        return logps, lengths

    def reference(
        self, rows: Iterable[Rendered], should_stop: Callable[[], bool] = lambda: False
    ) -> ReferenceLogps:
        """Score every different row once with the adapter disabled, which is exactly the base model."""
        different = {_key(row): row for row in rows}
        with self.model.disable_adapter():
            logps, _ = self.policy_without_gradient(list(different.values()), should_stop)
        return ReferenceLogps(dict(zip(different, logps.tolist())), self._device)


class ReferenceLogps:
    """The base model's logps of all rows of a run."""

    def __init__(self, logps: dict[Key, float], device: torch.device) -> None:
        self._logps = logps
        self._device = device

    def __len__(self) -> int:
        return len(self._logps)

    def of(self, rows: Sequence[Rendered]) -> Tensor:
        """Return the logps of rows that were scored before, float32 [rows]."""
        return torch.tensor([self._logps[_key(row)] for row in rows], device=self._device)


def _key(row: Rendered) -> Key:
    return row.prompt_length, tuple(row.ids)
