"""The Data tab: what a project holds, and the cards that put something in, let models answer, and take labels out.

Owns where the cards stand and what they show together. Figures come from the store and work under way from `jobs`,
so a reloaded page finds both again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from models.client import Workers
from storage import Store
from transfer.candidates.tab import Candidates
from transfer.desk import Desk, Overview
from transfer.exporting.tab import Copy, Exporting
from transfer.intake import tab as intake_tab
from transfer.intake.tab import Intake
from transfer.jobs import Jobs
from transfer.markup import figures

AT_ONCE = {"api_visibility": "private", "show_progress": "hidden", "queue": False}


def build(
    page: gr.Blocks, tab: gr.Tab, store: Store, project: gr.Dropdown, workers: Workers, jobs: Jobs | None = None
) -> None:
    """Fill the Data tab.

    page: the page it belongs to; project: the header's list of projects, whose value is a project's id or None.
    jobs: the background work to show, where the program has other work than this tab's.
    """
    DataTab(Desk(store, workers, jobs or Jobs())).build(tab, project)


def css() -> str:
    """Return the tab's style sheet, with those of its cards."""
    return Path(__file__).with_name("data.css").read_text(encoding="utf-8") + intake_tab.css()


def head() -> str:
    """Return what the tab adds to the page's head: nothing."""
    return ""


class DataTab:
    """The cards of one Data tab and what connects them."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def build(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        """Lay the tab out and connect it."""
        with gr.Column(elem_id="data-root"):
            self.figures = gr.HTML(figures(Overview()), padding=False, elem_id="data-figures")
            with gr.Row(equal_height=False):
                with gr.Column(min_width=320):
                    self.intake = Intake(self.desk, self.look)
                with gr.Column(min_width=320):
                    self.candidates = Candidates(self.desk, self.look)
                    self.exporting, self.copy = Exporting(self.desk), Copy(self.desk)
        self.timer = gr.Timer(1.0, active=False)
        self._connect(tab, project)

    def _connect(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        live = [self.figures, *self.candidates.live, *self.intake.live, self.timer]
        self.intake.connect(project, live)
        self.candidates.connect(project, live)
        self.exporting.connect(project)
        self.copy.connect()
        self.timer.tick(self.look, project, live, **AT_ONCE)
        opened = [*self.exporting.opened, self.candidates.model, *live]
        project.change(self.open, project, opened, **AT_ONCE)
        tab.select(self.open, project, opened, **AT_ONCE)

    def open(self, project_id: int | None) -> tuple[Any, ...]:
        """Show a project."""
        return *self.exporting.open(project_id), self.candidates.listed(), *self.look(project_id)

    def look(self, project_id: int | None) -> tuple[Any, ...]:
        """Return the figures and the state of the work under way, in the order of `live`."""
        # Asked first: what ends while the rest is read is then shown by one more tick.
        running = self.candidates.is_running or self.intake.is_running
        return (
            figures(self.desk.overview(project_id)), *self.candidates.look(project_id),
            *self.intake.look(project_id), gr.Timer(active=running),
        )
