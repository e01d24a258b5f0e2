"""The command lines of the scripts here: a sweep by the name of its preset, or several by the names of their panels."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

import polyjax
from polyjax.cli.command import script
from polyjax.cli.sweeping import Options


def sweep_script(
    name: str, about: str, Preset: Any, sweep: Callable[..., polyjax.Sweep], argv: Sequence[str] | None
) -> None:
    """Train `sweep(preset, seed)` into results/NAME.npz, as the command line says; `Preset` is a Literal of names."""

    def train(
        *,
        preset: Preset = "paper",  # type: ignore[valid-type]
        out: Path = Path("results", f"{name}.npz"),
        options: Options = Options(),
    ) -> None:
        """Train the sweep.

        Args:
            preset: Size of the grid.
            out: The results file to write.
        """
        options.run({out: lambda: sweep(preset, options.seed)})

    script(f"python -m sweeps.{name}", train, argv, about)


def panels_script(
    name: str,
    about: str,
    panels: Collection[str],
    Preset: Any,
    sweep: Callable[..., polyjax.Sweep],
    argv: Sequence[str] | None,
) -> None:
    """Train `sweep(panel, preset, seed)` of the panels that the command line names, or of all, into a file each of the
    folder results/NAME; `Preset` is a Literal of names."""
    Panel: Any = Literal[tuple(panels)]

    def train(
        *,
        panel: Annotated[list[Panel] | None, Parameter(negative="")] = None,  # type: ignore[valid-type]
        preset: Preset = "paper",  # type: ignore[valid-type]
        out: Path = Path("results", name),
        options: Options = Options(),
    ) -> None:
        """Train the sweeps of panels.

        Args:
            panel: Train this one alone; may be repeated.
            preset: Size of the grids.
            out: The folder to write PANEL.npz into.
        """
        options.run({out / f"{each}.npz": partial(sweep, each, preset, options.seed) for each in panel or panels})

    script(f"python -m sweeps.{name}", train, argv, about)
