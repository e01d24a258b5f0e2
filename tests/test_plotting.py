"""The cells, contours and boundaries of a diagram are where they belong; pixels are read from the rendered canvas."""

import io

import jax
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from selections import marked, selection

from polyjax import theory
from polyjax.draw import boundaries, cells, marginal, style
from polyjax.draw.scales import Scale
from polyjax.theory.grid import ClosedForm
from polyjax.toy.distributions import UNIFORM_SIGNED

DENSITY, IMPORTANCE = Scale("density", np.geomspace(0.01, 1, 12)), Scale("importance", np.geomspace(0.1, 10, 15))
SHAPE = (12, 15)
FORM = ClosedForm(6, 3, jax.jit(UNIFORM_SIGNED.kurtosis))


def axes():
    fig = Figure(figsize=(3, 3), dpi=200)
    FigureCanvasAgg(fig)
    return fig.add_subplot()


def drawn(value=None, **marks):
    """Axes with a diagram of the two scales, and its artists."""
    ax = axes()
    return ax, cells.colour(ax, IMPORTANCE, DENSITY, np.zeros(SHAPE) if value is None else value, **marks)


def printed(value, **marks):
    """A panel of `value` [64, 64], two inches wide, at 300 dpi, as it is in print: image [rows, columns, 3] in [0, 1]
    from the sparse row up, and the edges of the columns and of the rows in pixels."""
    with style.style():
        fig = Figure(figsize=(2, 1.7), dpi=300)
        canvas, ax = FigureCanvasAgg(fig), fig.add_axes((0, 0, 1, 1))
        density, importance = Scale("density", np.geomspace(0.01, 1, 64)), Scale("v", np.geomspace(0.1, 10, 64))
        cells.colour(ax, importance, density, value, **marks)
        ax.set_axis_off()
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255, np.linspace(0, 600, 65), np.linspace(0, 510, 65)


def inside(columns, rows, row, column):
    """The pixels wholly within a cell."""
    (left, right), (bottom, top) = columns[column : column + 2], rows[row : row + 2]
    return np.s_[int(np.ceil(bottom)) : int(top), int(np.ceil(left)) : int(right)]


def pixel(ax, x, y):
    """The colour, in [0, 1]^3, of the canvas at data coordinates; the figure must have been drawn."""
    column, row = ax.transData.transform((x, y))
    image = np.asarray(ax.figure.canvas.buffer_rgba())
    return image[image.shape[0] - 1 - int(row), int(column), :3] / 255


def test_edges_of_a_geometric_axis_lie_between_the_values_they_separate():
    centres, edges = DENSITY.centres, DENSITY.edges
    assert DENSITY.is_geometric
    assert (edges[:-1] < centres).all()
    assert (edges[1:] > centres).all()
    # A geometric grid has geometric edges: each value is the geometric mean of its two. Rounding of a log and an exp.
    np.testing.assert_allclose(np.sqrt(edges[:-1] * edges[1:]), centres, rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "geometric", "edges"),
    [
        ([0, 1, 2], False, [-0.5, 0.5, 1.5, 2.5]),
        ([2, 0, 1], False, [-0.5, 0.5, 1.5, 2.5]),  # in any order
        ([1, 2, 3, 4], False, [0.5, 1.5, 2.5, 3.5, 4.5]),
        ([1, 10, 100], True, [10**-0.5, 10**0.5, 10**1.5, 10**2.5]),
        ([0.003, 0.01, 0.03], True, [0.003**1.5 / 0.01**0.5, 0.003**0.5 * 0.1, 0.03**0.5 * 0.1, 0.03**1.5 * 10]),
        ([0, 1, 10, 100], False, [-0.5, 0.5, 5.5, 55, 145]),  # no logarithm of 0
        ([-1, 1], False, [-2, 0, 2]),
        ([0.1, 0.2], False, [0.05, 0.15, 0.25]),
        ([0.1, 0.9], True, [0.1 / 3, 0.3, 2.7]),
        ([5], False, [2.5, 7.5]),
        ([0], False, [-0.5, 0.5]),
        ([-2], False, [-3, -1]),
    ],
)
def test_axes_are_geometric_where_their_values_are(values, geometric, edges):
    scale = Scale("rate", np.array(values, float))
    assert scale.is_geometric == geometric
    np.testing.assert_allclose(scale.edges, edges, rtol=1e-12)


@pytest.mark.parametrize("values", [[0.0, 0.5, 1.0], [0.0], [0.5], [1e-3, 1e-2, 1e-1], np.linspace(0, 1, 30)])
@pytest.mark.parametrize("others", [[1.0, 2.0, 3.0], [2.0], np.geomspace(1, 100, 9)])
def test_every_grid_fills_its_axes(values, others):
    x, y, ax = Scale("some_rate", np.array(values)), Scale("decay", np.array(others)), axes()
    value = np.arange(len(others) * len(values)).reshape(len(others), len(values)) / 100
    mesh = cells.colour(ax, x, y, value).mesh
    ax.figure.canvas.draw()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("some rate", "decay")
    assert (ax.get_xlim(), ax.get_ylim()) == (tuple(x.edges[[0, -1]]), tuple(y.edges[[0, -1]]))
    assert ax.get_xscale() == ("log" if x.is_geometric else "linear")
    np.testing.assert_array_equal(mesh.get_array(), value)
    shown = [float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in ax.get_xticklabels()]
    assert len(shown) >= 1
    if len(values) <= 6:
        np.testing.assert_allclose(shown, values, rtol=1e-2)


def test_every_cell_has_the_colour_of_its_value_where_its_coordinates_are():
    value = np.random.default_rng(0).random(SHAPE)
    ax, _ = drawn(value)
    ax.figure.canvas.draw()
    for row, column in np.ndindex(*value.shape):
        expected = colormaps[style.CAPACITY_MAP](value[row, column])[:3]
        # The centre of the outermost cells of a 3 x 3 inch figure is 10 pixels inside, so no edge is mixed in; 8 bits.
        np.testing.assert_allclose(pixel(ax, IMPORTANCE.centres[column], DENSITY.centres[row]), expected, atol=1 / 255)


def test_dense_is_at_the_top_and_important_on_the_right():
    ax, _ = drawn()
    sparse_left, dense_right = ax.transData.transform([(0.1, 0.01), (10, 1)])
    assert (dense_right > sparse_left).all()


def test_failed_and_unsettled_cells_are_hatched_and_no_others():
    value = np.full(SHAPE, 0.5)
    value[2, 3], value[4:6, 4:8], value[-1, -1] = np.nan, np.nan, np.nan
    unsettled = np.zeros(value.shape, bool)
    unsettled[1, 2], unsettled[3, 3:6], unsettled[0, 0], unsettled[:, -2] = True, True, True, True
    _, diagram = drawn(value, unsettled=unsettled)
    np.testing.assert_array_equal(marked(diagram.failed, DENSITY.centres, IMPORTANCE.centres), np.isnan(value))
    np.testing.assert_array_equal(marked(diagram.unsettled, DENSITY.centres, IMPORTANCE.centres), unsettled)
    assert set(diagram.failed.get_hatch()) == {"/"}
    assert set(diagram.unsettled.get_hatch()) == {"\\"}


@pytest.mark.parametrize("capacity", [0, 0.5, 1])
def test_a_single_unsettled_cell_is_seen_in_print(capacity):
    value, unsettled = np.full((64, 64), float(capacity)), np.zeros((64, 64), bool)
    unsettled[::3, ::3] = True  # apart from each other, and at all places that the hatch's lines may have in a cell
    plain, *grid = printed(value)
    image, *_ = printed(value, unsettled=unsettled)
    away = np.linalg.norm(image - plain, axis=-1)
    ink = 0.5 * np.linalg.norm(np.array(to_rgb(style.UNCONVERGED)) - plain[0, 0])
    for row, column in np.argwhere(unsettled):
        found = away[inside(*grid, row, column)] > ink
        assert 0.1 < found.mean() < 0.7  # some of the colour beneath is left
        if row < 63:
            assert away[inside(*grid, row + 1, column)].max() == 0


def test_the_capacity_is_legible_where_a_whole_region_is_unsettled():
    value = np.repeat([0, 0.25, 0.5, 0.75, 1], 13)[:64] * np.ones((64, 1))
    plain, image = (printed(value, unsettled=where)[0] for where in (None, value >= 0))
    bands = [np.s_[20:-20, left + 20 : left + 80] for left in (0, 122, 244, 366, 488)]
    orange = np.array(to_rgb(style.UNCONVERGED))
    for band in bands:
        colour, away = plain[band][0, 0], (image[band] - plain[band]).mean((0, 1))
        assert np.linalg.norm(away) < 0.45 * np.linalg.norm(orange - colour)
    means = np.array([image[band].mean((0, 1)) for band in bands])
    assert np.linalg.norm(np.diff(means, axis=0), axis=1).min() > 0.1


def test_failed_and_unsettled_cells_are_distinguishable():
    value, failed = np.full((64, 64), 0.5), np.zeros((64, 64), bool)
    failed[:, :32] = True
    image, *_ = printed(np.where(failed, np.nan, value), failed=failed, unsettled=~failed)
    left, right = image[20:-20, 20:280], image[20:-20, 320:580]
    assert np.ptp(left, axis=-1).max() == 0  # grey, and a dark hatch
    assert np.ptp(right, axis=-1).max() > 0.7  # orange
    assert np.median(left) > 0.6 > np.median(right)

    def along(a, step):
        """How much the image changes from one pixel to the next along a diagonal, upwards for step 1."""
        a = a.mean(-1)
        return abs(a[1:, 1:] - a[:-1, :-1]).mean() if step == 1 else abs(a[1:, :-1] - a[:-1, 1:]).mean()

    assert along(left, 1) < 0.3 * along(left, -1)
    assert along(right, -1) < 0.3 * along(right, 1)


def test_hatches_are_vectors_in_a_pdf_and_take_little_room():
    n = 300
    grid = Scale("importance", np.geomspace(0.1, 10, n)), Scale("density", np.geomspace(0.01, 1, n))
    some = np.random.default_rng(0).random((n, n)) < 0.05

    def pdf(compression, **marks):
        with style.style(), mpl.rc_context({"pdf.compression": compression}):
            fig, file = Figure(figsize=(2, 2)), io.BytesIO()
            cells.colour(fig.add_subplot(), *grid, np.zeros((n, n)), **marks)
            fig.savefig(file, format="pdf")
        return file.getvalue()

    text = pdf(0, unsettled=some)
    assert text.count(b"/PatternType 1") == 1
    assert text.count(b" scn") == 1  # one path, painted once
    assert text.count(b"/Subtype /Image") == pdf(0).count(b"/Subtype /Image") == 1  # the colours
    assert len(pdf(6, unsettled=some)) - len(pdf(6)) < 20 * some.sum()


def test_a_diagram_without_failures_has_no_such_artists():
    _, diagram = drawn()
    assert diagram.failed is None
    assert diagram.unsettled is None


def test_cells_are_counted_once():
    failed, unsettled = cells.states(selection(failed=2, unsettled=3))
    assert (failed.sum(), unsettled.sum()) == (2, 3)
    assert not (failed & unsettled).any()


def test_contours_are_labelled_on_the_level():
    step = np.broadcast_to(np.linspace(0, 1, 15), SHAPE)
    ax, _ = drawn(step)
    contours = cells.contours(ax, IMPORTANCE, DENSITY, step, (0.25, 0.5, 0.75))
    found = {text.get_text(): text.get_position()[0] for text in contours.labelTexts}
    # The levels lie at these fractions of the 2 decades of importance; the label is placed on a polyline of cells.
    assert found == {label: pytest.approx(10 ** (2 * float(label) - 1), rel=0.02) for label in ("0.25", "0.5", "0.75")}


def test_contours_too_close_for_two_labels_get_one():
    step = np.broadcast_to(np.linspace(0, 1, 15), SHAPE)
    ax, _ = drawn(step)
    contours = cells.contours(ax, IMPORTANCE, DENSITY, step, (0.25, 0.47, 0.48))
    assert [text.get_text() for text in contours.labelTexts] == ["0.25", "0.47"]


def test_contours_of_a_flat_diagram_have_no_labels():
    flat = np.full(SHAPE, 0.1)
    flat[0, 0] = 0.9  # not an upward crossing anywhere
    ax, _ = drawn(flat)
    assert len(cells.contours(ax, IMPORTANCE, DENSITY, flat, (0.5,)).labelTexts) == 0


def test_a_single_row_has_no_contours():
    assert cells.contours(axes(), IMPORTANCE, Scale("density", np.array([0.1])), np.ones((1, 15)), (0.5,)) is None


def test_boundaries_are_the_closed_form_and_meet_at_the_critical_point():
    ax, _ = drawn()
    lines = boundaries.phase_boundaries(ax, FORM)
    p = lines.ignored.get_ydata()
    k = 9 / (5 * p)
    # Section 3.5.2 with N = 6, D = 3; computed in single precision.
    np.testing.assert_allclose(lines.ignored.get_xdata(), 10 / (3 * (k - 3) + 10), rtol=1e-5)
    np.testing.assert_allclose(lines.full.get_xdata(), 5 * (k - 1) / (2 * (k - 3) + 10), rtol=1e-5)
    critical = [line.get_ydata()[i] for line, i in zip(lines[:3], (-1, -1, 0), strict=True)]
    assert [*critical, *lines.critical.get_ydata()] == pytest.approx([0.6] * 4, rel=1e-5)
    assert list(lines.first_order.get_xdata()) == [1, 1]
    assert lines.first_order.get_ydata()[1] == ax.get_ylim()[1]
    assert p[0] == pytest.approx(ax.get_ylim()[0])


@pytest.mark.parametrize(("densities", "drawn"), [((0.01, 0.1), (1, 1, 0, 0)), ((0.7, 1), (0, 0, 1, 0))])
def test_only_the_boundaries_within_the_axes_are_drawn(densities, drawn):
    ax = axes()
    cells.colour(ax, IMPORTANCE, Scale("density", np.geomspace(*densities, 5)), np.zeros((5, 15)))
    lines = boundaries.phase_boundaries(ax, FORM)
    assert tuple(line is not None for line in lines) == drawn


def test_boundaries_are_the_same_lines_where_density_runs_to_the_right():
    upright, flat = axes(), axes()
    cells.colour(upright, IMPORTANCE, DENSITY, np.zeros(SHAPE))
    cells.colour(flat, DENSITY, IMPORTANCE, np.zeros(SHAPE[::-1]))
    both = boundaries.phase_boundaries(upright, FORM), boundaries.phase_boundaries(flat, FORM, upright=False)
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one.get_xdata(), other.get_ydata())
        np.testing.assert_allclose(one.get_ydata(), other.get_xdata())


def test_boundaries_on_linear_axes_with_0_are_the_closed_form():
    ax = axes()
    cells.colour(ax, Scale("v", np.linspace(0, 2, 5)), Scale("p", np.linspace(0.1, 1, 10)), np.zeros((10, 5)))
    lines = boundaries.phase_boundaries(ax, FORM)
    k = 9 / (5 * lines.full.get_ydata())
    np.testing.assert_allclose(lines.full.get_xdata(), 5 * (k - 1) / (2 * (k - 3) + 10), rtol=1e-5)
    assert lines.critical.get_ydata()[0] == pytest.approx(0.6, rel=1e-4)  # interpolated


def test_nothing_bounds_a_feature_with_a_neuron_of_its_own():
    ax, _ = drawn(np.ones(SHAPE))
    assert boundaries.phase_boundaries(ax, ClosedForm(6, 6, FORM.kurtosis)) == (None,) * 4


def test_kurtosis_ticks_are_at_their_densities():
    ax, _ = drawn()
    axis = boundaries.kurtosis_axis(ax, FORM)
    assert [text.get_text() for text in axis.get_ticklabels()] == ["2", "3", "10", "30", "100"]
    # 9 / (5 p), in single precision
    np.testing.assert_allclose(1.8 / np.array(axis.get_ticklocs()), [2, 3, 10, 30, 100], rtol=1e-5)


@pytest.mark.parametrize("importance", [0.15, 0.7, 4.0])
def test_marginal_curves_are_eq_14_with_dots_at_the_optimum(importance):
    ax, k = axes(), 12.0
    v = np.array([importance, 1, 1, 1, 1, 1])
    optimum = np.asarray(theory.optimal_capacity(v, np.array(k), 3))
    level, black, blue, *dots = marginal.marginal_loss_curves(ax, v, k, optimum)
    for line, height in ((black, 1), (blue, importance)):
        c = line.get_xdata()
        np.testing.assert_allclose(line.get_ydata(), 2 * ((k - 1) * height / ((k - 3) * c + 2)) ** 2, rtol=1e-5)
    assert [dot.get_offsets()[0, 0] for dot in dots] == pytest.approx([optimum[1], optimum[0]])
    multiplier = float(theory.multiplier(v, np.array(k), 3))
    assert level.get_ydata()[0] == pytest.approx(2 * multiplier**2, rel=1e-5)


def test_pinned_features_are_counted_and_the_critical_point_is_open():
    v = np.array([0.5, 1, 1, 1, 1, 1])
    dense = marginal.marginal_loss_curves(axes(), v, 2.0, np.array([0, 1, 1, 1, 0, 0], float))
    assert [a.get_text() for a in dense if hasattr(a, "get_text")] == ["2 of 5", "3 of 5"]
    critical = marginal.marginal_loss_curves(axes(), np.ones(6), 3.0, np.full(6, 0.5))
    assert len(critical[-1].get_offsets()) > 5
    assert (critical[-1].get_facecolor() == 1).all()


def test_the_style_is_left_behind():
    before = {name: mpl.rcParams[name] for name in style.STYLE}
    with style.style():
        assert mpl.rcParams["pdf.fonttype"] == 42
    assert {name: mpl.rcParams[name] for name in style.STYLE} == before
