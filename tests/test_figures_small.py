"""Figures 1, 2, 3, 5 and 6: what is drawn is what the theory says, worked out here by other means, and can be read."""

import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from legibility import assert_legible, assert_nothing_beneath, rendered, sentences
from matplotlib.quiver import Quiver

from figures import drawing, figure1, figure2, figure3, figure5, figure6

ROOT = Path(__file__).parents[1]
WIDTHS = {"figure1": 3.4, "figure2": 7, "figure3": 7, "figure5": 7, "figure6": 7}  # one or two columns of a page


@cache
def page(module):
    return rendered(module.draw)


def eq3(W):
    """Capacities from eq. 3 as it is printed, in double precision."""
    gram = W.T @ W
    n = np.diag(gram)
    return np.divide(n**2, (gram**2).sum(1), out=np.zeros_like(n), where=n > 0)


def arrows(ax):
    """The arrows of a panel, [2, N], and the numbers written at their tips, with or without "C_i = "."""
    (quiver,) = (artist for artist in ax.collections if isinstance(artist, Quiver))
    drawn = np.stack([quiver.U, quiver.V])
    written = {text.xy: float(text.get_text().split()[-1]) for text in ax.texts if hasattr(text, "xy")}
    return drawn, np.array([written[tuple(tip)] for tip in drawn.T])


@pytest.mark.parametrize("name", WIDTHS)
def test_all_text_is_legible(name):
    fig, drawn = page(import_module(f"figures.{name}"))
    assert fig.get_figwidth() == WIDTHS[name]
    assert len(drawn) > 8
    assert sentences(fig) == 2
    assert_legible(fig, drawn)
    assert_nothing_beneath(fig, drawn)


@pytest.mark.parametrize("module", [figure1, figure6])
def test_the_capacities_written_at_the_tips_are_those_of_the_arrows(module):
    fig, _ = page(module)
    panels = [ax for ax in fig.axes if ax.get_title()]
    for ax, W in zip(panels, module.embeddings().values(), strict=True):
        drawn, written = arrows(ax)
        assert set(map(tuple, drawn.T)) == set(map(tuple, W.T))
        np.testing.assert_allclose(written, eq3(drawn), atol=0.005)  # two digits are written


def test_every_neuron_of_figure_1_responds_to_several_features():
    rotated, crowded = figure1.embeddings().values()
    np.testing.assert_allclose(rotated.T @ rotated, np.eye(2), atol=1e-15)  # a few roundings in double precision
    for W in (rotated, crowded):
        assert (abs(W) > 0.1).all()
    assert "each neuron responds to 3 of 3 features" in page(figure1)[0].details


def marks(ax):
    """The dots [N, 2], the curves [N] of (c, height) and the height of the dashed line of a panel of figure 2."""
    (dots,) = (np.asarray(c.get_offsets()) for c in ax.collections)
    level, *curves = ax.lines
    return dots, [np.stack(line.get_data()) for line in curves], float(level.get_ydata()[0])


def test_the_dots_of_figure_2_are_on_their_curves():
    v, k = figure2.IMPORTANCE, 9 / (5 * 0.2)
    for ax in page(figure2)[0].axes:
        dots, curves, _ = marks(ax)
        np.testing.assert_allclose(dots[:, 1], 2 * ((k - 1) * v / ((k - 3) * dots[:, 0] + 2)) ** 2, rtol=1e-5)
        for (c, height), importance in zip(curves, v, strict=True):  # single precision, squared
            np.testing.assert_allclose(height, 2 * ((k - 1) * importance / ((k - 3) * c + 2)) ** 2, rtol=1e-5)


def test_the_dots_of_figure_2_meet_the_conditions_of_optimality():
    """Eqs. 6 to 8 with the Lagrange multiplier at the dashed line, and sum_i C_i = D."""
    axes, text = page(figure2)[0].axes, page(figure2)[0].details
    assert [ax.get_title() for ax in axes] == [f"$D$ = {D}" for D in figure2.NEURONS]
    for D, ax in zip(figure2.NEURONS, axes, strict=True):
        (C, height), level = marks(ax)[0].T, marks(ax)[2]
        assert C.sum() == pytest.approx(D, abs=1e-5)  # the sum of six values in single precision
        np.testing.assert_allclose(height[(C > 0) & (C < 1)], level, rtol=1e-5)
        assert (height[C == 1] > level).all()
        assert (height[C == 0] < level).all()
        counts = (C == 1).sum(), ((C > 0) & (C < 1)).sum(), (C == 0).sum()
        assert "D = {}: {} full, {} shared, {} ignored".format(D, *counts) in text


def test_figure_3_has_every_node_and_edge():
    left, right = page(figure3)[0].axes
    nodes = [len(c.get_offsets()) for ax in (left, right) for c in ax.collections if len(c.get_offsets()) != 1]
    assert sorted(nodes) == [3, 3, 6, 6, 6, 6, 6]
    edges = [sum(len(c.get_segments()) for c in ax.collections if hasattr(c, "get_segments")) for ax in (left, right)]
    assert edges == [2 * 18, (6 + 6) + (18 + 3 + 1)]  # the last one carries the bias


def test_figure_5_has_two_blocks_with_the_printed_capacities():
    fig, _ = page(figure5)
    matrix = fig.axes[0]
    W = np.asarray(matrix.images[0].get_array())
    blocks = [W[:2, :3], W[2:, 3:]]
    assert np.count_nonzero(W) == sum(block.size for block in blocks)  # all of W that is not zero
    for block, mu in zip(blocks, figure5.SCALES, strict=True):
        np.testing.assert_allclose(block @ block.T, mu * np.eye(len(block)), atol=1e-15)
    printed = [float(label.get_text().split()[1]) for label in matrix.get_xticklabels()]
    np.testing.assert_allclose(printed, eq3(W), atol=0.005)
    entries = [float(text.get_text().replace(figure5.MINUS, "-")) for text in matrix.texts[: W.size]]
    np.testing.assert_allclose(entries, W.ravel(), atol=0.005)
    assert "3 features in 2 dimensions, capacities 0.8, 0.7 and 0.5, which add up to 2" in fig.details
    assert len(matrix.patches) == 2


def test_the_graph_of_figure_5_has_an_edge_for_every_weight():
    matrix, graph, _ = page(figure5)[0].axes
    weights = np.asarray(matrix.images[0].get_array())
    widths = [line.get_linewidth() for line in graph.lines]
    np.testing.assert_allclose(widths, 3.5 * abs(weights[weights != 0]))
    colors = [line.get_color() for line in graph.lines]
    assert colors == [figure5.POSITIVE if w > 0 else figure5.NEGATIVE for w in weights[weights != 0]]


def test_the_arrows_of_figure_5_are_the_columns_seen_from_one_side():
    space = page(figure5)[0].axes[2]
    drawn, written = arrows(space)
    W = figure5.embedding().W
    order = [int(np.argmin(np.hypot(*(figure5.projected(W) - tip[:, None])))) for tip in drawn.T]
    assert sorted(order) == list(range(5))
    np.testing.assert_allclose(written, eq3(W)[order], atol=0.005)
    # A parallel projection of the unit vectors of space has rows of equal length, orthogonal to each other.
    view = figure5.projected(np.eye(3))
    np.testing.assert_allclose(view @ view.T, np.eye(2), atol=1e-15)


def test_the_sums_of_figure_6_are_those_of_its_arrows():
    for ax in page(figure6)[0].axes:
        total = eq3(arrows(ax)[0]).sum()
        sign = "=" if total > 2 - 1e-9 else "<"
        found = re.fullmatch(r"\$\\Sigma_i\\,C_i = ([\d.]+) (.) D\$", ax.get_xlabel())
        assert found
        assert float(found[1]) == pytest.approx(total, abs=0.005)
        assert found[2] == sign
        assert (sign == "<") == (ax.get_title() == "Inefficient")


def test_the_colours_of_figure_6_are_shared_exactly_by_features_that_overlap():
    for ax in page(figure6)[0].axes:
        (quiver,) = (artist for artist in ax.collections if isinstance(artist, Quiver))
        W, colors = np.stack([quiver.U, quiver.V]), quiver.get_facecolor()
        same = (colors[:, None] == colors[None, :]).all(-1)
        one = abs(W.T @ W) > 1e-9
        one = (one @ one) | np.eye(len(one), dtype=bool)  # the blocks here are at most two steps wide
        np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize(
    ("values", "words"), [([1], "1"), ([1, 0.5], "1 and 0.5"), ([1, 0.25, 0], "1, 0.25 and 0"), ([0.4] * 3, "0.4 each")]
)
def test_numbers_are_listed_in_words(values, words):
    assert drawing.listed(values) == words


def run(name, *arguments):
    command = [sys.executable, "-m", f"figures.{name}", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "name", ["figure1", *(pytest.param(n, marks=pytest.mark.slow) for n in WIDTHS if n != "figure1")]
)
def test_the_command_leaves_both_images_and_the_same_ones_again(tmp_path, name):
    out = tmp_path / "new" / f"{name}.v1"
    done = run(name, "--out", out)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    images = {kind: out.with_name(f"{out.name}.{kind}").read_bytes() for kind in ("png", "pdf")}
    assert int.from_bytes(images["png"][16:20], "big") == WIDTHS[name] * 300  # the PNG header
    assert b"/FontFile2" in images["pdf"]  # TrueType fonts are embedded,
    assert b"/Type3" not in images["pdf"]  # and no others
    import_module(f"figures.{name}").main(["--out", str(tmp_path / "again")])
    for kind, image in images.items():
        assert (tmp_path / f"again.{kind}").read_bytes() == image


@pytest.mark.parametrize("name", WIDTHS)
@pytest.mark.parametrize("arguments", [["--out", "{file}/figure"], ["--results", "figure.npz"], ["--out", ""]])
def test_errors_end_in_one_line(tmp_path, capsys, name, arguments):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        import_module(f"figures.{name}").main([a.format(file=tmp_path / "file") for a in arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"python -m figures.{name}: ")
    assert error.count("\n") == 1
