"""Sweeps and results as they are printed, and as a notebook shows them."""

import subprocess
import sys
from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import matplotlib as mpl
import numpy as np
import optax
import pytest
from matplotlib.image import imread

from polyjax import Features, Redwood, Results, Sweep
from polyjax.draw import glance
from polyjax.selection import Refined

PAPER = Sweep(Redwood(6, 3), np.geomspace(0.01, 1, 40), np.geomspace(0.1, 10, 30))
OTHER = Sweep(
    lambda q: Redwood(6, 3, lambda z: abs(z) ** q),
    axes={"q": [1.5, 2.0], "rate": [0.1], "density": [0.2, 0.1]},
    features=lambda density: Features(density),
    optimizer=lambda rate: optax.sgd(rate),
    restarts=1,
    retries=0,
    polish=True,
    refine=3,
)


def results(axes, refined=False, R=2, N=6, D=3, **changes):
    """Results of any axes, made up."""
    rng, shape = np.random.default_rng(0), tuple(len(values) for values in axes.values())
    axes = {name: np.asarray(values, float) for name, values in axes.items()}
    lanes = (*shape, R)
    arrays = {
        "capacity": rng.random((*lanes, N)),
        "rank_loss": rng.random(lanes),
        "loss": rng.random(lanes),
        "loss_se": rng.random(lanes),
        "settled": rng.random(lanes) < 0.7,
        "attempt": np.zeros(lanes, np.uint8),
    }
    params = {"W": rng.normal(size=(*lanes, D, N)), "b": rng.normal(size=lanes)}
    found = Results.of(axes, {**arrays, **params, **changes}, {"model": {"name": "Redwood"}}, None)
    best = found.select("best")
    return replace(found, refined=Refined(**best._asdict(), gain=np.zeros(shape)) if refined else None)


GRID = {"density": np.geomspace(0.01, 1, 4), "importance": [0.1, 1, 10]}


# --- as text


def test_a_sweep_is_printed_in_a_few_lines():
    assert repr(PAPER).splitlines() == [
        "Sweep",
        "  model       Redwood, 6 features in 3 neurons, square",
        "  axes        density (40: 0.01 to 1) x importance (30: 0.1 to 10) x 4 restarts = 4,800 networks",
        "  features    the paper's, by density and importance",
        "  optimizer   Adam, cosine decay from 0.02",
        "  training    2,000 steps on 64 samples, enumerated",
        "  afterwards  at most 2 retries",
        "  seed        0",
    ]
    for words in (
        "Redwood, 6 features in 3 neurons, <lambda>, by q",
        "q (2: 1.5 to 2) x rate (1: 0.1 to 0.1) x density (2: 0.1 to 0.2) x 1 restart = 4 networks",
        "the user's, by density",
        "the user's, by rate",
        "at most 3 rounds of refining, polishing",
    ):
        assert words in repr(OTHER)
    exact = replace(
        PAPER,
        objective="expected",
        features=Features(0.1),
        density=None,
        importance=None,
        axes={"rate": [1]},
        optimizer=lambda rate: optax.sgd(rate),
    )
    assert "2,000 steps on the expected loss" in repr(exact)


def test_results_are_printed_in_a_line():
    loss = np.full((4, 3, 2), 0.5)
    loss[0, 0] = [0.25, np.nan]
    settled = np.ones((4, 3, 2), bool)
    settled[0] = False
    found = results(GRID, loss=loss, settled=settled)
    assert repr(found) == (
        "Results of Redwood, 6 features in 3 neurons; density (4: 0.01 to 1) x importance (3: 0.1 to 10) x 2 restarts; "
        "75.0% of 24 networks settled; lowest loss of a cell 0.25 to 0.5; not refined"
    )
    assert repr(results(GRID, refined=True)).endswith("; refined")
    nothing = results(GRID, loss=np.full((4, 3, 2), np.nan))
    assert "; no finite loss; " in repr(nothing)


def test_the_largest_results_are_printed_in_few_characters():
    axes = {f"a_rather_long_name_of_an_axis_{i}": np.linspace(0, 1, 3) / 3 for i in range(4)}
    assert len(repr(results(axes, refined=True))) < 1000


# --- as a notebook shows them


def test_a_table_holds_what_is_printed_and_the_picture():
    html = results({"a<b": [0.1, 0.2]}, refined=True)._repr_html_()
    assert "<th>model</th><td>Redwood, 6 features in 3 neurons</td>" in html
    assert "a&lt;b (2: 0.1 to 0.2) x 2 restarts" in html
    picture = html.split("base64,")[1].split('"')[0]
    assert b64decode(picture).startswith(b"\x89PNG")
    assert "<th>training</th><td>2,000 steps on 64 samples, enumerated</td>" in PAPER._repr_html_()


def shown(found):
    """The pixels of the picture."""
    return imread(BytesIO(found._repr_png_()))


@pytest.mark.parametrize(
    "axes",
    [
        pytest.param({"density": [0.1]}, marks=pytest.mark.slow),
        pytest.param({"density": [0.1, 0.2, 0.3]}, marks=pytest.mark.slow),
        {"density": [0.1], "importance": [1, 2, 3]},
        pytest.param({"density": [0.1, 0.2, 0.3], "importance": [1]}, marks=pytest.mark.slow),
        pytest.param({"density": [0.1], "importance": [1]}, marks=pytest.mark.slow),
        {"rate": [0.3, 0.1, 0.2], "decay": [-1, 0, 0]},  # neither sorted, nor positive, nor all different
        pytest.param({"a": [1, 2], "b": [1, 2, 3], "c": [1, 2]}, marks=pytest.mark.slow),
        {"a": [1, 2], "b": [1], "c": [1, 2, 3], "d": [1, 2]},
    ],
    ids=str,
)
def test_every_grid_has_a_picture_of_one_size(axes):
    for found in (results(axes), results(axes, refined=True), results(axes, R=1, N=1, D=1)):
        pixels = shown(found)
        assert pixels.shape == (*(int(n * glance.DPI) for n in glance.INCHES[::-1]), 4)
        assert np.unique(pixels.reshape(-1, 4), axis=0).shape[0] > 10


def test_the_colour_of_a_cell_is_that_of_its_capacity():
    middle_left = (np.s_[100:200], np.s_[150:230])  # inside the first panel
    settled = np.ones((4, 3, 2), bool)  # or cells are hatched
    for value in (0.0, 0.5, 1.0):
        pixels = shown(results(GRID, capacity=np.full((4, 3, 2, 6), value), settled=settled))[middle_left]
        expected = mpl.colormaps["cividis"](value)
        assert abs(pixels - np.float32(expected)).max() <= 1 / 255  # eight bits
    failed = shown(results(GRID, rank_loss=np.full((4, 3, 2), np.nan), loss=np.full((4, 3, 2), np.nan)))[middle_left]
    assert np.ptp(failed[..., :3], axis=-1).max() <= 1 / 255  # hatched in grey


def test_losses_that_have_no_logarithm_are_shown():
    for loss in (np.zeros((4, 3, 2)), np.full((4, 3, 2), np.inf), np.full((4, 3, 2), 2.0)):
        assert shown(results(GRID, loss=loss)).any()


def test_the_first_two_axes_of_several_values_are_shown_and_a_middle_value_of_the_others():
    names, fixed = glance.shown(results({"a": [1], "b": [1, 2, 3], "c": [1, 2], "d": [1, 2, 3]}))
    assert names == ["b", "c"]
    assert fixed == {"a": 1, "d": 2}
    names, fixed = glance.shown(results({"a": [1, 2], "b": [1]}))
    assert names == ["a", "b"]
    assert fixed == {}


def test_rows_go_upwards_and_columns_to_the_right():
    capacity = np.zeros((4, 3, 2, 6))
    capacity[0, 2] = 1  # the least density, the largest importance
    pixels = shown(results(GRID, capacity=capacity, settled=np.ones((4, 3, 2), bool)))
    yellow = np.argwhere(abs(pixels - np.float32(mpl.colormaps["cividis"](1.0))).max(-1) <= 1 / 255)
    yellow = yellow[yellow[:, 1] < 310]  # without the colour bar
    blue = np.argwhere(abs(pixels - np.float32(mpl.colormaps["cividis"](0.0))).max(-1) <= 1 / 255)
    assert yellow[:, 0].mean() > blue[:, 0].mean()  # lower
    assert yellow[:, 1].mean() > blue[:, 1].mean()  # further right


def test_printing_loads_no_matplotlib():
    code = "import polyjax, sys; repr(polyjax.Sweep(polyjax.Redwood(3, 2), [0.5])); print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_sweep_of_several_sizes_is_printed_with_its_first():
    sweep = Sweep(lambda d: Redwood(6, d), axes={"density": [0.1, 0.2], "d": [2, 3]}, steps=4)
    lines = repr(sweep).splitlines()
    assert len(lines) <= 11
    assert lines[1] == "  sizes       d; below is the first"
    assert lines[3] == "  model       Redwood, 6 features in 2 neurons, square"
