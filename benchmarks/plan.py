"""What `benchmarks.throughput` measures. Nothing here imports JAX: see `throughput` for why its process must not."""

from dataclasses import dataclass, replace
from math import isqrt

ACTIVATIONS = ("square", "relu", "gelu")
MODELS = [(model, activation) for model in ("Redwood", "Anthropic") for activation in ACTIVATIONS]
PEERS = ("JAX vmap", "PyTorch", "occhio")
RESTARTS = 4
PEER_WORK = 40_000  # model-steps of one run of a peer: a second or a few
SCALING_STEPS = 500  # the same at every number of models, so that the points can be compared


@dataclass(frozen=True)
class Point:
    """One measurement: who trains which models, and how."""

    who: str = "polyjax"
    model: str = "Redwood"
    activation: str = "square"
    n_features: int = 6
    n_neurons: int = 3
    models: int = 2000  # a multiple of RESTARTS
    batch: int = 256
    steps: int = 2000
    sampler: str | None = None  # None: the default
    optimizer: str = "Adam"
    chunk: int | None = None  # models on the device at once; None: the default
    repeats: int = 3
    passive: bool = False  # PyTorch's threads sleep while they wait for each other, see `peer`

    @property
    def name(self) -> str:
        return f"{self.model} {self.activation} {self.n_features} in {self.n_neurons}"

    @property
    def grid(self) -> tuple[int, int, int]:
        """Densities, importances, restarts; as square as the number of models allows."""
        cells = self.models // RESTARTS
        rows = next(n for n in range(isqrt(cells), 0, -1) if cells % n == 0)
        return rows, cells // rows, RESTARTS


def peer(who: str, model: str, activation: str, models: int = 2000, passive: bool = True) -> Point:
    """A peer's point: few steps, since its cost a step does not depend on their number.

    As installed, PyTorch's threads spin while they wait, which costs a factor of several where anything else runs
    on the cores; `passive` sets OMP_WAIT_POLICY, as few users do, and shows PyTorch and occhio at their best.
    """
    return Point(who, model, activation, models=models, steps=max(3, PEER_WORK // models), repeats=1, passive=passive)


def plan() -> dict[str, list[Point]]:
    """The sections of the benchmark, name -> points."""
    relu = Point(activation="relu", batch=64)
    return {
        "models": [Point("polyjax", *kind, models=8000, batch=batch) for kind in MODELS for batch in (64, 256)],
        "peers": _contenders("Redwood", "square") + _contenders("Anthropic", "relu"),
        "variants": _variants(relu),
        "number of models": _over_models(),
        "size": _over_size(relu),
        "samples": [Point(batch=2**k, steps=1000, repeats=1) for k in range(6, 13)],
    }


def quick() -> dict[str, list[Point]]:
    """The same sections with one or a few tiny points each, to see that everything runs."""
    tiny = Point(model="Anthropic", activation="relu", n_features=2, n_neurons=1, models=20, steps=4, repeats=1)
    return {
        "models": [tiny],
        "peers": [tiny, *(replace(tiny, who=who) for who in PEERS)],
        "variants": [replace(tiny, sampler="iid", optimizer="SGD", chunk=8)],
        "number of models": [tiny, replace(tiny, models=80)],
        "size": [tiny],
        "samples": [tiny],
    }


def _contenders(model: str, activation: str) -> list[Point]:
    kind = model, activation
    as_installed = [peer(who, *kind, passive=False) for who in PEERS]
    return [Point("polyjax", *kind), *as_installed, *(peer(who, *kind) for who in PEERS if who != "JAX vmap")]


def _variants(base: Point) -> list[Point]:
    samplers = [replace(base, sampler=name) for name in ("enumerated", "stratified", "iid")]
    optimizers = [replace(base, optimizer=name) for name in ("AdamW", "SGD")]
    chunks = [replace(base, models=16_000, steps=500, chunk=chunk) for chunk in (128, 512, 1600, 4096)]
    return samplers + optimizers + chunks


def _over_models() -> list[Point]:
    series = [("Redwood", "square", 6), ("Anthropic", "relu", 5), ("Redwood", "gelu", 5)]
    ours = [
        Point("polyjax", model, activation, models=10**k, steps=SCALING_STEPS, repeats=3 if k < 5 else 1)
        for model, activation, last in series
        for k in range(2, last + 1)
    ]
    theirs = [("JAX vmap", "Redwood", "square"), ("PyTorch", "Redwood", "square"), ("occhio", "Anthropic", "relu")]
    return ours + [peer(*kind, models=10**k) for kind in theirs for k in (2, 3, 4)]


def _over_size(base: Point) -> list[Point]:
    sizes = [(6, 3), (6, 5), (10, 5), (12, 6), (20, 5), (20, 10)]
    points = [replace(base, n_features=n, n_neurons=d, models=1000, repeats=1) for n, d in sizes]
    return [*points, replace(base, n_features=100, n_neurons=20, models=100, repeats=1)]
