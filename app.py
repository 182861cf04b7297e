"""The entry point: the page (a list of tabs on one server) and the command line. Holds no logic of its own.

    python app.py [serve] [--host 127.0.0.1] [--port 7860] [--data DIR]
    python app.py COMMAND --help

Gradio is imported inside the functions that need it, so that `train` also runs where it is not installed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands import cli, data_option, device_option, report_errors
from errors import AppError
from models.client import Workers
from settings import Settings
from storage import Store
from transfer.jobs import Jobs

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI
    from gradio.events import Dependency
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What the page may load and run. Gradio needs inline scripts; nothing may come from, or go to, another host:
# a response that embeds a remote image would otherwise tell that host who is labelling.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
# The browser keeps the project and the name chosen last, written at once: gr.BrowserState writes some time later.
REMEMBER = "(project, annotator) => localStorage.setItem('preference-studio', JSON.stringify({project, annotator}))"
REMEMBERED = "() => JSON.parse(localStorage.getItem('preference-studio') || '{}')"
DEFAULT_ANNOTATOR = "me"
HOUR, DAY = 3600, 86_400  # seconds: how often files that were sent up or down are looked through, and kept
SYSTEM_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]  # nothing to download


def build_page(store: Store, workers: Workers, jobs: Jobs) -> gr.Blocks:
    """Build the page: a header that chooses the project and the annotator, and the tabs."""
    import gradio as gr

    from arena import tab as arena_tab
    from chat import tab as chat_tab
    from labeling import tab as label_tab
    from publish import tab as publish_tab
    from report import tab as report_tab
    from review import tab as review_tab
    from training import tab as train_tab
    from transfer import tab as data_tab

    with gr.Blocks(title="Preference Studio", analytics_enabled=False, delete_cache=(HOUR, DAY)) as page:
        remembered = gr.JSON(visible=False)
        with gr.Row(elem_id="studio-header"):
            gr.Markdown("# Preference Studio", elem_id="studio-title")
            project = gr.Dropdown([], label="Project", elem_id="studio-project", min_width=150)
            annotator = gr.Textbox(
                label="Your name", value=DEFAULT_ANNOTATOR, max_length=100, elem_id="studio-annotator", min_width=100
            )
        # The first tab must not listen to its own selection: Gradio fires that while the page is still being put up, and a
        # component that vanishes then leaves "Loading..." over the page for good.
        with gr.Tabs(elem_id="studio-tabs") as tabs:
            with gr.Tab("Label", id="label") as tab:
                label_tab.build(page, tab, store, project, annotator)
            with gr.Tab("Review", id="review") as tab:
                review = review_tab.build(page, tab, store, project, annotator)
            with gr.Tab("Train", id="train") as tab:
                train_tab.build(page, tab, store, project, workers)
            with gr.Tab("Report", id="report") as tab:
                report_tab.build(
                    page, tab, store, project, workers, opened=[tabs, *review.opened],
                    on_open=lambda item_id: [gr.Tabs(selected="review"), *review.open_item(item_id)],
                )
            with gr.Tab("Chat", id="chat") as tab:
                chat_tab.build(page, tab, store, project, annotator, workers)
            with gr.Tab("Arena", id="arena") as tab:
                arena_tab.build(page, tab, tabs, store, project, workers)
            with gr.Tab("Data", id="data") as tab:
                data_tab.build(page, tab, store, project, workers, jobs)
            with gr.Tab("Publish", id="publish") as tab:
                publish_tab.build(page, tab, store, project, workers)

        def restore(kept: dict) -> tuple:
            projects = store.projects.list()
            ids = [each.id for each in projects]
            chosen = kept.get("project") if kept.get("project") in ids else next(iter(ids), None)
            choices = gr.Dropdown([(each.name, each.id) for each in projects], value=chosen)
            return choices, kept.get("annotator") or DEFAULT_ANNOTATOR

        hidden = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
        restored = page.load(restore, remembered, [project, annotator], js=REMEMBERED, **hidden)
        gr.on([project.change, annotator.change], None, [project, annotator], None, js=REMEMBER, **hidden)
        _keep_open_tab(tabs, restored, hidden)
    page.queue(default_concurrency_limit=8, api_open=False)
    return page


def _keep_open_tab(tabs: gr.Tabs, restored: Dependency, hidden: dict) -> None:
    """Let `app.js` keep the open tab over a reload. restored: the tab is opened after it, of the project chosen by then."""
    _, *others = tabs.children
    restored.then(None, None, tabs, js=f"() => studioTab.open({json.dumps([tab.id for tab in others])})", **hidden)
    tabs.change(None, None, None, js="() => studioTab.keep(null)", **hidden)  # the first one may not be listened to
    for tab in others:  # comes after the change, also where a button opened the tab
        tab.select(None, None, None, js=f"() => studioTab.keep({json.dumps(tab.id)})", **hidden)


def create_app(store: Store, workers: Workers, jobs: Jobs) -> FastAPI:
    """Build the web application: the labelling routes and the page, behind a content security policy.

    jobs: the background work whose progress the Data tab shows.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")
    import gradio as gr
    from fastapi import FastAPI

    from arena import tab as arena_tab
    from chat import tab as chat_tab
    from labeling import routes
    from labeling import tab as label_tab
    from publish import tab as publish_tab
    from report import tab as report_tab
    from review import tab as review_tab
    from training import tab as train_tab
    from transfer import tab as data_tab

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(routes.router(store))
    app.get("/health")(lambda: {"status": "ok"})

    app.add_middleware(SecurityHeaders)
    tabs = (label_tab, review_tab, train_tab, report_tab, chat_tab, arena_tab, data_tab, publish_tab)
    own_css, own_js = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("app.css", "app.js"))
    return gr.mount_gradio_app(
        app,
        build_page(store, workers, jobs),
        path="/",
        run_history=False,
        footer_links=[],
        enable_monitoring=False,
        ssr_mode=False,
        show_error=True,
        max_file_size="1gb",
        app_kwargs={"openapi_url": None, "docs_url": None, "redoc_url": None},
        theme=gr.themes.Default(
            primary_hue="indigo", neutral_hue="slate", font=SYSTEM_FONTS, font_mono=["ui-monospace", "Consolas", "monospace"]
        ),
        css="\n".join(tab.css() for tab in tabs),
        # In the head, because Gradio confines `css` to what is inside its container.
        head="\n".join([f"<style>{own_css}</style><script>{own_js}</script>", *(tab.head() for tab in tabs)]),
    )


class SecurityHeaders:
    """Adds the page's security headers to every response. Plain ASGI: it stands before each label."""

    HEADERS = tuple(
        (name.encode(), value.encode())
        for name, value in (
            ("content-security-policy", CONTENT_SECURITY_POLICY),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
        )
    )

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its response back with the headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self.HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def bind(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 takes a free one. Raises AppError when it cannot be had."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise AppError(
            f"Cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}. Is Preference Studio"
            " already running there? Choose another port with --port, or --port 0 for any free one."
        ) from error


def serve(settings: Settings) -> None:
    """Serve the page until interrupted; a new data folder gets the example project first."""
    import uvicorn

    from transfer import example

    # To be told to end is to end in order; uvicorn raises the signal again once it is through.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = bind(settings.host, settings.port)
    store = Store(settings.data)
    workers, jobs = Workers(store.folder / "runs", settings.device), Jobs()
    example.start_filling(store, workers, jobs)
    app = create_app(store, workers, jobs)
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"Preference Studio is at {address}  (data in {store.folder}; Ctrl-C stops it)")
    if host not in ("127.0.0.1", "::1"):
        click.echo("Everybody who can reach this address can label, train and read the data.", err=True)
    try:
        uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)).run(sockets=[listener])
    finally:
        jobs.cancel()
        workers.stop()
        store.writes.close()


@cli.command("serve", default=True)
@click.option("--host", default=Settings.host, show_default=True, help="Address to listen on.")
@click.option("--port", default=Settings.port, show_default=True, type=int, help="Port; 0 takes a free one.")
@data_option
@device_option
def serve_command(host: str, port: int, data: Path, device: str) -> None:
    """Serve the page: label, train, chat (what happens when no command is given)."""
    serve(Settings(data=data, host=host, port=port, device=device))


if __name__ == "__main__":
    report_errors(cli)
