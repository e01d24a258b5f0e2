"""How often the best restart of a cell is found, on how many samples.

    python -m benchmarks.ranking [--steps 2000]

Trains models of too many features for all activity masks, and ranks the restarts of every cell several times, on
other samples each time: all of them on as many samples as the best has in the end, and level by level as runs do it
(`polyjax.runs.ranking`). The truth is a ranking on far more samples. Loss is what a wrong choice costs, relative to
that of the best, on average.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np

import polyjax
from benchmarks.machine import machine, words
from polyjax import Anthropic, Redwood
from polyjax.engine import evaluation
from polyjax.engine.lattice import TILE
from polyjax.runs.ranking import Losses, sharpened

MODELS: dict[str, Redwood | Anthropic] = {
    "Redwood ReLU 100 in 20": Redwood(100, 20, "relu"),
    "Anthropic ReLU 100 in 20": Anthropic(100, 20, "relu"),
    "Anthropic ReLU 40 in 10": Anthropic(40, 10, "relu"),
}
GRID = {"density": np.geomspace(0.01, 1, 6), "importance": np.geomspace(0.1, 10, 4)}
RESTARTS, TIMES = 8, 8
TRUTH = 256, 4  # tiles, and how often


class Trained:
    """Trained restarts of a grid, as evaluation takes them."""

    def __init__(self, model: Redwood | Anthropic, steps: int) -> None:
        sweep = polyjax.Sweep(model, **GRID, restarts=RESTARTS, steps=steps, retries=0)  # type: ignore[arg-type]
        found = polyjax.run(sweep, progress=False)
        self.training = replace(sweep.training, engine=found.config["engine"])
        self.shape = found.loss.shape
        P, V, R = self.shape
        params = {name: a.reshape(P, V * R, *a.shape[3:]) for name, a in found.params.items()}
        axes, (rows, columns) = sweep.layout, np.indices((P, V * R))
        lane = axes.of_cells(rows, columns // R, self.training.lane_axes)
        self.lanes = self.training.one._replace(**params), lane, axes.of_row(np.arange(P))

    def rank(self, key: int, tiles: int, since: int = 0) -> np.ndarray:
        """Return the ranking loss [P, V, R] on some tiles."""
        program = evaluation.compiled_rank(self.training)
        found = program(*self.lanes, jax.random.key(key), np.int32(tiles), np.int32(since))
        return np.asarray(found).reshape(self.shape)

    def by_levels(self, key: int) -> tuple[np.ndarray, float]:
        """Return the ranking loss [P, V, R] level by level, and the samples of a network that it took."""
        levels = evaluation.levels(self.training)
        first = evaluation.compiled_first(self.training)(*self.lanes, jax.random.key(key))
        spent = np.full(self.shape, levels[0])

        def rank(which: np.ndarray, number: int) -> np.ndarray:
            since, tiles = levels[number : number + 2]
            spent[which] += tiles - since
            return self.rank(key, tiles, since)[which]

        losses = Losses(*(np.asarray(a).reshape(self.shape) for a in first))
        found = sharpened(losses, levels, rank, lambda which: (losses.loss[which], losses.loss_se[which]))
        return found.rank_loss, spent.mean() * TILE


def lines(name: str, steps: int) -> Iterator[str]:
    """Yield the figures of a model."""
    trained = Trained(MODELS[name], steps)
    tiles, times = TRUTH
    truth = np.mean([trained.rank(1000 + i, tiles) for i in range(times)], axis=0)
    whole = evaluation.levels(trained.training)[-1]
    yield _line(name, "all alike", truth, [(trained.rank(i, whole), whole * TILE) for i in range(TIMES)])
    yield _line(name, "by levels", truth, [trained.by_levels(i) for i in range(TIMES)])


def _line(name: str, how: str, truth: np.ndarray, found: list[tuple[np.ndarray, float]]) -> str:
    chosen = np.stack([loss.argmin(-1) for loss, _ in found])
    right = (chosen == truth.argmin(-1)).mean((1, 2))  # of each time
    of_chosen = np.take_along_axis(np.broadcast_to(truth, (len(found), *truth.shape)), chosen[..., None], -1)[..., 0]
    lost = (of_chosen / truth.min(-1) - 1).mean()
    error = right.std(ddof=1) / len(right) ** 0.5
    spent = np.mean([samples for _, samples in found])
    share = f"the best in {right.mean():.1%} +- {error:.1%} of cells"
    return f"{name:26} {how}: {share}, loss {lost:.3%}, {spent:,.0f} samples"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ranking", description="Measures how restarts are ranked."
    )
    parser.add_argument("--steps", type=int, default=2000, help="of training (default 2000)")
    steps = parser.parse_args().steps
    print(words(machine()), flush=True)
    for name in MODELS:
        for line in lines(name, steps):
            print(line, flush=True)


if __name__ == "__main__":
    main()
