"""Figure 4 as a film: how the phase diagram forms while it is trained.

python -m figures.film [--results results/film.npz] [--out results/film.gif]
"""

from collections.abc import Sequence
from pathlib import Path

import polyjax
from polyjax.cli.command import script


def draw(*, results: Path = Path("results/film.npz"), out: Path = Path("results/film.gif")) -> None:
    """Show how a phase diagram forms.

    Args:
        results: A results file with snapshots.
        out: The film, .gif or .mp4.
    """
    polyjax.plot.film(polyjax.load(results), out)


def main(argv: Sequence[str] | None = None) -> None:
    script("python -m figures.film", draw, argv)


if __name__ == "__main__":
    main()
