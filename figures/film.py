"""Figure 4 as a film: how the phase diagram forms while it is trained.

python -m figures.film [--results results/film.npz] [--out results/film.gif]
"""

from collections.abc import Sequence
from pathlib import Path

import polyjax
from polyjax.cli.parser import Parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(prog="python -m figures.film", description="Shows how a phase diagram forms.")
    parser.add_argument("--results", type=Path, default="results/film.npz", help="a results file with snapshots")
    parser.add_argument("--out", type=Path, default="results/film.gif", help="the film, .gif or .mp4")
    arguments = parser.parse_args(argv)
    parser.report(lambda: polyjax.plot.film(polyjax.load(arguments.results), arguments.out))


if __name__ == "__main__":
    main()
