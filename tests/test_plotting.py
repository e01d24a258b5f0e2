"""The drawing functions put every value where it belongs; pixels are read from the rendered canvas."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from selections import marked, selection

from polyjax import theory
from polyjax.draw import plotting
from polyjax.toy.distributions import UNIFORM_SIGNED

DENSITY, IMPORTANCE = np.geomspace(0.01, 1, 12), np.geomspace(0.1, 10, 15)


def axes():
    fig = Figure(figsize=(3, 3), dpi=200)
    FigureCanvasAgg(fig)
    return fig.add_subplot()


def printed(value, **cells):
    """A panel of `value` [64, 64], two inches wide, at 300 dpi, as it is in print: image [rows, columns, 3] in [0, 1]
    from the sparse row up, and the edges of the columns and of the rows in pixels."""
    with plotting.style():
        fig = Figure(figsize=(2, 1.7), dpi=300)
        canvas, ax = FigureCanvasAgg(fig), fig.add_axes((0, 0, 1, 1))
        density, importance = np.geomspace(0.01, 1, 64), np.geomspace(0.1, 10, 64)
        plotting.phase_diagram(ax, density, importance, value, **cells)
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


def test_edges_lie_between_the_values_they_separate():
    edges = plotting.cell_edges(DENSITY)
    assert (edges[:-1] < DENSITY).all()
    assert (edges[1:] > DENSITY).all()
    # A geometric grid has geometric edges: each value is the geometric mean of its two. Rounding of a log and an exp.
    np.testing.assert_allclose(np.sqrt(edges[:-1] * edges[1:]), DENSITY, rtol=1e-12)


@pytest.mark.parametrize("centres", [[1.0], [1.0, 1.0], [2.0, 1.0], [0.0, 1.0], [[1.0, 2.0]]])
def test_edges_need_rising_values(centres):
    with pytest.raises(ValueError, match="two or more rising positive values"):
        plotting.cell_edges(np.array(centres))


def test_every_cell_has_the_colour_of_its_value_where_its_coordinates_are():
    ax = axes()
    value = np.random.default_rng(0).random((DENSITY.size, IMPORTANCE.size))
    plotting.phase_diagram(ax, DENSITY, IMPORTANCE, value)
    ax.figure.canvas.draw()
    for row, column in np.ndindex(*value.shape):
        expected = colormaps[plotting.CAPACITY_MAP](value[row, column])[:3]
        # The centre of the outermost cells of a 3 x 3 inch figure is 10 pixels inside, so no edge is mixed in; 8 bits.
        np.testing.assert_allclose(pixel(ax, IMPORTANCE[column], DENSITY[row]), expected, atol=1 / 255)


def test_dense_is_at_the_top_and_important_on_the_right():
    ax = axes()
    plotting.phase_diagram(ax, DENSITY, IMPORTANCE, np.zeros((DENSITY.size, IMPORTANCE.size)))
    sparse_left, dense_right = ax.transData.transform([(0.1, 0.01), (10, 1)])
    assert (dense_right > sparse_left).all()


def test_failed_and_unsettled_cells_are_hatched_and_no_others():
    value = np.full((DENSITY.size, IMPORTANCE.size), 0.5)
    value[2, 3], value[4:6, 4:8], value[-1, -1] = np.nan, np.nan, np.nan
    unsettled = np.zeros(value.shape, bool)
    unsettled[1, 2], unsettled[3, 3:6], unsettled[0, 0], unsettled[:, -2] = True, True, True, True
    diagram = plotting.phase_diagram(axes(), DENSITY, IMPORTANCE, value, unsettled=unsettled)
    np.testing.assert_array_equal(marked(diagram.failed, DENSITY, IMPORTANCE), np.isnan(value))
    np.testing.assert_array_equal(marked(diagram.unsettled, DENSITY, IMPORTANCE), unsettled)
    assert set(diagram.failed.get_hatch()) == {"/"}
    assert set(diagram.unsettled.get_hatch()) == {"\\"}


@pytest.mark.parametrize("capacity", [0, 0.5, 1])
def test_a_single_unsettled_cell_is_seen_in_print(capacity):
    value, unsettled = np.full((64, 64), float(capacity)), np.zeros((64, 64), bool)
    unsettled[::3, ::3] = True  # apart from each other, and at all places that the hatch's lines may have in a cell
    plain, *grid = printed(value)
    image, *_ = printed(value, unsettled=unsettled)
    away = np.linalg.norm(image - plain, axis=-1)
    ink = 0.5 * np.linalg.norm(np.array(to_rgb(plotting.UNCONVERGED)) - plain[0, 0])
    for row, column in np.argwhere(unsettled):
        found = away[inside(*grid, row, column)] > ink
        assert 0.1 < found.mean() < 0.7  # some of the colour beneath is left
        if row < 63:
            assert away[inside(*grid, row + 1, column)].max() == 0


def test_the_capacity_is_legible_where_a_whole_region_is_unsettled():
    value = np.repeat([0, 0.25, 0.5, 0.75, 1], 13)[:64] * np.ones((64, 1))
    plain, image = (printed(value, unsettled=cells)[0] for cells in (None, value >= 0))
    bands = [np.s_[20:-20, left + 20 : left + 80] for left in (0, 122, 244, 366, 488)]
    orange = np.array(to_rgb(plotting.UNCONVERGED))
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
    grid = np.geomspace(0.01, 1, n), np.geomspace(0.1, 10, n)
    cells = np.random.default_rng(0).random((n, n)) < 0.05

    def pdf(compression, **marks):
        with plotting.style(), mpl.rc_context({"pdf.compression": compression}):
            fig, file = Figure(figsize=(2, 2)), io.BytesIO()
            plotting.phase_diagram(fig.add_subplot(), *grid, np.zeros((n, n)), **marks)
            fig.savefig(file, format="pdf")
        return file.getvalue()

    text = pdf(0, unsettled=cells)
    assert text.count(b"/PatternType 1") == 1
    assert text.count(b" scn") == 1  # one path, painted once
    assert text.count(b"/Subtype /Image") == pdf(0).count(b"/Subtype /Image") == 1  # the colours
    assert len(pdf(6, unsettled=cells)) - len(pdf(6)) < 20 * cells.sum()


def test_a_diagram_without_failures_has_no_such_artists():
    diagram = plotting.phase_diagram(axes(), DENSITY, IMPORTANCE, np.zeros((12, 15)))
    assert diagram.failed is None
    assert diagram.unsettled is None


def test_cells_are_counted_once():
    failed, unsettled = plotting.cell_states(selection(failed=2, unsettled=3))
    assert (failed.sum(), unsettled.sum()) == (2, 3)
    assert not (failed & unsettled).any()


def test_contours_are_labelled_on_the_level():
    ax = axes()
    step = np.broadcast_to(np.linspace(0, 1, IMPORTANCE.size), (DENSITY.size, IMPORTANCE.size))
    plotting.phase_diagram(ax, DENSITY, IMPORTANCE, step)
    contours = plotting.capacity_contours(ax, DENSITY, IMPORTANCE, step)
    found = {text.get_text(): text.get_position()[0] for text in contours.labelTexts}
    # The levels lie at these fractions of the 2 decades of importance; the label is placed on a polyline of cells.
    assert found == {label: pytest.approx(10 ** (2 * float(label) - 1), rel=0.02) for label in ("0.25", "0.5", "0.75")}


def test_contours_too_close_for_two_labels_get_one():
    ax = axes()
    step = np.broadcast_to(np.linspace(0, 1, IMPORTANCE.size), (DENSITY.size, IMPORTANCE.size))
    plotting.phase_diagram(ax, DENSITY, IMPORTANCE, step)
    contours = plotting.capacity_contours(ax, DENSITY, IMPORTANCE, step, levels=(0.25, 0.47, 0.48))
    assert [text.get_text() for text in contours.labelTexts] == ["0.25", "0.47"]


def test_contours_of_a_flat_diagram_have_no_labels():
    ax = axes()
    flat = np.full((DENSITY.size, IMPORTANCE.size), 0.1)
    flat[0, 0] = 0.9  # not an upward crossing anywhere
    plotting.phase_diagram(ax, DENSITY, IMPORTANCE, flat)
    assert len(plotting.capacity_contours(ax, DENSITY, IMPORTANCE, flat, levels=(0.5,)).labelTexts) == 0


def test_boundaries_are_the_closed_form_and_meet_at_the_critical_point():
    ax = axes()
    plotting.phase_diagram(ax, DENSITY, IMPORTANCE, np.zeros((12, 15)))
    lines = plotting.phase_boundaries(ax, UNIFORM_SIGNED.kurtosis, 6, 3)
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
    plotting.phase_diagram(ax, np.geomspace(*densities, 5), IMPORTANCE, np.zeros((5, 15)))
    lines = plotting.phase_boundaries(ax, UNIFORM_SIGNED.kurtosis, 6, 3)
    assert tuple(line is not None for line in lines) == drawn


def test_nothing_bounds_a_feature_with_a_neuron_of_its_own():
    ax = axes()
    plotting.phase_diagram(ax, DENSITY, IMPORTANCE, np.ones((12, 15)))
    assert plotting.phase_boundaries(ax, UNIFORM_SIGNED.kurtosis, 6, 6) == (None,) * 4


def test_kurtosis_ticks_are_at_their_densities():
    ax = axes()
    plotting.phase_diagram(ax, DENSITY, IMPORTANCE, np.zeros((12, 15)))
    axis = plotting.kurtosis_axis(ax, UNIFORM_SIGNED.kurtosis)
    assert [text.get_text() for text in axis.get_ticklabels()] == ["2", "3", "10", "30", "100"]
    # 9 / (5 p), in single precision
    np.testing.assert_allclose(1.8 / np.array(axis.get_ticklocs()), [2, 3, 10, 30, 100], rtol=1e-5)


@pytest.mark.parametrize("importance", [0.15, 0.7, 4.0])
def test_marginal_curves_are_eq_14_with_dots_at_the_optimum(importance):
    ax, k = axes(), 12.0
    v = np.array([importance, 1, 1, 1, 1, 1])
    optimum = np.asarray(theory.optimal_capacity(v, np.array(k), 3))
    level, black, blue, *dots = plotting.marginal_loss_curves(ax, v, k, optimum)
    for line, height in ((black, 1), (blue, importance)):
        c = line.get_xdata()
        np.testing.assert_allclose(line.get_ydata(), 2 * ((k - 1) * height / ((k - 3) * c + 2)) ** 2, rtol=1e-5)
    assert [dot.get_offsets()[0, 0] for dot in dots] == pytest.approx([optimum[1], optimum[0]])
    multiplier = float(theory.multiplier(v, np.array(k), 3))
    assert level.get_ydata()[0] == pytest.approx(2 * multiplier**2, rel=1e-5)


def test_pinned_features_are_counted_and_the_critical_point_is_open():
    v = np.array([0.5, 1, 1, 1, 1, 1])
    dense = plotting.marginal_loss_curves(axes(), v, 2.0, np.array([0, 1, 1, 1, 0, 0], float))
    assert [a.get_text() for a in dense if hasattr(a, "get_text")] == ["2 of 5", "3 of 5"]
    critical = plotting.marginal_loss_curves(axes(), np.ones(6), 3.0, np.full(6, 0.5))
    assert len(critical[-1].get_offsets()) > 5
    assert (critical[-1].get_facecolor() == 1).all()


def test_the_style_is_left_behind():
    before = {name: mpl.rcParams[name] for name in plotting.STYLE}
    with plotting.style():
        assert mpl.rcParams["pdf.fonttype"] == 42
    assert {name: mpl.rcParams[name] for name in plotting.STYLE} == before
