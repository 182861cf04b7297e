"""What a file seems to hold, as HTML. Texts of files are escaped; the rest are our own words."""

from __future__ import annotations

from html import escape

from transfer.formats.record import Opinion, Record
from transfer.intake.preview import Preview
from transfer.wording import counted

SHOWN_CHARACTERS = 240
VERDICTS = {"tie": "equally good", "both_bad": "both bad", "good": "good", "bad": "bad"}


def preview_html(seen: Preview) -> str:
    """Return what a file seems to hold: one line, its first records, and what is wrong with it."""
    looked = f"its {counted(seen.looked, 'row')}" if seen.is_whole else f"its first {seen.looked:,} rows"
    if seen.format is None:
        columns = ", ".join(seen.columns[:12]) or "none"
        said = f"{seen.kind}; of no format known here. Choose one below, and which column is what. Columns: {columns}"
        return f'<p class="data-wrong">{escape(said)}</p>'
    renamed = "".join(f"; {column} is taken for {name}" for name, column in seen.mapping.items())
    said = f"{seen.kind}, read as {seen.format.name}{renamed}: {seen.good:,} of {looked} can be used."
    records = "".join(map(_record, seen.samples))
    notes = "".join(f"<li>{escape(f'rows {reason} are left out')}</li>" for reason in seen.left_out[:3])
    wrong = "".join(f'<li class="data-wrong">{escape(problem)}</li>' for problem in seen.problems)
    return f"<p>{escape(said)}</p>{records}<ul>{notes}{wrong}</ul>" if notes or wrong else f"<p>{escape(said)}</p>{records}"


def _record(record: Record) -> str:
    turns = len(record.messages) - 1
    before = f" <small>after {counted(turns, 'message')}</small>" if turns else ""
    opinion = record.opinions[0] if record.opinions else None
    answers = "".join(
        f"<li>{_text(answer.text)}{_said(opinion, index)}</li>" for index, answer in enumerate(record.answers)
    )
    whole = VERDICTS.get(opinion.verdict, "") if opinion and len(record.answers) > 1 else ""
    note = f" <small>{whole}</small>" if whole else ""
    return f'<div class="data-record"><strong>{_text(record.messages[-1]["content"])}</strong>{before}{note}<ol>{answers}</ol></div>'


def _said(opinion: Opinion | None, index: int) -> str:
    """Return what an opinion says of one answer."""
    if opinion is None:
        return ""
    if opinion.verdict == "chosen":
        said = "better" if index == opinion.chosen else ""
    elif opinion.verdict == "ranked":
        said = next((f"place {at}" for at, tier in enumerate(opinion.tiers, start=1) if index in tier), "")
    else:
        said = VERDICTS.get(opinion.verdict, "") if opinion.verdict in ("good", "bad") else ""
    return f" <mark>{said}</mark>" if said else ""


def _text(text: str) -> str:
    text = " ".join(text.split())
    return escape(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")
