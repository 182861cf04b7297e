"""How fast a key is answered: from the key press to the next card painted, in Chromium.

    python -m benchmarks.labeling [--keys 120] [--network-ms 100] [--json]

Everything runs on this machine against a fresh store in a temporary folder. It does not know the app: it serves a
page with the Label tab alone.
"""

from __future__ import annotations

import json
import statistics
import tempfile

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
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")
def command(keys: int, network_ms: int, as_json: bool) -> None:
    """Measure labelling and print the figures."""
    figures: dict[str, dict[str, float]] = {}
    for delay in (0, network_ms):
        figures[f"key to next card painted, {delay} ms network"] = spread(press_keys(keys, delay))
    for name, figure in figures.items():
        click.echo(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in figure.items()))
    if as_json:
        click.echo(json.dumps(figures))


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


if __name__ == "__main__":
    main()
