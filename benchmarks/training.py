"""Preference training, ours against TRL: pairs per second, memory, and how near to the machine's arithmetic.

Run: `python -m benchmarks.training [--shape short|long] [--method dpo|kto] [--only ours|trl-defaults|trl-best]
[--device cpu|cuda] [--size 26m|0.5b|1.5b|8b] [--json]`. Without options: both shapes, both methods, all contenders,
on the CPU; about an hour on two cores, nearly all of it TRL's. Every contender trains one epoch in a process of its
own with all cores, on the same random words in the same order, from the same weights and the same adapter.

TRL's best settings are the fastest of `TRIALS` on a quarter of the pairs, then run in full. `--keep FILE` takes TRL's
figures from a file when the same task is there, and adds them to it. Knows no model and imports no torch, so that
it adds nothing to the memory that is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONTENDERS = ("ours", "trl-defaults", "trl-best")
PAIRS = {"short": 64, "long": 24}
BATCH = 8
PRECOMPUTED = {"precompute_ref_log_probs": True, "gradient_checkpointing": False}
# Tried for TRL's best settings. `padding_free` is not among them: TRL 1.16 warns that it is unavailable and pads.
TRIALS: dict[str, dict[str, Any]] = {
    "precomputed reference, no checkpointing": PRECOMPUTED,
    "the same, a quarter of the batch at a time": {**PRECOMPUTED, "parts": 4},
    "the same, one pair at a time": {**PRECOMPUTED, "parts": BATCH},
    "the same, bf16 autocast": {**PRECOMPUTED, "bf16": True},
    "the same, bf16 autocast, a quarter of the batch at a time": {**PRECOMPUTED, "bf16": True, "parts": 4},
}
FIRST_LOSS = {"dpo": math.log(2), "kto": 0.5}
# How far the losses of two contenders may part, by method: KTO's reference point is measured on other mismatched
# responses by each.
PARTING = {"dpo": 0.01, "kto": 0.03}


def main() -> None:
    """Read the options, run the contenders, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=PAIRS)
    parser.add_argument("--method", choices=FIRST_LOSS)
    parser.add_argument("--only", choices=CONTENDERS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", default="26m", help="26m, or on a GPU 0.5b, 1.5b, 8b")
    parser.add_argument("--pairs", type=int, help="fewer or more pairs than the shape has")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of a contender (all cores)")
    parser.add_argument("--ours", nargs="*", default=[], metavar="NAME=VALUE", help="settings of our run")
    parser.add_argument("--keep", type=Path, help="a file to take TRL's figures from, and to add them to")
    parser.add_argument("--json", action="store_true", help="print the reports as JSON, too")
    options = parser.parse_args()
    reports = []
    for shape in [options.shape] if options.shape else PAIRS:
        for method in [options.method] if options.method else FIRST_LOSS:
            found = compared(options, shape, method)
            print(table(shape, method, found), flush=True)
            reports += found
    if options.json:
        print(json.dumps(reports))


def compared(options: argparse.Namespace, shape: str, method: str) -> list[dict[str, Any]]:
    """Run the contenders asked for on one shape with one method and return their reports."""
    task = {
        "method": method, "shape": shape, "size": options.size, "device": options.device,
        "pairs": options.pairs or PAIRS[shape], "batch": BATCH,
    }
    reports = []
    for contender in [options.only] if options.only else CONTENDERS:
        if contender == "ours":
            settings = dict(change.split("=", 1) for change in options.ours)
            reports.append(run({**task, "contender": contender, "settings": settings}, options))
        elif contender == "trl-defaults":
            reports.append(run({**task, "contender": contender, "settings": {}}, options))
        else:
            reports.append(best(task, options))
    return reports


def best(task: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Try TRL's settings on a quarter of the pairs and run the fastest in full."""
    pairs = max(BATCH, task["pairs"] // 4)
    trials: dict[str, float] = {}
    for name, settings in TRIALS.items():
        settings = trl_settings(settings, task["method"])
        trials[name] = rate(run({**task, "contender": "trl-best", "pairs": pairs, "settings": settings}, options))
        print(f"  tried {name}: {trials[name]:.3f} pairs/s", file=sys.stderr, flush=True)
    fastest = max(trials, key=trials.__getitem__)
    settings = trl_settings(TRIALS[fastest], task["method"])
    report = run({**task, "contender": "trl-best", "settings": settings}, options)
    return {**report, "chosen": fastest, "trials": trials}


def trl_settings(settings: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return settings by TRL's names: `parts` cuts the batch (a KTO batch holds two responses for each pair)."""
    settings = dict(settings)
    parts = settings.pop("parts", 1)
    examples = BATCH * (2 if method == "kto" else 1)
    if parts > 1:
        settings |= {"per_device_train_batch_size": examples // parts, "gradient_accumulation_steps": parts}
    return settings


def run(task: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Run one contender in a process of its own and return its report."""
    key = json.dumps([task, options.threads], sort_keys=True)
    kept = json.loads(options.keep.read_text()) if options.keep and options.keep.exists() else {}
    if key in kept and task["contender"] != "ours":
        return kept[key]
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_contenders", json.dumps(task)],
        env={**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false"}, capture_output=True, text=True,
    )
    if done.returncode:
        raise SystemExit(f"{task['contender']} failed:\n{done.stderr[-4000:]}")
    report = json.loads(done.stdout.splitlines()[-1])
    if options.keep and task["contender"] != "ours":
        options.keep.write_text(json.dumps({**kept, key: report}))
    return report


def rate(report: Mapping[str, Any]) -> float:
    """Return pairs per second, the reference pass included."""
    return report["task"]["pairs"] / (report["reference_seconds"] + report["training_seconds"])


def table(shape: str, method: str, reports: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures of one shape and method as a Markdown table, with what was checked below it."""
    task, ours = reports[0]["task"], next((each for each in reports if each["task"]["contender"] == "ours"), None)
    lines = [
        f"\n{method} on {shape} rows: {task['pairs']} pairs, {task['size']}, {task['device']},"
        f" {reports[0]['threads']} threads, {reports[0]['versions']}\n",
        "| | reference | training | pairs/s | ours ÷ it | peak memory | above the loaded model | ours of it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in reports:
        above = each["peak_bytes"] - each["base_bytes"]
        faster = f"{rate(ours) / rate(each):.2f}" if ours else ""
        share = f"{ours['peak_bytes'] / each['peak_bytes']:.2f}" if ours else ""
        reference = f"{each['reference_seconds']:.1f} s" if each["reference_seconds"] else "in each step"
        lines.append(
            f"| {each['task']['contender']} | {reference} | {each['training_seconds']:.1f} s | {rate(each):.3f} |"
            f" {faster} | {each['peak_bytes'] / 1e9:.2f} GB | {above / 1e9:.2f} GB | {share} |"
        )
    return "\n".join([*lines, "", *notes(method, reports)])


def notes(method: str, reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return utilisation, TRL's trials and the checks. Raises SystemExit when contenders did not do the same."""
    found = []
    for each in reports:
        name, flops = each["task"]["contender"], each["flops"]
        if "trials" in each:
            tried = "; ".join(f"{trial} {figure:.3f}" for trial, figure in each["trials"].items())
            found.append(f"{name}: {each['chosen']} (tried on a quarter, pairs/s: {tried}).")
        seconds = each["reference_seconds"] + each["training_seconds"]
        achieved = (flops["reference"] + flops["training"]) / seconds
        utilisation = ", ".join(
            f"{achieved / rate:.1%} of a {product} product ({rate / 1e9:.0f} GFLOP/s)"
            for product, rate in each["rates"].items()
        )
        parts = " + ".join(f"{flops[part] / 1e9:.0f} GFLOP {part}" for part in ("reference", "training"))
        found.append(f"{name}: model FLOPs {parts}: {utilisation}.")
        if each["reference_seconds"]:
            floors = {part: flops[part] / each["rates"]["rows"] for part in ("reference", "training")}
            found.append(f"{name}: floor {floors['reference']:.1f} s + {floors['training']:.1f} s.")
        found.append(
            f"{name}: {each['processor_seconds']:.1f} s of processor time in {seconds:.1f} s on {each['threads']} threads"
            " (much less than their product: something else held the machine)."
        )
        if "again" in each:
            again = each["again"]
            found.append(
                f"{name} a second time: reference {again['reference_seconds']:.2f} s,"
                f" training {again['training_seconds']:.1f} s."
            )
        if each.get("synchronisations"):
            found.append(f"{name}: {each['synchronisations']['count']} host synchronisations.")
        found.append(f"{name}: losses {', '.join(f'{loss:.4f}' for loss in each['losses'])}.")
        check(abs(each["losses"][0] - FIRST_LOSS[method]) < tolerance(each), f"{name} starts at {each['losses'][0]}")
    first = reports[0]
    for each in reports[1:]:
        names = f"{first['task']['contender']} and {each['task']['contender']}"
        check(each["tokens"] == first["tokens"], f"{names} score different tokens")
        apart = max(abs(one - other) for one, other in zip(first["losses"], each["losses"], strict=True))
        check(apart < PARTING[method] + tolerance(each), f"the losses of {names} part by {apart:.4f}")
        found.append(f"{names}: the same tokens; losses never more than {apart:.5f} apart.")
    return found


def tolerance(report: Mapping[str, Any]) -> float:
    """Return how far rounding may move a loss: 1e-4 in float32, more where bf16 is used."""
    return 1e-4 if report["task"]["device"] == "cpu" and not report["task"]["settings"].get("bf16") else 0.05


def check(holds: bool, problem: str) -> None:
    """Stop with a sentence when a comparison would not be fair."""
    if not holds:
        raise SystemExit(f"Not comparable: {problem}.")


if __name__ == "__main__":
    main()
