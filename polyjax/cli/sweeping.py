"""`polyjax sweep`, and what it shares with scripts that run sweeps of their own: how a run is done."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from polyjax.cli.command import Switch
from polyjax.cli.dask import executor
from polyjax.recipes import TABLES, read, sweep_of
from polyjax.runs import to_file

if TYPE_CHECKING:
    from polyjax.sweep import Sweep


@Parameter(name="*")
@dataclass(frozen=True)
class Running:
    """How a run is done, which changes none of its results.

    Args:
        restart: Discard the results or the unfinished run there.
        timing: Print where the time went: compilation, samples, training, evaluation, polishing, saving.
        dask: Workers that train: the address of a Dask scheduler, or local:N for N processes here (docs/clusters.md).
    """

    restart: Switch = False
    timing: Switch = False
    dask: str | None = None


@Parameter(name="*")
@dataclass(frozen=True)
class Options(Running):
    """The options of scripts that run sweeps of their own.

    Args:
        seed: Of the initialisations and the samples.
        snapshots: How many times capacities are looked at on the way, for films; by default as the sweep has it.
    """

    seed: int = 0
    snapshots: int | None = None

    def run(self, sweeps: Mapping[Path, Callable[[], Sweep]]) -> None:
        """Run each sweep into its results file."""
        looks = {} if self.snapshots is None else {"snapshots": self.snapshots}
        asked = {path: lambda make=make: replace(make(), **looks) for path, make in sweeps.items()}
        run_sweeps(asked, self)


def run_sweeps(sweeps: Mapping[Path, Callable[[], Sweep]], how: Running) -> None:
    """Run each sweep into its results file. Raises ValueError for a file that cannot be written."""
    for path in sweeps:
        check_results_path(path)
    if how.restart:
        for path in sweeps:  # all at once, since the command that continues says no more of it
            to_file.discard(path)
    needed = how.dask and not all(path.exists() for path in sweeps)
    with executor(how.dask) if needed and how.dask else nullcontext() as workers:
        for path, sweep in sweeps.items():
            if len(sweeps) > 1:
                print(path, flush=True)
            to_file.run_to_file(sweep(), path, executor=workers, timing=how.timing)


def check_results_path(path: Path) -> None:
    """Raise ValueError unless a results file can be written there, so that no training is lost in the end."""
    if path.suffix != ".npz":
        raise ValueError(f"--out must end in .npz, but is {str(path)!r}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        must = "be in a folder that can be written to"
        raise ValueError(f"--out must {must}, but is {str(path)!r}: {error}") from None


Table = Annotated[dict[str, str] | None, Parameter(negative="")]


@Parameter(name="*")
@dataclass(frozen=True)
class Recipe:
    """What a TOML file may say, option by option; an option takes the place of what the file says.

    Args:
        model: Such as "Redwood(6, 3, relu)" or "Anthropic(6, n_neurons)", where n_neurons is an axis.
        axes: Values of axes, such as --axes.density "geomspace(0.01, 1, 40)", "linspace(0, 1, 11)" or "[0.1, 0.2]".
        features: Of features: --features.density and --features.importance, each a number, an axis, a list or
            "one_important(V)", "geometric(ratio)", "grouped([2, 4], [1, V])"; --features.distribution, such as normal;
            --features.activity, such as "together([0, 1], [2, 3])", "exclusive([0, 1])", "hierarchy(none, 0, 0)".
        restarts: Networks a cell.
        steps: Of training; a number or an axis.
        batch: Samples a step; likewise.
        learning_rate: At which Adam starts.
        optimizer: Another one, such as "adamw(cosine(0.02), weight_decay=wd)": adam, adamw, lion, rmsprop or sgd of
            optax.
        sampler: How samples are drawn.
        objective: sampled, or the closed-form expected loss.
        engine: What trains.
        retries: Most times that a network which did not settle is trained again.
        refine: Most rounds in which cells are continued from their neighbours.
        polish: Minimise each cell's solution to the end.
        snapshots: How many times capacities are looked at on the way, for films.
        snapshot_weights: Keep the embeddings then, too.
        seed: Of the initialisations and the samples.
        chunk: Networks trained at once.
    """

    model: str | None = None
    axes: Table = None
    features: Table = None
    restarts: int | None = None
    steps: str | None = None
    batch: str | None = None
    learning_rate: float | None = None
    optimizer: str | None = None
    sampler: Literal["enumerated", "stratified", "iid"] | None = None
    objective: Literal["sampled", "expected"] | None = None
    engine: Literal["auto", "arrays", "lanes", "fused"] | None = None
    retries: int | None = None
    refine: int | None = None
    polish: Literal["true", "sampled", "restarts"] | None = None
    snapshots: int | None = None
    snapshot_weights: Switch = False
    seed: int | None = None
    chunk: int | None = None

    def over(self, table: dict[str, Any]) -> dict[str, Any]:
        """Return a recipe in which the options take the place of what it says."""
        given = {key: value for key, value in asdict(self).items() if value not in (None, False)}
        if self.polish == "true":
            given["polish"] = True
        merged = {key: {**table.get(key, {}), **given[key]} for key in TABLES if key in given}
        return table | given | merged


def sweep(
    config: Path | None = None,
    /,
    *,
    out: Path | None = None,
    recipe: Recipe = Recipe(),
    running: Running = Running(),
) -> None:
    """Train a sweep into a results file. Interrupted, the same command goes on.

    Args:
        config: A file of TOML; may be left out where the options say all.
        out: The results file to write; by default beside the TOML file.
    """
    if out is None and config is None:
        raise ValueError("--out must be given where there is no TOML file")
    path = out or Path(config or "").with_suffix(".npz")
    asked = sweep_of(recipe.over(read(config) if config else {}))
    run_sweeps({path: lambda: asked}, running)
