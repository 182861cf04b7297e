"""How fast labelling is: key press to next card painted in Chromium, and labels a second over HTTP.

    python -m benchmarks.labeling [--keys 120] [--network-ms 100] [--annotators 50] [--labels 2000] [--json]

Everything runs on this machine against a fresh store in a temporary folder. It does not know the app: it serves a
page with the Label tab alone.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import click

from storage import Store
from tests.browser import open_browser, open_page, serve
from tests.labeling_page import fill, make_app

# From the key event to the frame after the one that has the new text: what an eye can see.
MEASURE = """() => {
    window.figures = [];
    let pressed = 0;
    addEventListener("keydown", (event) => { pressed = event.timeStamp; }, true);
    new MutationObserver(() => {
        if (!pressed) return;
        const since = pressed;
        pressed = 0;
        requestAnimationFrame(() => {
            const channel = new MessageChannel();
            channel.port1.onmessage = () => figures.push(performance.now() - since);
            channel.port2.postMessage(0);
        });
    }).observe(document.querySelector("#label-a"), {childList: true, characterData: true, subtree: true});
}"""
READY = '#label-page [data-state="card"][data-ready="yes"]'
PRESS_EVERY_MS = 250


def main() -> None:
    """Print the figures."""
    command()


@click.command()
@click.option("--keys", default=120, help="Key presses to measure in the browser.")
@click.option("--network-ms", default=100, help="Delay of every request in the second browser figure.")
@click.option("--annotators", default=50, help="Annotators at once over HTTP, without think time.")
@click.option("--labels", default=2000, help="Labels they give together.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")
def command(keys: int, network_ms: int, annotators: int, labels: int, as_json: bool) -> None:
    """Measure labelling and print the figures."""
    figures: dict[str, dict[str, float]] = {}
    for delay in (0, network_ms):
        figures[f"key to next card painted, {delay} ms network"] = spread(press_keys(keys, delay))
    seconds, times, stored = send_labels(annotators, labels)
    figures[f"{annotators} annotators over HTTP, one label"] = spread(times)
    for name, figure in figures.items():
        click.echo(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in figure.items()))
    click.echo(f"{stored / seconds:.0f} labels/s; {len(times)} sent, {stored} stored")
    if as_json:
        click.echo(json.dumps({**figures, "labels_per_second": stored / seconds, "sent": len(times), "stored": stored}))


def spread(milliseconds: list[float]) -> dict[str, float]:
    """Return n, median, 95th percentile and maximum of times in milliseconds."""
    cuts = statistics.quantiles(milliseconds, n=20)
    return {
        "n": len(milliseconds), "p50_ms": round(cuts[9], 1), "p95_ms": round(cuts[18], 1),
        "max_ms": round(max(milliseconds), 1),
    }


def press_keys(count: int, network_ms: float) -> list[float]:
    """Return, for each of `count` key presses in Chromium, the milliseconds until the next card was painted."""
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        store = Store(folder)
        fill(store, pairs=count + 20, singles=0)
        with serve(make_app(store)) as address, open_page(address, browser) as page:
            page.locator(READY).wait_for()
            network = page.context.new_cdp_session(page)
            network.send("Network.enable")
            network.send(
                "Network.emulateNetworkConditions",
                {"offline": False, "latency": network_ms, "downloadThroughput": -1, "uploadThroughput": -1},
            )
            page.evaluate(MEASURE)
            for number in range(count):
                page.keyboard.press("1234"[number % 4])
                page.wait_for_timeout(PRESS_EVERY_MS)
                page.locator(READY).wait_for()
            page.locator('#label-page [data-waiting="0"]').wait_for()
            figures = page.evaluate("figures")
        stored = sum(store.labels.counts(1).values())
        store.close()
    if len(figures) != count or stored != count:
        raise SystemExit(f"{count} keys were pressed, {len(figures)} cards painted and {stored} labels stored.")
    return figures


def send_labels(annotators: int, labels: int) -> tuple[float, list[float], int]:
    """Return seconds taken, milliseconds of each request, and how many labels were stored."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        with store.transaction():
            fill(store, pairs=labels, singles=0)
        bodies = [
            {
                "project": 1, "item": item, "word": "tie", "shown": [2 * item - 1, 2 * item], "annotator": "Ann",
                "session": "benchmark", "client_id": f"benchmark-{item}", "active_seconds": 1.0,
            }
            for item in range(1, labels + 1)
        ]  # fmt: skip
        with serve(make_app(store)) as address:
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # not in the server's process
                seconds, times = pool.apply(post_all, (address, bodies, annotators))
        stored = sum(store.labels.counts(1).values())
        store.close()
    return seconds, times, stored


def post_all(address: str, bodies: list[dict], connections: int) -> tuple[float, list[float]]:
    """Post labels over that many connections at once; return seconds in all and milliseconds of each request."""
    times: list[float] = []

    def annotator(share: list[dict]) -> None:
        connection = http.client.HTTPConnection(urlsplit(address).netloc)
        for body in share:
            begun = time.perf_counter()
            connection.request("POST", "/api/label/record", json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"A label was answered with {answer.status}.")
            times.append(1000 * (time.perf_counter() - begun))
        connection.close()

    threads = [threading.Thread(target=annotator, args=(bodies[number::connections],)) for number in range(connections)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, times


if __name__ == "__main__":
    main()
