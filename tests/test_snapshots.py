"""Networks on their way: the same training, looked at after about geometric numbers of steps; curves and films."""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import polyjax
from figures import film as film_of_figure_4
from polyjax import Anthropic, Redwood, Sweep, plot
from polyjax.__main__ import main as command
from polyjax.cli.sweeping import Options
from polyjax.engine import execution
from polyjax.engine.blocks import snapshot_steps
from polyjax.engine.fused import training as fused
from polyjax.engine.fused.kernels import Kernel
from polyjax.engine.keys import keys

SWEEP = Sweep(
    Redwood(4, 2), [0.1, 0.6], [0.5, 1, 3], restarts=2, steps=60, batch=16, snapshots=5, snapshot_weights=True
)
PLAIN = replace(SWEEP, snapshots=0, snapshot_weights=False)


@pytest.fixture(scope="module")
def results():
    return polyjax.run(SWEEP, progress=False)


@given(st.integers(1, 100_000), st.integers(2, 60))
@settings(deadline=None)
def test_steps_are_few_from_the_start_to_the_end_and_about_geometric(steps, most):
    found = snapshot_steps(steps, most)
    assert found[0] == 0
    assert found[-1] == steps
    assert len(found) <= max(2, most)
    assert (np.diff(found) > 0).all()
    block = max(1, min(10, steps // 2))
    exact = np.geomspace(block, steps, most - 1)  # rounded to whole blocks
    assert all(abs(exact - step).min() <= block / 2 + 1e-6 for step in found[1:-1])


def test_snapshots_change_nothing_else(results):
    plain = polyjax.run(PLAIN, progress=False)
    assert plain.snapshots is None
    for name, a in plain.arrays().items():
        np.testing.assert_allclose(a, results.arrays()[name], rtol=2e-5, atol=2e-6)  # of another program


def test_the_last_snapshot_is_the_end_and_the_first_the_start(results):
    looks = results.snapshots
    first = results.attempt == 0
    np.testing.assert_allclose(looks.capacity[..., -1, :], results.capacity, atol=1e-6)
    np.testing.assert_array_equal(looks.embedding[..., -1, :, :], results.W)
    column, axes = np.repeat(np.arange(3), 2)[None].repeat(2, 0), SWEEP.layout
    cells = axes.of_cells(np.repeat([[0], [1]], 6, axis=1), column)
    restart = np.tile([0, 1], (2, 3))
    start = execution.initial(SWEEP.training, keys(0).start, cells, restart).W.reshape(results.W.shape)
    np.testing.assert_allclose(looks.embedding[..., 0, :, :][first], start[first], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["lanes", "arrays"])
@pytest.mark.parametrize(("steps", "number"), [(60, 1), (60, 3), (37, 2)])
def test_a_snapshot_is_where_fewer_steps_end(engine, steps, number):
    # A schedule that does not know how many steps there are.
    sweep = replace(SWEEP, optimizer=optax.adam(0.05), steps=steps, engine=engine, retries=0)
    whole = polyjax.run(sweep, progress=False).snapshots
    assert whole.steps[number] % 10 == 0
    end = polyjax.run(replace(sweep, steps=int(whole.steps[number])), progress=False)
    np.testing.assert_allclose(whole.embedding[..., number, :, :], end.W, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(jax.__version_info__ < fused.OLDEST_JAX, reason="the kernels need jax 0.11 or newer")
def test_the_kernel_takes_them_too():
    fixed = replace(SWEEP.training, engine="fused")
    start = jax.vmap(jax.vmap(fixed.one_model.init))(jax.random.split(jax.random.key(0), (2, 3)))
    lane, row = {"importance": jnp.full((2, 3), 2.0)}, {"density": jnp.array([0.1, 0.6])}
    arguments = start, lane, row, jax.random.key(1)
    found = fused.train(fixed, *arguments, kernel=Kernel("gpu", interpret=True)).snapshots
    expected = execution.compiled(replace(fixed, engine="lanes"))(*arguments).snapshots
    np.testing.assert_allclose(found.W, expected.W, rtol=1e-3, atol=1e-4)


def test_the_loss_is_that_of_the_network_then(results):
    # Of the square model, whose loss is known; the batch of a look has 128 samples.
    exact = polyjax.run(replace(SWEEP, objective="expected", steps=20, snapshots=2), progress=False)
    np.testing.assert_allclose(exact.snapshots.loss[..., -1], exact.loss, rtol=1e-5)
    ratio = results.snapshots.loss[..., -1] / results.loss
    assert 0.5 < np.median(ratio) < 2
    assert (results.snapshots.loss[..., -1] < results.snapshots.loss[..., 0]).mean() > 0.9


def test_lanes_that_are_trained_again_bring_their_own_way():
    sweep = replace(SWEEP, steps=10, optimizer=optax.sgd(0.02), retries=1)
    found = polyjax.run(sweep, progress=False)
    assert (found.attempt == 1).any()
    np.testing.assert_array_equal(found.snapshots.embedding[..., -1, :, :], found.W)


def test_a_file_holds_them_and_describes_the_sweep(results, tmp_path):
    polyjax.run_to_file(SWEEP, tmp_path / "a.npz", progress=False)
    found = polyjax.load(tmp_path / "a.npz")
    for name, a in results.snapshots._asdict().items():
        np.testing.assert_array_equal(getattr(found.snapshots, name), a)
    assert Sweep.from_config(found.config).describe() == SWEEP.describe()
    assert found.snapshots.steps.tolist() == found.config["snapshots"]["steps"]
    with pytest.raises(ValueError, match="of another configuration: snapshots"):
        polyjax.run_to_file(PLAIN, tmp_path / "a.npz", progress=False)


def test_a_file_without_the_weights_has_the_rest(tmp_path):
    found = polyjax.run(replace(SWEEP, snapshot_weights=False), progress=False)
    assert found.snapshots.embedding is None
    found.save(tmp_path / "a.npz")
    assert polyjax.load(tmp_path / "a.npz").snapshots.embedding is None


def test_snapshots_that_do_not_fit_are_refused(results, tmp_path):
    looks = results.snapshots
    for broken in (looks._replace(loss=looks.loss[..., :-1]), looks._replace(capacity=looks.capacity[..., :-1])):
        replace(results, snapshots=broken).save(tmp_path / "a.npz")
        with pytest.raises(ValueError, match="its snapshots do not fit the others"):
            polyjax.load(tmp_path / "a.npz")


def test_a_cell_and_xarray_have_them(results):
    cell = results.sel(density=0.6, importance=1)
    np.testing.assert_array_equal(cell.snapshots.capacity, results.snapshots.capacity[1, 1])
    labelled = results.to_xarray()
    assert labelled.snapshot_capacity.dims == ("density", "importance", "restart", "step", "feature")
    np.testing.assert_array_equal(labelled.step, results.snapshots.steps)
    found = labelled.snapshot_loss.sel(density=0.6, step=60)
    np.testing.assert_array_equal(found, results.snapshots.loss[1, :, :, -1])


@pytest.mark.slow
def test_later_stages_and_sizes_take_none():
    found = polyjax.run(replace(SWEEP, refine=1, polish=True, steps=20), progress=False)
    assert set(found.refined.params) == {"W", "b"}
    sizes = Sweep(
        model=lambda n: Anthropic(3, n), axes={"n": [1, 2], "density": [0.2, 0.5]}, features=lambda density:
        polyjax.Features(density), restarts=1, steps=20, snapshots=3, retries=0,
    )  # fmt: skip
    found = polyjax.run(sizes, progress=False)
    assert found.snapshots.capacity.shape == (2, 2, 1, 3, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"snapshots": 1}, "snapshots must be 0, or at least 2: the first and the last step, but is 1"),
        ({"snapshots": -1}, "snapshots must be a whole number of at least 0, but is -1"),
        ({"snapshots": 0}, "snapshot_weights must be False without snapshots, but is True"),
        ({"snapshot_weights": 1}, "snapshot_weights must be True or False, but is 1"),
    ],
)
def test_bad_snapshots_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(SWEEP, **changes)


def test_steps_that_are_an_axis_have_none():
    with pytest.raises(ValueError, match="snapshots must be 0 where the steps are a function of axes, but is 5"):
        replace(SWEEP, steps=lambda k: int(k), axes={"k": [10, 20]})


def test_scripts_take_them(tmp_path):
    path = tmp_path / "a.npz"
    Options(snapshots=3).run({path: lambda: PLAIN})
    assert polyjax.load(path).snapshots.steps.tolist() == [0, 10, 60]


def test_scripts_keep_those_that_their_sweep_has(tmp_path):
    path = tmp_path / "a.npz"
    Options().run({path: lambda: SWEEP})
    assert polyjax.load(path).snapshots.steps.tolist() == SWEEP.describe()["snapshots"]["steps"]


# --- the steps as an axis


def test_steps_are_an_axis_like_others(results):
    found = results.by_step()
    assert [*found.axes] == ["density", "importance", "step"]
    assert found.capacity.shape == (2, 3, 5, 2, 4)
    last = results.snapshots.steps[-1]
    cell, end = found.sel(density=0.6, importance=1, step=last), results.sel(density=0.6, importance=1)
    np.testing.assert_allclose(cell.capacity, end.capacity, atol=1e-6)
    np.testing.assert_array_equal(cell.embedding, end.embedding)
    np.testing.assert_array_equal(cell.rank_loss, end.rank_loss)
    np.testing.assert_array_equal(found.loss[1, 1, 2], results.snapshots.loss[1, 1, :, 2])
    chosen = found.select("best").capacity[..., -1, :]
    np.testing.assert_allclose(chosen, results.select("best").capacity, atol=1e-6)
    plot.diagram(found, step=20)
    plot.cut(found, "step", density=0.1, importance=1)


def test_steps_that_are_no_axis_are_refused(results):
    with pytest.raises(ValueError, match="results must have snapshots"):
        replace(results, snapshots=None).by_step()
    with pytest.raises(ValueError, match="axes must name none of them step"):
        replace(results, axes={"density": results.density, "step": results.importance}).by_step()


def test_a_page_has_a_slider_for_them_where_embeddings_were_kept(results, tmp_path, capsys):
    pytest.importorskip("bokeh")
    results.save(tmp_path / "a.npz")
    command(["explore", str(tmp_path / "a.npz"), "--steps", "--out", str(tmp_path / "a.html")])
    assert "step = 0" in (tmp_path / "a.html").read_text()
    without = results.snapshots._replace(embedding=None)
    replace(results, snapshots=without).save(tmp_path / "b.npz")
    with pytest.raises(SystemExit) as ended:
        command(["explore", str(tmp_path / "b.npz"), "--steps", "--out", str(tmp_path / "b.html")])
    assert ended.value.code == 2
    assert "must have embeddings, which snapshots have by Sweep(snapshot_weights=True)" in capsys.readouterr().err


# --- pictures


def test_curves_are_those_of_the_best_restart(results):
    cell = results.sel(density=0.1, importance=3)
    ax = plot.history(results, density=0.1, importance=3)
    best = cell.rank_loss.argmin()
    curves = {line.get_color(): line.get_ydata() for line in ax.get_lines()}
    np.testing.assert_array_equal(curves["#0072b2"], cell.snapshots.capacity[best, :, 0])
    beside = next(other for other in ax.figure.axes if other is not ax)
    np.testing.assert_array_equal(beside.get_lines()[0].get_ydata(), cell.snapshots.loss[best])
    assert f"restart {best}" in ax.get_title()
    other = plot.history(results, restart=1 - best, density=0.1, importance=3)
    assert f"restart {1 - best}" in other.get_title()
    with pytest.raises(ValueError, match="restart must be one of the 2 restarts, from 0, but is 2"):
        plot.history(results, restart=2, density=0.1, importance=3)


def test_a_film_has_a_picture_for_every_snapshot_and_holds_the_last(results, tmp_path):
    plot.film(results, tmp_path / "film.gif", seconds=1)
    pictures = []
    with Image.open(tmp_path / "film.gif") as film:
        for number in range(film.n_frames):
            film.seek(number)
            pictures.append((np.asarray(film.convert("RGB")), film.info["duration"]))
    # Equal pictures in a row are one that stays.
    assert len(pictures) == len(results.snapshots.steps)
    assert pictures[-1][1] > 2 * pictures[0][1]
    different = [not np.array_equal(a, b) for (a, _), (b, _) in pairwise(pictures)]
    assert all(different)


def test_a_film_of_what_has_no_snapshots_or_another_suffix_is_refused(results, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"results must have snapshots, which Sweep\(snapshots=20\) takes"):
        plot.film(replace(results, snapshots=None), tmp_path / "film.gif")
    with pytest.raises(ValueError, match=r"path must end in \.gif or \.mp4, but is '.*film\.avi'"):
        plot.film(results, tmp_path / "film.avi")
    with pytest.raises(ValueError, match=r"seconds must be from 0\.1 to 3600, but is 0"):
        plot.film(results, tmp_path / "film.gif", seconds=0)
    monkeypatch.setattr("matplotlib.animation.writers.is_available", lambda name: False)
    with pytest.raises(ValueError, match=r"since ffmpeg, which writes \.mp4, is not installed here"):
        plot.film(results, tmp_path / "film.mp4")


def test_the_film_of_figure_4_is_a_command(results, tmp_path, capsys):
    results.save(tmp_path / "a.npz")
    film_of_figure_4.main(["--results", str(tmp_path / "a.npz"), "--out", str(tmp_path / "a.gif")])
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == len(results.snapshots.steps)
    replace(results, snapshots=None).save(tmp_path / "b.npz")
    with pytest.raises(SystemExit) as ended:
        film_of_figure_4.main(["--results", str(tmp_path / "b.npz"), "--out", str(tmp_path / "b.gif")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("python -m figures.film: results must have snapshots")
