"""The Label tab: a controller in the browser (`page/*.js`) that paints ordinary Markdown cards and talks to `routes`.

Nothing of labelling goes through Gradio's queue: a key press is answered in the browser from cards fetched ahead.
Text of models and people reaches the page only as values of Markdown components, never inside a template.
It does not know what a label means.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from storage import Store

PAGE = Path(__file__).parent / "page"
# One script, in this order: each part uses what the parts before it define.
SCRIPTS = (
    "words.js", "request.js", "outbox.js", "deck.js", "figures.js", "draft.js", "clock.js", "session.js", "text.js",
    "states.js", "keys.js", "keypanel.js", "panels.js", "extras.js", "ranking.js", "editor.js", "recent.js", "diff.js",
    "difference.js", "scroll.js", "screen.js", "controller.js", "events.js",
)  # fmt: skip
TEMPLATES = ("label.html", "panels.html")
STYLES = ("label.css", "answers.css", "panels.css")
SIDES = "abcdef"  # the most responses an item has
# No single dollar: Gradio would take "$5 … $10" for mathematics; `text.js` turns what is into \\(…\\).
LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
    {"left": "\\[", "right": "\\]", "display": True},
]
# The controller may be made after the project is known: it finds here what was asked for.
CONFIGURE = """(project, annotator) => {
    const page = (window.preferenceStudioLabel ??= {});
    page.asked = [project ?? null, annotator ?? ""];
    page.configure?.(...page.asked);
    return [];
}"""


def build(page: gr.Blocks, tab: gr.Tab, store: Store, project: gr.Dropdown, annotator: gr.Textbox) -> None:
    """Make the tab's components and listeners inside the tab that is open.

    project: the header's dropdown, whose value is a project id or None; annotator: the header's name field.
    The page reads and writes the store through `routes.router(store)` only.
    """
    template = "\n".join(map(_read, TEMPLATES))
    with gr.HTML(
        elem_id="label-page", html_template=template, js_on_load=script(), apply_default_css=False
    ) as controller:
        with gr.Column(elem_id="label-table", elem_classes="label-table"):
            with gr.Column(elem_id="label-conversation", elem_classes="label-card"):
                context, prompt = _text("label-context"), _text("label-prompt")
            with gr.Row(elem_id="label-responses"):
                responses = [_response(side) for side in SIDES]
        with gr.Column(elem_id="label-guidelines"):
            guidelines = _text("label-guidelines-text")
    hidden = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "multiple"}
    first, more = [context, prompt, *responses[:2]], responses[2:]
    controller.show(None, None, first, js="() => window.preferenceStudioLabel.texts()", **hidden)
    # Rankings only: what a pair does not show should not slow it down.
    controller.more(None, None, more, js="() => window.preferenceStudioLabel.more()", **hidden)
    controller.guide(None, None, guidelines, js="() => window.preferenceStudioLabel.guidelines()", **hidden)
    for changed in (project.change, annotator.change):
        changed(None, [project, annotator], None, js=CONFIGURE, **hidden)


def script() -> str:
    """Return the controller as one script, as Gradio runs it: with `element` and `trigger` in scope."""
    return "\n".join(_read(name) for name in SCRIPTS)


def css() -> str:
    """Return the tab's style sheet."""
    return "\n".join(map(_read, STYLES))


def head() -> str:
    """Return what the tab needs in the page's head: nothing."""
    return ""


def _response(side: str) -> gr.Markdown:
    only_rankings = ["label-card-more"] if side not in "ab" else []
    with gr.Column(elem_classes=["label-card", f"label-card-{side}", *only_rankings], min_width=0):
        return _text(f"label-{side}")


def _text(elem_id: str) -> gr.Markdown:
    return gr.Markdown(
        "", elem_id=elem_id, elem_classes="label-text", latex_delimiters=LATEX, line_breaks=True, sanitize_html=True
    )


def _read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")
