"""The benchmarks: peers train polyjax's models, and every command runs and writes what it says."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import prod

import jax
import numpy as np
import pytest
from legibility import assert_legible, rendered, words

import polyjax
from benchmarks import accuracy, executors, large, peers, picture, point, roofline, throughput
from benchmarks.peers import INSTALL, PEERS
from benchmarks.plan import Point, plan, quick
from polyjax.toy.models import Params

KINDS = [(model, f) for model in (polyjax.Redwood, polyjax.Anthropic) for f in ("square", "relu", "gelu")]
MEANS = jax.jit(
    lambda model, W, b, x, v: jax.vmap(
        lambda W, b, x, v: jax.vmap(model.loss, (None, 0, None))(Params(W, b), x, v).mean()
    )(W, b, x, v),
    static_argnums=0,
)


def sweep(model, **fields):
    return polyjax.Sweep(model, density=[0.2, 1], importance=[0.5, 1, 4], **({"restarts": 2, "batch": 64} | fields))


def batches(model, models=5, samples=7, seed=0):
    """W, b, x, v of several models."""
    rng = np.random.default_rng(seed)
    N, D = model.n_features, model.n_neurons
    b = rng.normal(size=(models,) if isinstance(model, polyjax.Redwood) else (models, N))
    arrays = rng.normal(size=(models, D, N)), b, rng.normal(size=(models, samples, N)), rng.uniform(size=(models, N))
    return [a.astype(np.float32) for a in arrays]


@pytest.mark.parametrize(("model", "activation"), KINDS)
def test_pytorch_has_the_loss_of_the_model(model, activation):
    torch = pytest.importorskip("torch")
    from benchmarks.torch_peers import batch_loss

    model = model(6, 3, activation)
    arrays = batches(model)
    theirs = batch_loss(model, *map(torch.as_tensor, arrays)).numpy()
    np.testing.assert_allclose(theirs, MEANS(model, *arrays), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", [polyjax.Redwood(4, 2), polyjax.Anthropic(4, 2)])
def test_pytorch_draws_the_features_of_the_model(model):
    torch = pytest.importorskip("torch")
    from benchmarks.torch_peers import samples

    density = np.array([0.1, 0.6, 1.0], np.float32)
    x = samples(model, torch.as_tensor(density), 20_000, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose((x != 0).mean((1, 2)), density, atol=0.01)
    kurtosis = ((x - x.mean((1, 2), keepdims=True)) ** 4).mean((1, 2)) / x.var((1, 2)) ** 2
    np.testing.assert_allclose(kurtosis, model.distribution.kurtosis(density), rtol=0.05)
    largest = np.sqrt(3 / density) if model.distribution.unit_variance else np.ones(3)
    np.testing.assert_allclose(abs(x).max((1, 2)), largest, rtol=1e-3)


def test_occhio_has_the_loss_and_the_grid_of_the_sweep():
    torch = pytest.importorskip("torch")
    pytest.importorskip("occhio")
    from benchmarks.torch_peers import occhio_grid

    grid = sweep(polyjax.Anthropic(6, 3, "relu"))
    models = occhio_grid(grid).models
    assert models.shape == grid.shape
    density, v = peers.lanes(grid)
    x = torch.as_tensor(batches(grid.model)[2][0])
    for one, p, importance in zip(models.ravel(), density, v, strict=True):
        W, b = one.ae.W.detach().numpy()[None], one.ae.b.detach().numpy()[None]
        theirs = one.ae.loss(x, one.ae.forward(x)[0], one.importances).item()
        np.testing.assert_allclose(theirs, MEANS(grid.model, W, b, x.numpy()[None], importance[None])[0], rtol=1e-5)
        np.testing.assert_allclose(one.distribution.p_active, p)


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("model", [polyjax.Redwood(4, 2, "square"), polyjax.Anthropic(4, 2, "relu")])
def test_peers_train(name, model):
    if reason := PEERS[name].missing(model):
        pytest.skip(reason)
    grid = sweep(model, steps=300, learning_rate=0.02)
    params = PEERS[name].compiled(grid)[1]()
    assert params.W.shape == (*grid.shape, 2, 4)
    W, b = (np.asarray(a).reshape(prod(grid.shape), *a.shape[3:]) for a in params)
    x = np.random.default_rng(0).uniform(-1, 1, (len(W), 500, 4)).astype(np.float32)
    x = x if model.distribution.unit_variance else abs(x)
    density, v = peers.lanes(grid)
    x *= np.random.default_rng(1).random(x.shape) < density[:, None, None]
    if model.distribution.unit_variance:
        x *= np.sqrt(3 / density)[:, None, None]
    trained, nothing = MEANS(model, W, b, x, v), MEANS(model, 0 * W, 0 * b, x, v)
    assert (trained < nothing).all()


def test_peers_train_every_cell_with_its_own_density_and_importance():
    grid = sweep(polyjax.Redwood(2, 1), steps=1)
    density, v = (peers.grid(grid, a, a).W for a in peers.lanes(grid))
    np.testing.assert_array_equal(density[:, 0, 0], np.float32(grid.density))
    np.testing.assert_array_equal(v[0, :, 0, 0], np.float32(grid.importance))
    assert (density == density[:, :1, :1]).all()
    assert (v == v[:1, :, :1]).all()


def test_a_peer_that_is_not_installed_has_a_row_that_says_so(monkeypatch):
    absent = replace(PEERS["PyTorch"], packages=("no_such_package",))
    assert absent.missing(polyjax.Redwood(6, 3)) == INSTALL
    row = {**vars(Point(who="PyTorch")), "missing": INSTALL}
    monkeypatch.setattr(throughput, "measure", lambda point: row)
    assert throughput.turns([Point(who="PyTorch")], 2) == [row]
    assert throughput.line(row).endswith("not installed (pip install 'polyjax[peers]')")


def test_occhio_is_compared_on_its_own_model_only():
    has = {model: PEERS["occhio"].supports(model) for model in (polyjax.Anthropic(6, 3), polyjax.Redwood(6, 3, "relu"))}
    assert [*has.values()] == [True, False]


def test_ratios_are_of_medians_on_the_same_model(monkeypatch):
    rates = iter([8.0, 0.1, 4.0, 10.0, 0.2, 6.0, 12.0, 0.3, 5.0])
    others = {"run_s": 1.0, "compile_s": 1.0, "peak_mb": 1.0}
    monkeypatch.setattr(throughput, "measure", lambda point: {**vars(point), **others, "rate": next(rates)})
    rows = throughput.turns([Point(), Point(who="PyTorch"), Point(activation="relu")], 3)
    np.testing.assert_allclose([row["ratio"] for row in rows], [1, 50, 1])


def test_points_train_as_many_models_as_they_say():
    for points in [*plan().values(), *quick().values()]:
        for one in points:
            assert prod(one.grid) == one.models


def test_a_failure_costs_one_row():
    assert throughput.measure(Point(activation="no such"))["missing"].startswith("failed: ValueError: activation must")


def test_a_large_sweep_is_compiled_on_a_part_of_its_rows(monkeypatch):
    trained = []
    monkeypatch.setattr(polyjax, "run", lambda sweep, progress: trained.append(len(sweep.density)))
    found = point.of_polyjax(point.sweep(Point(models=10**6, steps=500)), repeats=1)
    assert trained == [50, 500]
    assert found["compile_s"] >= 0
    assert found["engine"] == "lanes"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "bench"
    command = [sys.executable, "-m", "benchmarks.throughput", "--quick", "--out", str(out)]
    return out, subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_the_quick_benchmark_writes_figures_and_picture(bench):
    out, printed = bench
    data = json.loads(out.with_suffix(".json").read_text())
    assert [*data["sections"]] == [*plan()]
    assert data["machine"]["versions"]["polyjax"]
    for section in data["sections"].values():
        for row in section:
            assert "missing" in row or (row["rate"] > 0 and row["peak_mb"] > 50 and row["cold"])
            assert row.get("missing", INSTALL) == INSTALL
    for row in data["sections"]["peers"]:
        assert (PEERS[row["who"]].missing(polyjax.Anthropic(2, 1)) if row["who"] in PEERS else None) == row.get(
            "missing"
        )
    assert all(out.with_suffix(suffix).stat().st_size > 10_000 for suffix in (".png", ".pdf"))
    assert "million model-steps" in printed.lower()


def made_up():
    """Figures of the whole plan, as a machine might give them."""
    rate = {"polyjax": 9.0, "JAX vmap": 0.06, "PyTorch": 0.03, "occhio": 0.008}
    figures = {"engine": "lanes", "run_s": 1.0, "compile_s": 1.0, "ratio": 150.0}
    sections = {
        name: [
            {
                **vars(point),
                **figures,
                "rate": rate[point.who] * (256 / point.batch) ** 0.8 * 18 / point.n_features / point.n_neurons,
                "peak_mb": 400 + point.models * (0.1 if point.who in PEERS else 0.0003),
            }
            for point in points
        ]
        for name, points in plan().items()
    }
    about = {"processor": "Example", "cores": 2, "date": "2026-01-31", "python": "3.11", "versions": {"jax": "0.10"}}
    return {"machine": about, "sections": sections}


def test_the_picture_is_legible_and_says_what_was_measured():
    fig, drawn = rendered(lambda: picture.draw(made_up()))
    assert_legible(fig, drawn)
    for text in ("polyjax, Redwood GELU", "occhio, Anthropic ReLU", "100 in 20", "2 cores of Example", "256 samples"):
        assert text in words(drawn)


def test_the_picture_leaves_out_who_is_not_there():
    data = made_up()
    for rows in data["sections"].values():
        rows[:] = [{**row, "missing": INSTALL} if row["who"] in PEERS else row for row in rows]
    assert "PyTorch" not in words(rendered(lambda: picture.draw(data))[1])


@pytest.mark.slow
def test_error_is_that_of_figure_4():
    grid = accuracy.grid(6)
    v = accuracy.closed_form(grid.describe()).importances(np.asarray(grid.importance))
    k = np.asarray(grid.model.distribution.kurtosis(np.asarray(grid.density)))
    exact = np.asarray(polyjax.theory.optimal_capacity(v, k[:, None], 3))
    assert accuracy.error(grid, exact) == 0
    assert accuracy.error(grid, exact + 0.01) == pytest.approx(0.01)


def test_best_takes_the_restart_of_least_exact_loss():
    grid = accuracy.grid(3, restarts=2)
    W = np.zeros((*grid.shape, 3, 6))
    W[:, :, 1, :, :3] = np.eye(3)  # better than nothing, with the best bias
    b = np.zeros(grid.shape)
    b[:, :, 1] = 3
    np.testing.assert_allclose(accuracy.best(grid, Params(W, b))[..., :3], 1)


def test_front_and_first():
    figures = [(3.0, 0.004), (1.0, 0.02), (2.0, 0.03), (4.0, 0.001)]
    rows = accuracy.front([{"ms_per_cell": time, "error": error} for time, error in figures])
    assert [row["pareto"] for row in rows] == [True, False, True, True]
    assert accuracy.first(rows, 0.005) == rows[2]
    assert accuracy.first(rows, 0.0001) is None


@pytest.mark.slow
def test_the_quick_accuracy_writes_its_table(tmp_path, capsys):
    out = tmp_path / "accuracy.json"
    accuracy.main(["--quick", "--peers", "--out", str(out)])
    found = json.loads(out.read_text())
    assert len(found["polyjax"]) == 2
    assert {row["who"] for row in found["peers"]} == {who for who in ("JAX vmap", "PyTorch") if not missing(who)}
    assert capsys.readouterr().out.count("0.005") >= 2


def missing(who):
    return PEERS[who].missing(polyjax.Redwood(6, 3))


def test_a_cluster_that_sleeps_is_kept_busy_and_what_it_returns_is_saved():
    with ThreadPoolExecutor(4) as threads:
        found = executors.stage(chunks=8, size=4, work_s=0.05, inner=threads)
    assert found.chunks == 8
    assert found.wall_s >= 2 * 0.05
    assert 0 < executors.busy(found, 4, 0.05) <= 1


def test_bounds_of_an_accelerator_are_those_worked_out_by_hand():
    found = roofline.bounds(100, 20, 64)
    assert found.arithmetic == pytest.approx(10 * 2000 * 64 / 66.9e3)  # 1.28 million operations
    assert found.adam == pytest.approx(7 * 2100 * 4 / 3350)
    assert found.activations == pytest.approx(6 * 64 * 120 * 4 / 3350)
    assert found.rate == pytest.approx(13.78, rel=1e-3)  # memory bounds it


@pytest.mark.slow
def test_large_models_are_compared_with_the_peers_that_are_installed(monkeypatch):
    monkeypatch.setattr(large, "PEER_OPERATIONS", 1)
    monkeypatch.setattr(large, "OPERATIONS", 1)
    monkeypatch.setattr(large, "ROUNDS", 1)
    monkeypatch.setattr(
        large, "PEERS", {"JAX vmap": PEERS["JAX vmap"], "none": replace(PEERS["JAX vmap"], packages=("no_such",))}
    )
    ours, vmap, none = large.beside_peers((4, 2))
    assert ours.split()[:4] == ["4", "in", "2", "polyjax"]
    assert ours.endswith("1.0 times polyjax's")
    assert vmap.split()[3:5] == ["JAX", "vmap"]
    assert none.endswith(INSTALL)
