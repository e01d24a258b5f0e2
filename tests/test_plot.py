"""`polyjax.plot` shows what is in the results, of any axes: its numbers, its labels and what is hatched."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from legibility import assert_legible, rendered
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from selections import marked

import polyjax
from polyjax import plot
from polyjax.embedding.capacity import capacities
from polyjax.embedding.geometry import embedding_with_capacities, tegum_product
from polyjax.results import Results

PAPER = {"density": np.geomspace(0.05, 1, 7), "importance": np.geomspace(0.2, 5, 9)}
MODEL = {"name": "Redwood", "n_features": 6, "n_neurons": 3, "activation": "square"}
OF_USER = {"features": {"axes": ["decay"]}}
TWO = tegum_product([embedding_with_capacities([0.8, 0.7, 0.5]), embedding_with_capacities([0.5, 0.5])], [1.0, 1.5])
PAIRS = tegum_product([embedding_with_capacities([0.5, 0.5])] * 3)


def made(axes=None, W=None, restarts=3, config=None):
    """Results whose embeddings are random, or all the same, the second restart best."""
    axes = PAPER if axes is None else {name: np.asarray(a, float) for name, a in axes.items()}
    shape = (*(len(a) for a in axes.values()), restarts)
    rng = np.random.default_rng(0)
    W = rng.standard_normal((*shape, 3, 6)) if W is None else np.broadcast_to(W, (*shape, *W.shape)).copy()
    loss = np.broadcast_to(1 + abs(np.arange(restarts) - 1.0), shape) * rng.uniform(1, 1.5, (*shape[:-1], 1))
    config = {"model": MODEL, "distribution": "uniform_signed", "given": {}} | (config or {})
    lanes = (loss, loss.copy(), 0.01 * loss, np.ones(shape, bool), np.zeros(shape, np.uint8))
    return Results(axes, np.array(capacities(W)), *lanes, {"W": W, "b": np.zeros(shape)}, config)


def axes():
    fig = Figure(figsize=(3, 3), dpi=200)
    FigureCanvasAgg(fig)
    return fig.add_subplot()


def mesh(ax):
    return ax.collections[0].get_array().filled(np.nan)


@pytest.fixture(autouse=True)
def closed():
    """No figure of pyplot is left open."""
    yield
    from matplotlib import pyplot

    pyplot.close("all")


# --- two axes


def test_a_diagram_has_the_capacities_labels_and_scales_of_its_axes():
    results = made()
    ax = plot.diagram(results)
    np.testing.assert_array_equal(mesh(ax), results.capacity[:, :, 1, 0])
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("importance $V$", "density $p$", "")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    [bar] = ax.child_axes
    assert bar.get_ylabel() == "capacity $C_{0}$ of the feature of importance $V$"


def test_swapped_axes_swap_the_picture_and_its_boundaries():
    results = made({"density": np.geomspace(0.05, 1, 8), "importance": np.geomspace(0.2, 5, 8)})  # a square grid
    one, other = plot.diagram(results), plot.diagram(results, x="density")
    np.testing.assert_array_equal(mesh(one), mesh(other).T)
    assert (one.get_xlabel(), one.get_ylabel()) == (other.get_ylabel(), other.get_xlabel())
    assert one.lines
    for a, b in zip(one.lines, other.lines, strict=True):
        np.testing.assert_allclose(a.get_xydata(), b.get_xydata()[:, ::-1])


def test_other_axes_are_fixed_at_the_nearest_value_which_is_told():
    results = made({"rate": [0.01, 0.03, 0.1], "density": [0.1, 0.2], "decay": [0, 0.5, 1]}, config={"given": OF_USER})
    ax = plot.diagram(results, rate=0.04, feature=2)
    np.testing.assert_array_equal(mesh(ax), results.capacity[1, :, :, 1, 2])
    assert ax.get_title() == "rate = 0.03"
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("decay", "density $p$", "linear")
    assert ax.child_axes[0].get_ylabel() == "capacity $C_{2}$"
    assert not ax.lines  # no boundaries where theory does not hold
    ax = plot.diagram(results, density=0, x="rate")
    np.testing.assert_array_equal(mesh(ax), results.capacity[:, 0, :, 1, 0].T)


def test_values_in_any_order_are_drawn_in_ascending_order():
    results = made({"density": [0.5, 0.1, 0.2], "importance": [3, 1, 2, 0]})
    value = results.capacity[:, :, 1, 0]
    np.testing.assert_array_equal(mesh(plot.diagram(results)), value[[1, 2, 0]][:, [3, 1, 2, 0]])


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (2, 2)])
def test_grids_of_one_row_column_or_cell_are_drawn(shape):
    density, importance = np.linspace(0.1, 1, shape[0]), np.linspace(0, 3, shape[1])
    results = made({"density": density, "importance": importance})
    for draw in (plot.diagram, plot.blocks, plot.difference):
        assert mesh(draw(results)).shape == shape


def test_failed_and_unsettled_cells_are_hatched():
    results = made()
    results.loss[1, 2], results.settled[4, 3:6] = np.nan, False
    failed, unsettled = np.isnan(results.loss[..., 1]), ~results.settled[..., 1]
    grid = results.density, results.importance
    for draw in (plot.diagram, plot.blocks):
        patches = [marked(patch, *grid) for patch in draw(results).patches]
        np.testing.assert_array_equal(patches, [failed, unsettled])
    patches = [marked(patch, *grid) for patch in plot.difference(results).patches]
    np.testing.assert_array_equal(patches, [failed])
    assert not plot.diagram(results, "optimum").patches


def test_what_is_coloured_is_what_was_asked_for():
    results = made(W=PAIRS)
    results.settled[0, 0, 1], results.attempt[2, 3, 1] = False, 2
    found = {color: mesh(plot.diagram(results, color)) for color in ("loss", "settled", "attempt", "blocks", "largest")}
    np.testing.assert_array_equal(found["loss"], results.loss[..., 1])
    np.testing.assert_array_equal(found["settled"], results.settled[..., 1])
    np.testing.assert_array_equal(found["attempt"], results.attempt[..., 1])
    assert (found["blocks"] == 3).all()
    assert (found["largest"] == 2).all()


def theory(density, importance):
    """Capacity of feature 0 of 6 in 3 where feature 0 is shared (section 3.5.2), k > 3."""
    k = 9 / (5 * density)
    return (3 * (k - 3) + 12) * importance / ((k - 3) * (5 + importance)) - 2 / (k - 3)


def test_the_optimum_the_difference_and_the_excess_are_those_of_the_closed_form():
    results = made({"density": [0.05, 0.1], "importance": [0.8, 1, 1.2]})
    C = theory(*np.meshgrid(results.density, results.importance, indexing="ij"))
    # The theory is in single precision.
    np.testing.assert_allclose(mesh(plot.diagram(results, "optimum")), C, atol=1e-5)
    ax = plot.difference(results)
    off = abs(results.capacity[:, :, 1, 0] - C)
    np.testing.assert_allclose(mesh(ax), off, atol=1e-5)
    assert ax.texts[0].get_text().startswith(f"mean {off.mean():.2g}\nmax {off.max():.2g}\n")
    k = 9 / (5 * np.array([0.05, 0.1]))
    best = 6 * (k - 1) * (1 - (k - 1) / (k - 3 + 4))  # eq. 13 at C = 1/2 for all, V = 1
    np.testing.assert_allclose(mesh(plot.diagram(results, "excess"))[:, 1], results.loss[:, 1, 1] / best - 1, rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        {"model": MODEL | {"activation": "relu"}},
        {"model": MODEL | {"name": "Anthropic"}},
        {"given": OF_USER},
        {"given": {"model": {}}},
        {"distribution": "uniform_positive"},
    ],
)
def test_theory_is_drawn_only_where_it_holds(config):
    results = made(config=config)
    assert not plot.diagram(results).lines
    for draw in (plot.difference, lambda r: plot.diagram(r, "excess")):
        with pytest.raises(ValueError, match="closed form only for the Redwood model"):
            draw(results)


def test_an_optimizer_of_the_users_changes_no_theory():
    results = made({**PAPER, "rate": [0.01, 0.1]}, config={"given": {"optimizer": {}}})
    assert plot.diagram(results, rate=0.1).lines


def test_results_are_compared_cell_by_cell():
    one, other = made(), made(restarts=3)
    other.capacity[2, 3, 1, 0] -= 0.125
    other.loss[5, 5] = np.nan
    ax = plot.compare(one, other)
    expected = abs(one.capacity[:, :, 1, 0] - other.capacity[:, :, 1, 0])
    expected[5, 5] = np.nan
    np.testing.assert_array_equal(mesh(ax), expected)
    np.testing.assert_array_equal(marked(ax.patches[0], one.density, one.importance), np.isnan(expected))
    assert "max 0.12\n" in ax.texts[0].get_text()
    with pytest.raises(ValueError, match="b must have the axes of a"):
        plot.compare(one, made({"density": [0.1], "importance": [1.0]}))


def test_embeddings_that_are_not_efficient_are_hatched():
    results = made(W=PAIRS)
    W = results.W.copy()
    W[:3, :, 1, 0] = 0  # one dimension is not used
    results = replace(results, params={"W": W}, capacity=np.array(capacities(W)))
    ax = plot.blocks(results, "number")
    assert (mesh(ax)[:3] == 2).all()
    assert (mesh(ax)[3:] == 3).all()
    [hatched] = [c for c in ax.collections if getattr(c, "hatches", None)]
    box = hatched.get_paths()[0].get_extents()
    assert box.ymax < results.density[3]  # the contour ends between rows 2 and 3
    assert box.ymax > results.density[2]


# --- cells


def arrows(ax):
    found = [c for c in ax.collections if isinstance(c, Quiver)]
    return [np.stack([q.U, q.V]) for q in found]


def texts(ax):
    return {text.get_text() for text in ax.texts}


def test_an_embedding_in_two_dimensions_is_drawn_as_it_is():
    W = embedding_with_capacities([0.5, 0.5, 0.5, 0.3, 0.2])
    results = made({"density": [0.1, 0.2], "importance": [1.0]}, W=W)
    ax = plot.embedding(results, density=0.19)
    [drawn] = arrows(ax)
    assert {tuple(w) for w in drawn.T} == {tuple(w) for w in W.T}
    assert ax.get_title() == "density = 0.2, importance = 1"
    assert texts(ax) == {f"{i}: {c:.2g}" for i, c in enumerate(results.capacity[0, 0, 0])}


def test_every_block_of_an_embedding_in_more_dimensions_has_its_plane():
    results = made({"density": [0.1], "importance": [1.0]}, W=TWO)
    ax = plot.embedding(results)
    plane, line = arrows(ax)
    C = results.capacity[0, 0, 0]
    assert (plane.shape, line.shape) == ((2, 3), (2, 2))
    # Lengths and angles within a block are kept, since it has two dimensions or one; single precision.
    kept = [np.sort(np.hypot(*a)) for a in (plane, line)]
    np.testing.assert_allclose(kept[0], np.sort(np.linalg.norm(TWO[:, :3], axis=0)), rtol=1e-5)
    np.testing.assert_allclose(kept[1], np.sort(np.linalg.norm(TWO[:, 3:], axis=0)), rtol=1e-5)
    assert texts(ax) == {*(f"{i}: {c:.2g}" for i, c in enumerate(C)), "3 in 2", "2 in 1"}
    outlines = [len(line.get_xdata()) for line in ax.lines]
    assert outlines == [4, 3]  # closed


def test_a_network_may_be_any_restart():
    results = made()
    at = {"density": 0.05, "importance": 5}
    np.testing.assert_allclose(mesh_of_gram(plot.gram(results, restart=2, **at)), gram(results.W[0, 8, 2]), rtol=1e-6)
    np.testing.assert_allclose(mesh_of_gram(plot.gram(results, **at)), gram(results.W[0, 8, 1]), rtol=1e-6)


def gram(W):
    return W.T @ W


def mesh_of_gram(ax):
    return np.asarray(ax.collections[0].get_array())


def test_the_entries_of_a_gram_matrix_are_written_where_they_are():
    results = made()
    ax = plot.gram(results, density=0.1, importance=1)
    i, j = results.nearest(density=0.1, importance=1)
    G = gram(results.W[i, j, 1])
    written = {text.get_position(): float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in ax.texts}
    for (row, column), value in np.ndenumerate(G):
        assert written[column + 0.5, row + 0.5] == pytest.approx(value, abs=0.0051)
    assert ax.get_ylim() == (6, 0)  # row 0 on top, as a matrix is written


def test_restarts_are_in_order_of_their_losses():
    results = made()
    results.loss[2, 3], results.rank_loss[2, 3] = [1.1, 1.0, np.nan], [1.1, 1.0, np.nan]
    results.settled[2, 3, 0] = False
    density, importance = results.density[2], results.importance[3]
    ax = plot.restarts(results, density=density, importance=importance)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1\n1", "0\n+10.0%", "2\nfailed"]
    dots = np.array([[line.get_xdata()[0], line.get_ydata()[0]] for line in ax.lines])
    np.testing.assert_array_equal(dots[:6, 1], results.capacity[2, 3, 1])
    np.testing.assert_array_equal(dots[6:12, 1], results.capacity[2, 3, 0])
    assert [line.get_markerfacecolor() == "white" for line in ax.lines[:12]] == [False] * 6 + [True] * 6


# --- curves


def test_a_cut_shows_all_features_along_one_axis_with_theory():
    results = made()
    ax = plot.cut(results, "importance", density=0.06)
    dots = {line.get_color(): line.get_xydata() for line in ax.lines if line.get_marker() == "o"}
    np.testing.assert_array_equal(dots["#0072b2"].T, [results.importance, results.capacity[0, :, 1, 0]])
    [line] = [line for line in ax.lines if line.get_marker() == "None" and line.get_color() == "#0072b2"]
    v, C = line.get_xydata().T
    np.testing.assert_allclose(C, np.clip(theory(0.05, v), 0, 1), atol=1e-5)
    assert ax.get_title() == "density = 0.05"
    assert ax.get_xlabel() == "importance $V$"


def test_a_cut_of_other_features_has_no_theory_and_a_colour_for_each():
    results = made({"density": [0.1, 0.2], "decay": [0.5, 0.7, 1]}, config={"given": OF_USER})
    ax = plot.cut(results, "decay", density=0.2)
    lines = ax.lines[::-1]
    np.testing.assert_array_equal([line.get_ydata() for line in lines], results.capacity[1, :, 1].T)
    assert len({line.get_color() for line in lines}) == 6
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list("012345")


def test_dimensions_a_feature_are_those_of_the_embedding():
    results = made({"density": np.geomspace(0.01, 1, 5), "importance": [1.0]})
    ax = plot.dimensionality(results)
    line = ax.lines[6]
    np.testing.assert_allclose(line.get_xdata(), 1 / results.density)
    np.testing.assert_allclose(line.get_ydata(), 3 / (results.W[:, 0, 1] ** 2).sum((-2, -1)))
    np.testing.assert_array_equal(ax.lines[3].get_ydata(), results.capacity[:, 0, 1, 3])
    assert ax.get_xlabel() == "1 / density"


# --- what all of them share

CELL = {"density": 0.1, "importance": 1.0}
ALL = {
    "diagram": lambda r, **o: plot.diagram(r, **o),
    "loss": lambda r, **o: plot.diagram(r, "loss", **o),
    "difference": lambda r, **o: plot.difference(r, **o),
    "compare": lambda r, **o: plot.compare(r, r, **o),
    "blocks": lambda r, **o: plot.blocks(r, **o),
    "embedding": lambda r, **o: plot.embedding(r, **CELL, **o),
    "gram": lambda r, **o: plot.gram(r, **CELL, **o),
    "restarts": lambda r, **o: plot.restarts(r, **CELL, **o),
    "cut": lambda r, **o: plot.cut(r, "importance", density=0.1, **o),
    "dimensionality": lambda r, **o: plot.dimensionality(r, importance=1, **o),
}


@pytest.mark.parametrize("name", ALL)
def test_every_picture_has_a_figure_of_its_own_or_the_axes_that_are_given(name):
    given = axes()
    assert ALL[name](made(), ax=given) is given
    assert ALL[name](made()) is not given


@pytest.mark.parametrize("name", ALL)
def test_all_text_is_legible(name):
    fig, drawn = rendered(lambda: ALL[name](made(W=PAIRS)).figure)
    if name == "gram":  # its entries are smaller
        drawn = [(text, box) for text, box in drawn if text not in fig.axes[0].texts]
    assert_legible(fig, drawn)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda r: plot.diagram(r, "size"), "color must be one of capacity"),
        (lambda r: plot.diagram(r, feature=6), "feature must be one of the 6 features"),
        (lambda r: plot.diagram(r, x="rate"), "x must be one of density, importance"),
        (lambda r: plot.diagram(r, density=0.1), "one is left: draw a cut"),
        (lambda r: plot.diagram(r, density=np.nan), "density must be a finite number"),
        (lambda r: plot.blocks(r, rule="mean"), "must choose one restart"),
        (lambda r: plot.blocks(r, "size"), "show must be one of largest, number"),
        (lambda r: plot.embedding(r, density=0.1), "importance must be given: one of its 9 values from 0.2 to 5"),
        (lambda r: plot.gram(r, **CELL, restart=3), "restart must be one of the 3 restarts"),
        (lambda r: plot.cut(r, "rate"), "axis must be one of density, importance"),
        (lambda r: plot.cut(r, "density", density=1), "density must not be fixed"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_the_users_words(draw, message):
    with pytest.raises(ValueError, match=message):
        draw(made())


def test_names_that_are_no_axes_are_told_with_what_was_meant():
    with pytest.raises(TypeError, match="no desity; did you mean density"):
        plot.diagram(made(), desity=0.1)


def test_three_free_axes_are_too_many():
    with pytest.raises(ValueError, match="of density, importance, rate 3 are not fixed: fix 1 of them by keyword"):
        plot.diagram(made({**PAPER, "rate": [0.1, 0.2]}))


def test_a_backend_that_makes_pyplot_interactive_when_it_is_loaded_leaves_it_so(tmp_path):
    """As that of notebooks does, which shows every new picture only where pyplot is interactive."""
    backend = "import matplotlib\nfrom matplotlib.backends.backend_agg import *\nmatplotlib.interactive(True)"
    (tmp_path / "of_notebook.py").write_text(backend)
    code = (
        "import matplotlib\nfrom polyjax.draw.style import on\nwith on(None): pass\nprint(matplotlib.is_interactive())"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = os.environ | {"MPLBACKEND": "module://of_notebook", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_matplotlib_is_imported_only_when_something_is_drawn():
    said = "print('matplotlib' in sys.modules)"
    code = f"import sys, polyjax; {said}; polyjax.plot.diagram; {said}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="has no attribute plt"):
        _ = polyjax.plt


def test_models_of_several_sizes_are_drawn_by_what_each_has():
    results = made({"density": [0.1, 0.2], "n_neurons": [2, 3]}, W=PAIRS, config={"given": {"model": {}}})
    W, C = results.W.copy(), results.capacity.copy()
    W[:, 0, :, 2], W[:, 0, :, :, 4:], C[:, 0, :, 4:] = np.nan, np.nan, np.nan  # two pairs in two neurons
    results = replace(results, params={"W": W}, capacity=C)
    assert not plot.diagram(results).patches  # none failed
    ax = plot.blocks(results, "number")
    np.testing.assert_array_equal(mesh(ax), [[2, 3], [2, 3]])
    assert not any(getattr(c, "hatches", None) for c in ax.collections)  # all are efficient
    assert len(arrows(plot.embedding(results, density=0.1, n_neurons=2))) == 2
