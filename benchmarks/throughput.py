"""Training throughput inside the real sweep, beside how such grids are trained elsewhere, in one run.

    python -m benchmarks.throughput [--quick] [--out results/bench]

Prints tables as it goes and writes OUT.json, OUT.png and OUT.pdf; about ten minutes on two cores. Every point is
measured by `point` in a process of its own, with an empty compilation cache of its own. This process stays small and
does not import JAX, since Linux counts the memory of a parent to the peak of its child.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.machine import machine, words
from benchmarks.plan import Point, plan, quick

ROUNDS = 3  # in which polyjax and its peers take turns
TITLES = {
    "models": "Every model and activation",
    "peers": "polyjax and its peers take turns",
    "variants": "Samplers, optimisers, and models on the device at once (chunk)",
    "number of models": "Over the number of models",
    "size": "Over features and neurons",
    "samples": "Over samples a step",
}
Row = dict[str, Any]
COLUMNS: tuple[tuple[str, str, Callable[[Row], str]], ...] = (  # heading, alignment and width, text
    ("who", "<18", lambda row: row["who"] + (", passive" if row["passive"] else "")),
    ("model", "<23", lambda row: Point(**{k: row[k] for k in Point.__dataclass_fields__}).name),
    ("samples", ">7", lambda row: f"{row['batch']}"),
    ("models", ">10", lambda row: f"{row['models']:,}"),
    ("steps", ">6", lambda row: f"{row['steps']:,}"),
    ("sampler", ">11", lambda row: row["sampler"] or ""),
    ("optimiser", ">10", lambda row: row["optimizer"]),
    ("chunk", ">6", lambda row: f"{row['chunk'] or ''}"),
    ("M steps/s", ">10", lambda row: f"{row['rate']:.4g}"),
    ("run s", ">8", lambda row: f"{row['run_s']:.2f}"),
    ("compile s", ">10", lambda row: f"{row['compile_s']:.1f}"),
    ("peak MB", ">8", lambda row: f"{row['peak_mb']:.0f}"),
    ("ratio", ">7", lambda row: f"{row['ratio']:,.1f}" if "ratio" in row else ""),
)
FIGURES = 5  # the first columns that say what is measured; the others are figures


def measure(point: Point) -> Row:
    """The point's row, from a fresh process. One that fails has its reason under `missing`, as a peer that is not
    installed, so that it does not cost the others."""
    with TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "benchmarks.point", json.dumps(asdict(point))]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
        environment |= {"OMP_WAIT_POLICY": "passive"} if point.passive else {}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return {**asdict(point), "missing": f"failed: {reason[0]}"}
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def line(row: Row) -> str:
    if "missing" in row:
        return "".join(f"{text(row):{width}}" for _, width, text in COLUMNS[:FIGURES]) + f"  {row['missing']}"
    return "".join(f"{text(row):{width}}" for _, width, text in COLUMNS)


def heading(title: str) -> str:
    return f"\n{title}\n" + "".join(f"{name:{width}}" for name, width, _ in COLUMNS)


def show(row: Row) -> Row:
    print(line(row), flush=True)
    return row


def section(title: str, points: Sequence[Point]) -> list[Row]:
    print(heading(title), flush=True)
    return [show(measure(point)) for point in points]


def turns(points: Sequence[Point], rounds: int) -> list[Row]:
    """Medians over rounds in which all take turns, and how many times faster polyjax is on the same model."""
    by_round = [section(f"{TITLES['peers']}: round {i + 1} of {rounds}", points) for i in range(rounds)]
    rows = [_median(measured) for measured in zip(*by_round, strict=True)]
    ours = {_kind(row): row["rate"] for row in rows if row["who"] == "polyjax" and "rate" in row}
    print(heading(f"{TITLES['peers']}: medians, and how many times faster polyjax is"), flush=True)
    for row in rows:
        if "rate" in row and _kind(row) in ours:
            row["ratio"] = ours[_kind(row)] / row["rate"]
        show(row)
    return rows


def _kind(row: Row) -> tuple[str, str]:
    return row["model"], row["activation"]


def _median(rows: Sequence[Row]) -> Row:
    """Of the rounds that have figures; the first row as it is where none has."""
    measured = [row for row in rows if "missing" not in row]
    if not measured:
        return rows[0]
    medians = {name: median(row[name] for row in measured) for name in ("rate", "run_s", "compile_s", "peak_mb")}
    return measured[0] | medians | {"rates": [row["rate"] for row in measured]}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description="Measures throughput.")
    parser.add_argument("--quick", action="store_true", help="a few tiny points, to see that everything runs")
    parser.add_argument("--out", type=Path, default=Path("results/bench"), help="path of the files, without suffix")
    arguments = parser.parse_args(argv)
    about = machine()
    print(f"{words(about)}\nMillion model-steps a second; compilation is cold and apart.", flush=True)
    rounds = 1 if arguments.quick else ROUNDS
    sections = {
        name: turns(points, rounds) if name == "peers" else section(TITLES[name], points)
        for name, points in (quick() if arguments.quick else plan()).items()
    }
    about["device"] = next((row["device"] for rows in sections.values() for row in rows if "device" in row), "cpu")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    data = arguments.out.with_name(arguments.out.name + ".json")
    data.write_text(json.dumps({"machine": about, "sections": sections}, indent=1) + "\n")
    from benchmarks import picture  # after the last measurement, since it imports JAX

    picture.main(["--data", str(data), "--out", str(arguments.out)])


if __name__ == "__main__":
    main()
