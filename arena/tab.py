"""The Arena tab: which model is better, matches over a list of prompts, and the next round. Holds no state of its own.

Every callback reads the page, calls one function of `desk` and returns updates.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from arena import view
from arena.desk import HELD_OUT, WRITTEN, Desk, Standing
from arena.matches import MOST_PROMPTS
from chat.speakers import default_pair, speakers
from errors import reported
from models.client import Sampling, Workers
from storage import Store
from storage.records import LABEL
from transfer.jobs import JobState

PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE = {**PRIVATE, "queue": False}
guarded = reported(gr.Warning, gr.skip)


def build(page: gr.Blocks, tab: gr.Tab, tabs: gr.Tabs, store: Store, project: gr.Dropdown, workers: Workers) -> Desk:
    """Fill the Arena tab and return what it does.

    tabs: the page's tabs, of which "label" and "train" are opened from here; project: the header's list of projects.
    """
    made = ArenaTab(store, workers)
    made.build(tab, tabs, project)
    return made.desk


def css() -> str:
    """Return the tab's style sheet."""
    return Path(__file__).with_name("arena.css").read_text(encoding="utf-8")


def head() -> str:
    """Return what the tab adds to the page's head: nothing."""
    return ""


class ArenaTab:
    """The components of the tab and what they do."""

    def __init__(self, store: Store, workers: Workers) -> None:
        self.store, self.desk = store, Desk(store, workers)

    def build(self, tab: gr.Tab, tabs: gr.Tabs, project: gr.Dropdown) -> None:
        """Lay the tab out and connect it."""
        with gr.Column(elem_id="arena-root"):
            self._ranking()
            self._rounds()
            self._match()
        self.timer, self.played, self.voted = gr.Timer(1.0, active=False), gr.State(None), gr.State(None)
        self._connect(tab, tabs, project)

    def _ranking(self) -> None:
        with gr.Column():
            gr.Markdown("### Which model is better?")
            self.ranks = gr.HTML("", js_on_load=None, elem_id="arena-ranking", elem_classes="arena-table")
            with gr.Row():
                self.only_here = gr.Checkbox(label="Only votes of this project", elem_id="arena-only-here")
                self.with_named = gr.Checkbox(
                    label="Count votes given with the names in sight too", elem_id="arena-with-named"
                )

    def _match(self) -> None:
        with gr.Column(elem_id="arena-match"):
            gr.Markdown(
                "### A match over a list of prompts\nTwo models answer every prompt in the background. Then you vote through"
                " the answers on the Label tab: one key each, sides shuffled, no names."
            )
            with gr.Row():
                first, second = default_pair(self.store, None)
                self.first = gr.Dropdown([(first.label, first.key)], value=first.key, label="One", elem_id="arena-first", filterable=False)
                self.second = gr.Dropdown(
                    [(second.label, second.key)], value=second.key, label="The other", elem_id="arena-second", filterable=False
                )
            with gr.Row():
                self.source = gr.Radio(
                    [("Prompts of this project that neither has been trained on", HELD_OUT), ("Written here", WRITTEN)],
                    value=HELD_OUT, label="Prompts", elem_id="arena-source",
                )
                self.most = gr.Slider(1, MOST_PROMPTS, 40, step=1, label="At most", elem_id="arena-most")
                self.temperature = gr.Slider(
                    0, 2, Sampling().temperature, step=0.05, label="Temperature", elem_id="arena-temperature"
                )
            self.text = gr.Textbox(
                label="One prompt a line", lines=4, max_lines=12, elem_id="arena-text", visible=False,
                placeholder="How do I make tea?\nWhat do owls eat?",
            )
            with gr.Row(elem_id="arena-buttons"):
                self.start = gr.Button("Start the match", variant="primary", size="sm", elem_id="arena-start")
                self.cancel = gr.Button("Cancel", variant="stop", size="sm", visible=False, elem_id="arena-cancel")
                self.vote = gr.Button("Vote now", variant="primary", size="sm", visible=False, elem_id="arena-vote")
            self.work = gr.HTML("", js_on_load=None, elem_id="arena-work")
            self.said = gr.Markdown(elem_id="arena-said")

    def _rounds(self) -> None:
        with gr.Column(elem_id="arena-rounds"):
            gr.Markdown(
                "### Rounds\nA preference loss only learns from answers that were labelled. So let the best model so far"
                " answer new prompts, label its answers, train on top of it, and compare."
            )
            self.rounds = gr.HTML("", js_on_load=None, elem_id="arena-rounds-table", elem_classes="arena-table")
            self.standing = gr.HTML("", js_on_load=None, elem_id="arena-standing")
            self.asked = gr.Slider(1, MOST_PROMPTS, 100, step=1, label="Prompts in a round, at most", elem_id="arena-asked")
            with gr.Row(elem_id="arena-round-buttons"):
                self.go = gr.Button("Next round", variant="primary", size="sm", elem_id="arena-go")
                self.label = gr.Button("Label now", variant="primary", size="sm", visible=False, elem_id="arena-label")
                self.enough = gr.Button("Train with these labels", size="sm", visible=False, elem_id="arena-enough")
                self.vote_round = gr.Button("Vote now", variant="primary", size="sm", visible=False, elem_id="arena-vote-round")
                self.give_up = gr.Button("Give this round up", size="sm", visible=False, elem_id="arena-give-up")
                self.stop = gr.Button("Stop", variant="stop", size="sm", visible=False, elem_id="arena-stop")

    def _connect(self, tab: gr.Tab, tabs: gr.Tabs, project: gr.Dropdown) -> None:
        live = [self.work, self.said, self.cancel, self.vote, self.played]
        going = [self.rounds, self.standing, self.go, self.label, self.enough, self.vote_round, self.give_up, self.stop, self.voted]
        everything = [self.ranks, *live, *going, self.timer, self.first, self.second]
        seen = [project, self.only_here, self.with_named]
        now = [*live, *going, self.timer]
        gr.on([project.change, tab.select], self.open, [*seen, self.first, self.second], everything, **AT_ONCE)
        gr.on([self.only_here.input, self.with_named.input], self.rank, seen, [self.ranks, self.rounds], **AT_ONCE)
        self.source.input(lambda source: gr.Textbox(visible=source == WRITTEN), self.source, self.text, **AT_ONCE)
        asked = [self.first, self.second, self.source, self.text, self.most, self.temperature]
        self.start.click(self.play, [project, self.with_named, *asked], now, **PRIVATE)
        self.cancel.click(self.desk.jobs.cancel, None, None, **AT_ONCE)
        self.go.click(self.go_on, [project, self.with_named, self.asked], now, **PRIVATE)
        self.give_up.click(self.end_round, [project, self.with_named], now, **PRIVATE)
        self.enough.click(self.go_on_now, [project, self.with_named], now, **PRIVATE)
        self.stop.click(lambda project_id: self.desk.stop(self.store.projects.home(project_id)), project, None, **AT_ONCE)
        self.timer.tick(self.look, [project, self.with_named], now, **AT_ONCE)
        self.vote.click(self.go_vote, self.played, [project, tabs], **PRIVATE)
        self.vote_round.click(self.go_vote, self.voted, [project, tabs], **PRIVATE)
        self.label.click(lambda project_id: self.go_vote(self.store.projects.home(project_id)), project, [project, tabs], **AT_ONCE)

    @guarded
    def open(self, project_id: int | None, only_here: bool, with_named: bool, first: str, second: str) -> Any:
        """Show everything as it is now. A match is shown with the rounds and models of the project it was played for."""
        known = speakers(self.store, project_id)
        listed = [(speaker.label, speaker.key) for speaker in known]
        keys = [key for _, key in listed]
        usual = [speaker.key for speaker in default_pair(self.store, project_id)]
        pair = [first, second] if first != second and {first, second} <= set(keys) else usual
        return [
            self.desk.ranking_html(project_id, only_here, with_named), *self.look(project_id, with_named, anew=True),
            *(gr.Dropdown(listed, value=key) for key in pair),
        ]

    @guarded
    def rank(self, project_id: int | None, only_here: bool, with_named: bool) -> Any:
        """Rank by other votes."""
        ranks = self.desk.ranking_html(project_id, only_here, with_named)
        return ranks, self.desk.rounds_html(self.store.projects.home(project_id), with_named)

    @guarded
    def play(self, project_id: int | None, with_named: bool, *told: Any) -> Any:
        """Begin a match and show it."""
        self.desk.match(project_id, *told)
        return self.look(project_id, with_named)

    @guarded
    def go_on(self, project_id: int | None, with_named: bool, asked: int) -> Any:
        """Go on with the project's round."""
        self.desk.go(self.store.projects.home(project_id), asked)
        return self.look(project_id, with_named)

    @guarded
    def go_on_now(self, project_id: int | None, with_named: bool) -> Any:
        """Train on the labels there are, without waiting for the others."""
        self.desk.go(self.store.projects.home(project_id), enough=True)
        return self.look(project_id, with_named)

    @guarded
    def end_round(self, project_id: int | None, with_named: bool) -> Any:
        """End the project's round where it stands."""
        self.desk.give_up(self.store.projects.home(project_id))
        return self.look(project_id, with_named)

    def look(self, project_id: int | None, with_named: bool, anew: bool = False) -> list[Any]:
        """Show how far the work in the background is, or what it left. anew: another project may have been shown before."""
        project_id = self.store.projects.home(project_id)
        state, standing = self.desk.jobs.state, self.desk.standing(project_id)
        at_work = standing.state is not None
        # the ranking behind it takes a while: not every second
        results = gr.skip() if at_work and not anew else self.desk.rounds_html(project_id, with_named)
        timer = gr.Timer(active=at_work or bool(state and state.running))
        return [*self._match_now(state), results, *self._round_now(standing), timer]

    def _match_now(self, state: JobState | None) -> list[Any]:
        if state is None:
            return ["", "", gr.Button(visible=False), gr.Button(visible=False), None]
        bar = view.progress_html(state.title, state.done, state.total) if state.running else ""
        ready = not state.running and bool(getattr(state.report, "pairs", 0))
        return [bar, state.message, gr.Button(visible=state.running), gr.Button(visible=ready), state.project_id]

    def _round_now(self, standing: Standing) -> list[Any]:
        step, at_work, (match_id, votes) = standing.step, standing.state is not None, standing.waiting
        labelling = step is not None and step.kind == LABEL
        is_open = step is not None and step.round is not None
        return [
            view.standing_html(step, standing.state, standing.message, votes, standing.answering),
            gr.Button(
                "Go on with the round" if is_open else "Next round", visible=not at_work, interactive=step is not None,
                variant="secondary" if labelling or votes else "primary",
            ),
            gr.Button(visible=labelling), gr.Button(visible=labelling and bool(step.labelled)),
            gr.Button(visible=votes > 0), gr.Button(visible=is_open and not at_work), gr.Button(visible=at_work), match_id,
        ]

    @guarded
    def go_vote(self, project_id: int | None) -> Any:
        """Choose the project of the answers, and open the Label tab."""
        choices = [(each.name, each.id) for each in self.store.projects.list()]
        return gr.Dropdown(choices, value=project_id), gr.Tabs(selected="label")
