"""How a project is labelled: by how many people, in which order, with which checks. Does not know pages or storage.

Kept with the project as JSON values; what is not there has its default, so that a setting can be added later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from errors import ConfigError

# shuffled: in the order drawn when the item came; fewest: those with the fewest labels first; uncertain: where the run
# that scored the project prefers either response least; contradicted: where it contradicts the labels most.
ORDERS = ("shuffled", "fewest", "uncertain", "contradicted")
BY_A_RUN = ("uncertain", "contradicted")
MOST_LABELS = 100
MOST_REASONS, MOST_REASON_CHARACTERS = 24, 40
DEFAULT_REASONS = ("correct", "helpful", "clear", "concise", "polite")


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class LabelingSettings:
    """The settings of one project's labelling."""

    labels_per_item: int = _setting(1, "From how many people each item gets a label: never more.")
    order: str = _setting("shuffled", "What comes first: " + ", ".join(ORDERS) + ".")
    random_share: float = _setting(
        0.2, "Share of random items among those a run chose, 0 to 1: they show whether its choice finds more than chance."
    )
    check_rate: float = _setting(0.0, "Share of items with known answers mixed in, 0 to 0.5.")
    repeat_rate: float = _setting(0.0, "Share of one's own items asked a second time, 0 to 0.5.")
    fast_seconds: float = _setting(1.0, "Labels given in less active time than this are counted as fast; none is dropped.")
    reasons: tuple[str, ...] = _setting(DEFAULT_REASONS, "Tags an annotator can give with a label.")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {**asdict(self), "reasons": list(self.reasons)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> LabelingSettings:
        """Return the settings that a project keeps. Raises ConfigError listing every problem."""
        known = {spec.name for spec in fields(cls)}
        chosen = {name: value for name, value in values.items() if name in known}
        if "reasons" in chosen:
            if not isinstance(chosen["reasons"], (list, tuple)):
                raise ConfigError("reasons should be a list of tags")
            chosen["reasons"] = tuple(chosen["reasons"])
        settings = cls(**chosen)
        if problems := settings._problems():
            raise ConfigError(problems)
        return settings

    def _problems(self) -> list[str]:
        problems = []
        if type(self.labels_per_item) is not int or not 1 <= self.labels_per_item <= MOST_LABELS:
            problems.append(f"labels_per_item should be a whole number from 1 to {MOST_LABELS}")
        if self.order not in ORDERS:
            problems.append(f"order should be one of {', '.join(ORDERS)}")
        for name, most in (("random_share", 1.0), ("check_rate", 0.5), ("repeat_rate", 0.5), ("fast_seconds", 3600.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                problems.append(f"{name} should be from 0 to {most:g}")
        if len(self.reasons) > MOST_REASONS or len(set(self.reasons)) < len(self.reasons):
            problems.append(f"reasons should be at most {MOST_REASONS} different tags")
        for reason in self.reasons:
            if not isinstance(reason, str) or not 0 < len(reason.strip()) <= MOST_REASON_CHARACTERS or not reason.isprintable():
                problems.append(f"a reason should have 1 to {MOST_REASON_CHARACTERS} printable characters")
        return problems
