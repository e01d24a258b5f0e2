"""Searches for the best minima of some 200 cells of figure 7, for best_known.npz; shares no code with polyjax.

    python -m tests.data.search    # about 40 minutes on one core

For every cell, many structured and random starts are minimised on few samples, the best of them on more and more, and
all distinct minima near the best are kept. A second pass starts from what other cells of the panel found, and from more
random weights. What is finished is kept in results/best_known; the same command continues after an interruption.
"""

import sys
import time
from itertools import combinations_with_replacement
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from tests.reference import FEATURES, TABLE, canonical, capacities, expected_loss, problem, quadrature

WORK = Path("results/best_known")
PANELS = [
    *("redwood-square-6in3", "redwood-relu-6in3", "anthropic-square-6in3", "anthropic-relu-6in3"),
    *("anthropic-square-6in5", "anthropic-relu-6in5", "redwood-gelu-6in3", "anthropic-gelu-6in3"),
    "anthropic-gelu-6in5",
]
DENSITY, IMPORTANCE = np.geomspace(0.01, 1, 64), np.geomspace(0.01, 100, 64)
CELLS = 22  # a panel
DENSE = 60  # the first row whose density is above 3/4
LANDMARKS = [(0.01, 0.01), (0.01, 100), (1, 1), (0.1, 1), (0.01, 1), (1, 100), (1, 0.01), (0.3, 0.3)]  # (p, V)
HARD = {
    "redwood-relu-6in3": [(0.019, 100), (0.31, 100)],
    "redwood-gelu-6in3": [(0.019, 100), (0.31, 100), (0.93, 31)],
    "anthropic-square-6in3": [(1, 6.2)],
    "anthropic-relu-6in3": [(0.8, 36)],
}
STAGES = [  # samples, iterations, how many go on and within which excess; cheap and rough first
    (1024, 40, 40, 2.0),
    (2048, 150, 24, 0.3),
    (4096, 150, 10, 0.03),
    (2**15, 200, 6, 0.002),
    (2**17, 120, 6, 0.001),
]
PASSES = 2
RESTARTED = 30  # random starts of a later pass
KEPT = 2e-4  # the excess over the best up to which minima are stored
BLOCKS = {1: ((1, 0), (1, 1)), 2: ((2, 1),), 3: ((3, 2),), 4: ((4, 3),), 5: ((5, 4), (5, 2)), 6: ((6, 5), (6, 3))}


class Minimum(NamedTuple):
    """Weights that end a minimisation, and their loss."""

    W: np.ndarray  # [D, N]
    b: np.ndarray  # [] or [N]
    loss: float


def cells(panel):
    """The (row, column) of a panel's cells: hard ones, landmarks, dense rows, and others at random."""
    nearest = [
        (int(abs(np.log(DENSITY / p)).argmin()), int(abs(np.log(IMPORTANCE / v)).argmin()))
        for p, v in HARD.get(panel, []) + LANDMARKS
    ]
    random = np.random.default_rng(PANELS.index(panel))
    dense = [(row, int(random.integers(64))) for row in range(DENSE, 64)] if panel.startswith("anthropic") else []
    chosen = list(dict.fromkeys(nearest + dense))
    while len(chosen) < CELLS:
        cell = tuple(int(i) for i in random.integers(64, size=2))
        chosen += [cell] * (cell not in chosen)
    return chosen


def scale(problem):
    """How long an embedding is: a column of W in units in which 1 is a feature with a neuron of its own. [N]"""
    power = {"square": 0.5, "relu": 1, "gelu": 1}[problem.activation] if problem.model == "redwood" else 0
    return np.array([problem.importance**power] + [1.0] * (FEATURES - 1))


def starts(problem, random):
    """W [D, N] and b to start from, in units of `scale`."""
    D = problem.neurons
    designs = [arranged(blocks, D, random) for blocks in partitions(D)]
    designs += [combined(D, random) for _ in range(24 if problem.model == "anthropic" else 48)]
    designs += [random.normal(size=(D, FEATURES)) * size for size in (0.1, 0.4, 0.4, 0.8, 1.5) for _ in range(6)]
    for W in designs:
        W = W + 0.03 * random.normal(size=W.shape)
        if problem.model == "anthropic":
            # What is not embedded is best met by its mean.
            ignored = np.clip(1 - (W**2).sum(0), 0, 1)
            yield W, ignored * problem.density / 2 + 0.02 * random.normal(size=FEATURES)
        else:
            yield with_signs(W) if problem.activation != "square" else W, np.zeros(())


def partitions(D):
    """All ways to share D dimensions out to blocks of the features, each with feature 0 in every kind of block once."""
    kinds = [(n, d) for blocks in BLOCKS.values() for n, d in blocks]
    for count in range(1, FEATURES + 1):
        for blocks in combinations_with_replacement(kinds, count):
            if sum(n for n, _ in blocks) == FEATURES and D - 1 <= sum(d for _, d in blocks) <= D:
                for first in dict.fromkeys(blocks):
                    rest = list(blocks)
                    rest.remove(first)
                    yield [first, *rest]


def arranged(blocks, D, random):
    """A W whose blocks, the first with feature 0, have dimensions of their own."""
    W, row, column = np.zeros((D, FEATURES)), 0, 0
    for n, d in blocks:
        W[row : row + d, column : column + n] = frame(n, d, random)
        row, column = row + d, column + n
    return W


def frame(n, d, random):
    """n unit vectors in d dimensions, as far apart as they can be: [d, n]."""
    if d == n - 1:  # a simplex: antipodes, a triangle, ...
        centred = np.linalg.svd(np.eye(n) - 1 / n)[2][:d]
        return centred / np.linalg.norm(centred, axis=0)
    if d == 2:
        angle = 2 * np.pi * np.arange(n) / n
        return np.array([np.cos(angle), np.sin(angle)])
    frame = random.normal(size=(d, n))
    return frame / np.linalg.norm(frame, axis=0)


def combined(D, random):
    """A W in which every feature has one neuron, shares it out, is split over several, or is left out."""
    patterns = [[1], [-1], [0.5, 0.5], [1, -1], [0.5, -0.5], [0.7, -0.3], [0.75, 0.75, -0.5], [1 / 3] * 3, [0.0]]
    W = np.zeros((D, FEATURES))
    for column in W.T:
        pattern = patterns[random.integers(len(patterns))]
        column[random.permutation(D)[: len(pattern)]] = pattern
    return W


def with_signs(W):
    """Neurons turned so that they sum up to the features as well as they can; all else in the loss depends on |w . x|
    alone."""
    signs = np.array(np.meshgrid(*[[1, -1]] * len(W))).reshape(len(W), -1).T
    return signs[((signs @ W - 1) ** 2).sum(1).argmin()][:, None] * W


def turned(minimum):
    """A Redwood minimum with each of its neurons turned: near solutions that descent does not reach."""
    for neuron in range(len(minimum.W)):
        W = minimum.W.copy()
        W[neuron] *= -1
        yield Minimum(W, minimum.b, np.inf)


def descend(problem, minimum, samples, iterations, signs=None):
    """The minimum below, on these samples, by L-BFGS; with `signs` [D, N], among W of such signs."""
    shape, size = minimum.W.shape, minimum.W.size

    def unpacked(theta):
        return theta[:size].reshape(shape), theta[size:] if problem.model == "anthropic" else theta[size]

    def value(theta):
        W, b = unpacked(theta)
        if signs is not None:
            W = np.where(W == 0, signs * 1e-300, W)  # the derivative on this side
        loss = expected_loss(problem, W, b, samples)
        return loss.value / unit, np.append(loss.W, loss.b) / unit

    unit = expected_loss(problem, minimum.W, minimum.b, samples).value  # since tolerances are absolute below 1
    start, bounds = np.append(minimum.W, minimum.b), None
    if signs is not None:
        bounds = [(0, None) if sign > 0 else (None, 0) for sign in signs.flat] + [(None, None)] * minimum.b.size
    options = {"maxiter": iterations, "maxcor": 30, "ftol": 1e-10, "gtol": 1e-10}
    end = minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return Minimum(*unpacked(end.x), float(end.fun) * unit)


def descend_at_kinks(problem, minimum, samples, iterations):
    """`descend` where weights of zero are kinks of the loss, which many minima sit on: feature i alone is active with a
    probability above 0, and then |w_di x_i| is in the loss. First on one side of zero, then on the other."""
    signs, loss = np.where(minimum.W > 0, 1, -1), np.inf
    while True:
        minimum = descend(problem, minimum, samples, iterations, signs)
        signs = np.where(minimum.W == 0, -signs, np.where(minimum.W > 0, 1, -1))
        if not minimum.loss < loss * (1 - 1e-8):
            return minimum
        loss = minimum.loss


def best(found, count, excess):
    """The best `count` distinct minima within an excess over the best of all."""
    kept = []
    for minimum in sorted((m for m in found if np.isfinite(m.loss)), key=lambda m: m.loss):
        if minimum.loss > (1 + excess) * found_best(kept, minimum) or len(kept) == count:
            break
        if not any(same(minimum, other) for other in kept):
            kept.append(minimum)
    return kept


def found_best(kept, minimum):
    return kept[0].loss if kept else minimum.loss


def same(one, other):
    """Whether two minima agree up to rotations and exchanges; rough ends of one descent agree as well."""
    gap = abs(canonical(capacities(one.W)) - canonical(capacities(other.W))).max()
    return abs(one.loss - other.loss) < 1e-4 * other.loss and gap < 1e-3


def search(problem, begin, known=()):
    """The distinct minima near the best, best first: from the starts, and from minima that are known to be good."""
    found, turn = begin, problem.model == "redwood" and problem.activation != "square"
    kinked = turn and problem.activation == "relu"
    for points, iterations, count, excess in STAGES:
        found = [*found, *(known if points == STAGES[-2][0] else [])]
        dtype = np.float64 if points > STAGES[1][0] or problem.activation == "square" else np.float32
        samples = quadrature(problem, points, points, dtype)
        down = descend_at_kinks if kinked and points == STAGES[-1][0] else descend
        found = [down(problem, minimum, samples, iterations) for minimum in found]
        if turn and points == STAGES[1][0]:
            found += [descend(problem, other, samples, iterations) for m in best(found, 6, 1.0) for other in turned(m)]
        found = best(found, count, excess)
    samples = quadrature(problem)
    scored = [m._replace(loss=expected_loss(problem, m.W, m.b, samples).value) for m in found]
    return best(scored, len(scored), KEPT)


def save(path, minima):
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **{name: np.array([getattr(m, name) for m in minima]) for name in Minimum._fields})
    partial.rename(path)


def load(path):
    with np.load(path) as file:
        return [Minimum(*row) for row in zip(*(file[name] for name in Minimum._fields), strict=True)]


def first_pass(panel):
    for number, cell in enumerate(cells(panel)):
        if not (path := file_of(panel, cell)).exists():
            here = cell_problem(panel, cell)
            random = np.random.default_rng([PANELS.index(panel), number])
            begin = [Minimum(W * scale(here), b, np.inf) for W, b in starts(here, random)]
            report(panel, cell, path, lambda: search(here, begin))  # noqa: B023


def later_pass(panel, turn):
    """Every cell from its own minima, the best one of each other cell, and other starts."""
    bests = {cell: load(file_of(panel, cell, turn - 1)) for cell in cells(panel)}
    for number, (cell, own) in enumerate(bests.items()):
        if not (path := file_of(panel, cell, turn)).exists():
            here = cell_problem(panel, cell)
            begin = [
                Minimum(minima[0].W / scale(cell_problem(panel, other)) * scale(here), minima[0].b, np.inf)
                for other, minima in bests.items()
                if other != cell
            ]
            random = np.random.default_rng([PANELS.index(panel), number, turn])
            begin += [Minimum(W * scale(here), b, np.inf) for W, b in list(starts(here, random))[-RESTARTED:]]
            report(panel, cell, path, lambda: search(here, begin, own))  # noqa: B023


def report(panel, cell, path, found):
    began = time.monotonic()
    minima = found()
    save(path, minima)
    losses = " ".join(f"{m.loss:.6g}" for m in minima)
    print(f"{panel} {cell} pass {path.stem[-1]} {time.monotonic() - began:.1f} s: {losses}", flush=True)


def cell_problem(panel, cell):
    return problem(panel, DENSITY[cell[0]], IMPORTANCE[cell[1]])


def file_of(panel, cell, turn=1):
    return WORK / f"{panel}_{cell[0]}_{cell[1]}_{turn}.npz"


def collect():
    """Writes the table of all cells that were searched: one row a minimum, padded with NaN to the largest W and b."""
    rows = []
    for panel in PANELS:
        for cell in cells(panel):
            # A pass has all that the one before it found.
            paths = [path for turn in range(PASSES, 0, -1) if (path := file_of(panel, cell, turn)).exists()]
            rows += [(panel, *cell, minimum) for minimum in (load(paths[0]) if paths else [])]
    size = max(minimum.W.shape[0] for *_, minimum in rows)
    W, b = np.full((len(rows), size, FEATURES), np.nan), np.full((len(rows), FEATURES), np.nan)
    for i, (*_, minimum) in enumerate(rows):
        W[i, : len(minimum.W)] = minimum.W
        b[i, : minimum.b.size] = minimum.b
    row, column = (np.array([r[i] for r in rows], np.int16) for i in (1, 2))
    np.savez_compressed(
        TABLE,
        panel=np.array([r[0] for r in rows]),
        row=row,
        column=column,
        density=DENSITY[row],
        importance=IMPORTANCE[column],
        loss=np.array([r[3].loss for r in rows]),
        capacity=np.array([capacities(r[3].W) for r in rows]),
        W=W,
        b=b,
    )


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    for turn in range(1, PASSES + 1):
        for panel in PANELS:
            first_pass(panel) if turn == 1 else later_pass(panel, turn)
            collect()


if __name__ == "__main__":
    sys.exit(main())
