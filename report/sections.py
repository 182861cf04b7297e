"""The sections of a report, one function each: a picture, and a line that says in plain words what it shows.

Each takes what was measured of one run and returns HTML, "" where there is nothing to show. Does not know the store.
"""

from __future__ import annotations

from collections.abc import Sequence

from report.measured import Contradicted, Figures, Measured, Sample
from report.pictures import Bar, bars, between, escaped, histogram, number, percent

MOST_LISTED = 20
OPEN_SAMPLES = 3
MOST_CHARACTERS = 1200
PROMPT_CHARACTERS = 240
FALLING = (
    "A falling curve of the preferred answers can be normal: training only asks that they fall less than the others."
    " It is a bad sign when the answers further down read worse, or when the two curves do not part."
)


def section(title: str, why: str, *parts: str) -> str:
    """Return a section: its title, one line of explanation, and its parts; "" when all parts are empty."""
    inner = "".join(parts)
    return f'<section><h3>{escaped(title)}</h3><p class="report-why">{why}</p>{inner}</section>' if inner else ""


def reward_words(method: str, needs_reference: bool) -> str:
    """Say what this run's loss calls a reward."""
    if method in ("simpo", "orpo"):
        return (
            "The reward of an answer is β × its mean log-probability per token. The base model is no part of it, so there"
            " are rewards before training too."
        )
    per_token = " (with the form `mean`, per token)" if method == "ipo" else ""
    return (
        "The reward of an answer is β × how much more likely it is under the run than under the base model"
        f"{per_token}, as a difference of log-probabilities. Before training all rewards are 0."
    )


def main_figures(measured: Measured) -> tuple[Figures | None, str]:
    """Return the figures to look at first, and of what they are: those held out, where there are any."""
    if measured.held_out is not None:
        return measured.held_out, "labels that it never saw"
    return measured.trained, "the labels that it was trained on (none were held out)"


def in_short(measured: Measured) -> str:
    """Say in a few sentences what the run learned and how sure that is."""
    figures, which = main_figures(measured)
    if figures is None or figures.accuracy_after is None:
        return ""
    right = figures.accuracy_after
    lines = [f"The run agrees with <b>{between(right)}</b> of {figures.examples:,} {which}. A coin would agree with 50%."]
    if right.low <= 0.5:
        lines.append("The interval holds 50%: with so few labels this may be luck. Hold out more labels to be sure.")
    if measured.held_out is not None and figures.loss_before and figures.loss_after:
        losses = f"from {number(figures.loss_before.value)} to {number(figures.loss_after.value)}"
        if figures.loss_after.value > figures.loss_before.value:
            lines.append(f"Its loss on them rose {losses}: it follows its own labels too closely. Take fewer steps or more labels.")
        else:
            lines.append(f"Its loss on them fell {losses}.")
    if figures.by_length and figures.by_model:
        lines.append(_length_line(figures))
    before, after = measured.lengths
    if before and after:
        lines.append(f"An answer has {number(after.value, 0)} tokens on average, before training {number(before.value, 0)}.")
    if measured.contradicted:
        strong = sum(each.weight > 0.5 for each in measured.contradicted)
        more = "+" if strong == len(measured.contradicted) else ""
        of_all = f"of its {len(measured.examples):,} examples"
        lines.append(
            f"It contradicts <b>{strong}{more}</b> {of_all}: look at those labels first." if strong
            else f"It contradicts none {of_all}; those it is least sure of are listed below."
        )
    listed = "".join(f"<li>{line}</li>" for line in lines)
    return section("In short", "Every figure has its 95% interval: where the true figure may well lie.", f"<ul>{listed}</ul>")


def agreement(measured: Measured) -> str:
    """Show how often the run agrees with the labels, with intervals, before and after."""
    parts = []
    for figures, words in ((measured.held_out, "Held out"), (measured.trained, "Trained on")):
        if figures is None:
            continue
        rows = [Bar("agrees by reward, after", figures.accuracy_after)]
        if not measured.needs_reference:
            rows.insert(0, Bar("agrees by reward, before", figures.accuracy_before, "before"))
        if figures.likelier_after is not None:
            rows += [
                Bar("preferred answer is the likelier, before", figures.likelier_before, "before"),
                Bar("preferred answer is the likelier, after", figures.likelier_after),
            ]
        title = f"{words}: {figures.examples:,} examples of {figures.prompts:,} prompts"
        parts.append(bars(title, rows, 1.0, chance=0.5))
        losses = [Bar("loss, before", figures.loss_before, "before"), Bar("loss, after", figures.loss_after)]
        high = max((row.interval.high for row in losses if row.interval), default=1.0)
        parts.append(bars(f"{words}: loss", losses, high, shares=False))
    why = (
        "Does the run agree with people? The thin line is the 95% interval, the dotted one is chance. Trust what was held"
        " out: what it was trained on it may have learned by heart."
    )
    return section("Agreement with the labels", why, f'<div class="report-pair">{"".join(parts)}</div>')


def margins(measured: Measured) -> str:
    """Show how far apart the two answers of the examples are, before and after."""
    examples = measured.examples
    pairs = [example for example in examples if example.desirable is None]
    if pairs:
        leads = [example.leads for example in pairs]
        parts = [
            histogram(
                "Log-probability of the preferred answer minus the other",
                [("before", "before", [lead[0] for lead in leads]), ("after", "after", [lead[1] for lead in leads])], "nats",
            ),
            histogram("Reward of the preferred answer minus the other", _rewards(measured), "reward"),
        ]
        why = (
            "Each pair is one count. To the right of 0 the model prefers the answer that people preferred; training"
            " should move the pairs to the right."
        )
    else:
        marked = [[example.rewards_after[0] for example in examples if example.desirable is good] for good in (True, False)]
        parts = [histogram("Reward after training", [("good", "good", marked[0]), ("bad", "bad", marked[1])], "reward")]
        why = "Each judged answer is one count. Good answers should lie to the right of bad ones."
    return section("Margins", why, f'<div class="report-pair">{"".join(parts)}</div>')


def _rewards(measured: Measured) -> list[tuple[str, str, list[float]]]:
    after = ("after", "after", [example.margin_after for example in measured.examples])
    if measured.needs_reference:  # before training all are 0
        return [after]
    return [("before", "before", [example.margin_before for example in measured.examples]), after]


def contradicted(measured: Measured, most: int = MOST_LISTED) -> str:
    """List the labels that the run contradicts most."""
    rows = "".join(_contradicted(each, measured) for each in measured.contradicted[:most])
    why = (
        "These labels pull hardest against what the run learned from all the others: slips of the hand, hard cases, or"
        " things that it has not understood. The weight is the share of a full pull, 0 to 1; above 0.5 the run disagrees."
    )
    return section("Labels that the run contradicts most", why, f'<div class="report-labels">{rows}</div>' if rows else "")


def _contradicted(each: Contradicted, measured: Measured) -> str:
    if each.desirable is None:
        words = ("said to be better", "said to be worse")
    else:
        words = ("said to be good",) if each.desirable else ("said to be bad",)
    texts = "".join(
        f'<div><small>{told}</small><div class="report-text">{escaped(shortened(text))}</div></div>'
        for told, text in zip(words, each.texts)
    )
    where = "held out" if each.held_out and measured.held_out else "trained on"
    return (
        f'<details><summary><b>{each.weight:.2f}</b> <span>{escaped(shortened(each.prompt, PROMPT_CHARACTERS))}</span>'
        f"<small>item {each.item_id} · {escaped(shortened(each.annotator, 100))} · {where}</small></summary>"
        f'<div class="report-sides">{texts}</div></details>'
    )


def length(measured: Measured) -> str:
    """Show whether answers have become longer, and how much of the preference length alone explains."""
    figures, which = main_figures(measured)
    parts = []
    before, after = measured.lengths
    if before and after:
        rows = [Bar("before", before, "before"), Bar("after", after)]
        high = max(before.high, after.high)
        parts.append(bars(f"Tokens of an answer, over {len(measured.samples)} prompts", rows, high, shares=False))
    line = ""
    if figures is not None and figures.by_length and figures.by_model:
        rows = [Bar("the longer one is the better one", figures.by_length, "before"), Bar("the run decides", figures.by_model)]
        parts.append(bars(f"Who is right over {which}", rows, 1.0, chance=0.5))
        line = _length_line(figures)
        if (related := figures.length_correlation) is not None:
            line += (
                f" The run's margin goes with extra length with a correlation of {number(related.value)}"
                f" ({number(related.low)} to {number(related.high)}): 0 is not at all, 1 is entirely."
            )
    why = f"Models easily learn that longer is better, which is seldom what people meant. {line}".strip()
    return section("Length", why, f'<div class="report-pair">{"".join(parts)}</div>' if parts else "")


def _length_line(figures: Figures) -> str:
    by_length, by_model = figures.by_length, figures.by_model
    assert by_length is not None and by_model is not None
    said = f"Choosing the longer answer every time would be right in {percent(by_length.value)}, the run is in {percent(by_model.value)}."
    if by_length.low > 0.5 and by_length.value >= by_model.value - 0.05:
        return f"{said} Length alone explains nearly all of it."
    if by_length.high < 0.5:
        return f"{said} People here prefer the shorter answer."
    return said


def distance(measured: Measured) -> str:
    """Say how far the run is from its base."""
    if measured.kl is None or measured.kl_per_token is None:
        return ""
    told = (
        f"<p><b>{between(measured.kl, shares=False)} nats</b> an answer, {number(measured.kl_per_token, 3)} nats a token"
        f" (over {measured.kl.count} answers of the run).</p>"
    )
    why = (
        "An estimate of the KL divergence: how much more likely the run finds its own answers than the base does. 0 is the"
        " base itself; large values with poor answers mean that it was trained too far. Answers that were cut count as far"
        " as they go."
    )
    return section("Distance from the base", why, told)


def samples(measured: Measured) -> str:
    """Show the same prompts answered before and after training."""
    rows = "".join(_sample(each, place < OPEN_SAMPLES) for place, each in enumerate(measured.samples))
    why = (
        f"The same prompts and the same random numbers (temperature {measured.temperature:g}), once without and once with"
        " what was learned. Read a few: no figure replaces that."
    )
    return section("Before and after", why, f'<div class="report-labels">{rows}</div>' if rows else "")


def _sample(each: Sample, is_open: bool) -> str:
    sides = zip(("before", "after"), (each.before, each.after), each.tokens, each.cut)
    texts = "".join(
        f'<div><small>{words}, {tokens} tokens{", cut" if cut else ""}</small>'
        f'<div class="report-text">{escaped(shortened(text)) or "<i>nothing</i>"}</div></div>'
        for words, text, tokens, cut in sides
    )
    where = "held out" if each.held_out else "trained on"
    return (
        f'<details{" open" if is_open else ""}><summary><span>{escaped(shortened(each.prompt, PROMPT_CHARACTERS))}</span>'
        f'<small>{where}{"" if each.before != each.after else " · the same answer"}</small></summary>'
        f'<div class="report-sides">{texts}</div></details>'
    )


def notes(measured: Measured) -> str:
    """Say what rewards are here, and what was left out."""
    lines = [reward_words(measured.method, measured.needs_reference), *measured.notes]
    listed = "".join(f"<li>{escaped(line)}</li>" for line in lines)
    return section("How this was measured", "What the words above mean for this run, and what was left out.", f"<ul>{listed}</ul>")


def all_of(measured: Measured) -> Sequence[str]:
    """Return the sections of one run, in the order to read them."""
    return [
        in_short(measured), agreement(measured), margins(measured), contradicted(measured), length(measured),
        distance(measured), samples(measured), notes(measured),
    ]


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return where a text begins."""
    return text if len(text) <= most else f"{text[:most].rstrip()} …"
