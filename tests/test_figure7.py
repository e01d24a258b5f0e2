"""Figure 7 from small panels that are trained here, and the findings of section 3.7 on them."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from legibility import assert_legible, rendered, sentences, words

import polyjax
from figures import figure7
from polyjax.draw import numbers
from polyjax.results import load
from polyjax.theory import best_explicit_losses
from sweeps import figure7 as sweeps

pytestmark = pytest.mark.slow  # three panels are trained and polished
ROOT = Path(__file__).parents[1]


TRAINED = ("redwood-square-6in3", "anthropic-relu-6in3", "anthropic-relu-6in5")


@pytest.fixture(scope="module")
def small():
    """Three panels, just large enough for their phases, over the sweep's importances and densities."""

    def train(panel):
        axes = {"density": np.geomspace(0.01, 1, 12), "importance": np.geomspace(0.01, 100, 14)}
        sweep = replace(sweeps.sweep(panel, "quick"), **axes, restarts=4, steps=900, refine=3)
        return polyjax.run(sweep, progress=False)

    return {panel: train(panel) for panel in TRAINED}


@pytest.fixture(scope="module")
def panels(small):
    """All nine: what training another activation would give is of no interest to the drawing."""

    def stand_in(panel):
        model, activation, size = panel.split("-")
        results = next(found for name, found in small.items() if name.startswith(model) and name.endswith(size))
        return replace(results, config=results.config | {"model": results.config["model"] | {"activation": activation}})

    return {panel: small[panel] if panel in small else stand_in(panel) for panel in figure7.PANELS}


@pytest.fixture(scope="module")
def folder(panels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figure7")
    for name, results in panels.items():
        results.save(folder / f"{name}.npz")
    return folder


@pytest.fixture(scope="module")
def figure(panels):
    return rendered(lambda: figure7.draw(panels))


def capacity(results):
    return results.select("refined").capacity[..., 0]


def test_the_figure_asks_for_the_panels_that_the_sweep_writes():
    assert list(sweeps.PANELS) == figure7.PANELS


def test_all_text_is_legible(figure):
    fig, drawn = figure
    assert fig.get_figwidth() == 7  # two columns of a page
    assert_legible(fig, drawn)


def test_every_panel_shows_its_capacities_on_one_scale(panels, figure):
    meshes = [ax.collections[0] for ax in figure[0].axes if ax.get_title()]
    titles = [ax.get_title() for ax in figure[0].axes if ax.get_title()]
    assert titles[0] == "a  Redwood, 6 in 3, square"
    assert titles[7] == "h  Anthropic, 6 in 5, ReLU"
    for mesh, name in zip(meshes, figure7.PANELS, strict=True):
        np.testing.assert_array_equal(mesh.get_array().filled(np.nan), capacity(panels[name]))
        assert mesh.get_clim() == (0, 1)


def test_the_caption_counts_what_training_left(panels, figure):
    fig, _ = figure
    text = fig.details
    assert sentences(fig) == 2
    for letter, name in zip("abcdefghi", figure7.PANELS, strict=True):
        results = panels[name]
        isolated = numbers.isolated(capacity(results)).sum()
        excess = results.refined.excess
        falls = f"{np.median(excess):.2%}, {excess.max():.2%}"
        assert f"{letter} 0 / {(~results.refined.settled).sum()} / {isolated} / {falls}" in text
    assert text.count("steps 900") == 1
    assert "distribution uniform signed (a to c) / uniform positive (d to i)" in text
    assert "(refined)" in text


def test_the_caption_says_by_how_much_polished_losses_still_fall(panels):
    name = figure7.PANELS[0]
    excess = np.full(panels[name].refined.loss.shape, 0.0012)
    excess[0, 0] = 0.25
    polished = panels[name].refined._replace(excess=excess)
    fig, _ = rendered(lambda: figure7.draw(panels | {name: replace(panels[name], refined=polished)}))
    assert "/ 0.12%, 25.00%; b 0 /" in fig.details


def test_a_learning_rate_that_differs_is_told_by_panel(panels):
    changed = dict(panels)
    for name in ("redwood-relu-6in3", "anthropic-gelu-6in5"):
        config = panels[name].config | {"learning_rate": 0.25, "optimizer": "Adam, cosine decay from 0.25"}
        changed[name] = replace(panels[name], config=config)
    rates = {panels[name].config["optimizer"] for name in panels}
    assert rates == {"Adam, cosine decay from 0.02"}
    fig, drawn = rendered(lambda: figure7.draw(changed))
    assert "cosine decay from 0.02 (a, c, d, e, f, g, h) / Adam, cosine decay from 0.25 (b, i)" in fig.details
    assert_legible(fig, drawn)


def test_the_rule_is_printed(panels):
    fig, _ = rendered(lambda: figure7.draw(panels, "mean"))
    assert "the mean of all restarts that settled (mean)" in fig.details


def test_the_map_of_explicit_solutions_is_that_of_their_losses(figure):
    density, importance = np.geomspace(0.01, 1, 9), np.geomspace(0.013, 70, 12)
    losses = figure7.explicit(density, importance)  # ignore another, ignore; pair of others, pair
    edge = figure7.given_up(density, 0.01)
    paired = losses[3] < (1 - figure7.LEAST_GAIN) * losses[1]
    below = importance < 1
    near = abs(np.log(importance / edge[:, None])) < 0.01  # it is halved to 0.1 %
    assert ((paired == (importance > edge[:, None])) | near)[:, below].all()
    assert (losses.argmin(0)[:, ~below] == 2).all()
    # By hand, an antipodal pair without bias is better where r (2/p - 5/2) > 1; the best is so from a lower r on.
    assert (edge[:-1] <= 1.001 * np.clip(1 / (2 / density[:-1] - 2.5), 0.01, 1)).all()
    text = words(figure[1])
    assert all(word.replace("\n", " ") in text for word in figure7.WORDS)


def test_the_bounds_are_the_extreme_cells(panels, figure):
    results = panels[figure7.EXPLICIT]
    best = np.min(np.stack(np.broadcast_arrays(*best_explicit_losses(results.importance, results.density[:, None]))), 0)
    excess = results.select("best").loss / best - 1
    for which, found in (
        (np.argmax, figure7.bound(results, "best")),
        (np.argmin, figure7.bound(results, "best", np.argmin)),
    ):
        i, j = np.unravel_index(which(excess), excess.shape)
        assert found.excess == excess[i, j]
        assert (found.importance, found.density) == (results.importance[j], results.density[i])
        assert f"{100 * found.excess:+.3g}%" in figure[0].details


def test_antipodal_pairs_make_a_plateau_in_the_anthropic_model_alone(small):
    assert numbers.plateau(capacity(small["anthropic-relu-6in3"])) > 0.3  # 0.41 on a fine grid
    assert numbers.plateau(capacity(small["anthropic-relu-6in5"])) > 0.12  # 0.21 on a fine grid
    assert numbers.plateau(capacity(small["redwood-square-6in3"])) < 0.03


def test_a_feature_ten_times_as_important_is_superposed_only_where_features_crowd(small):
    def at(panel):
        results = small[panel]
        return numbers.superposed(capacity(results))[0, numbers.nearest(results.importance, 10)]

    assert at("anthropic-relu-6in3")
    assert not at("anthropic-relu-6in5")
    assert not at("redwood-square-6in3")


@pytest.mark.parametrize("panel", TRAINED)
def test_capacity_jumps_from_ignored_to_full_where_features_are_dense(small, panel):
    results = small[panel]
    dense = results.density > 0.65  # the critical density of the quadratic model is 0.6
    steps = numbers.steepest(capacity(results))
    assert steps[dense].min() > 0.9
    if panel != "anthropic-relu-6in5":  # in which it falls from 1 to 1/2 at V = 1 at every density
        assert steps[~dense].min() < 0.75


@pytest.mark.parametrize("panel", TRAINED)
def test_refining_leaves_no_cell_alone(small, panel):
    assert not numbers.isolated(capacity(small[panel])).any()


def test_training_is_as_good_as_the_explicit_solutions(small):
    assert figure7.bound(small["anthropic-relu-6in5"], "refined").excess < 0.01  # what 900 steps leave is about 0.003


def test_an_isolated_cell_differs_from_all_its_neighbours():
    flat = np.zeros((5, 6))
    assert not numbers.isolated(flat).any()
    for cell in ((2, 3), (0, 0), (4, 2)):  # inside, a corner, an edge
        speckled = flat.copy()
        speckled[cell] = 0.26
        assert list(zip(*np.nonzero(numbers.isolated(speckled)), strict=True)) == [cell]
        assert not numbers.isolated(speckled, threshold=0.27).any()
    boundary = np.where(np.arange(6) < 3, 0.0, 1.0) * np.ones((5, 1))
    assert not numbers.isolated(boundary).any()
    boundary[2, 2] = 1  # a step in the line
    assert not numbers.isolated(boundary).any()


def test_failed_cells_are_neither_isolated_nor_neighbours():
    failed = np.zeros((3, 3))
    failed[1, 1] = np.nan
    assert not numbers.isolated(failed).any()
    failed[0, 0], failed[0, 1] = 1, np.nan
    assert numbers.isolated(failed)[0, 0]
    failed[1, 0] = np.nan  # now it has no neighbour to differ from
    assert not numbers.isolated(failed).any()


def test_the_numbers_of_a_diagram():
    C = np.array([[0, 0.5, 0.52, 1], [0.01, 0.2, np.nan, 0.99]])
    assert numbers.plateau(C) == 2 / 7
    np.testing.assert_array_equal(numbers.superposed(C), [[0, 1, 1, 0], [0, 1, 0, 0]])
    np.testing.assert_allclose(numbers.steepest(C), [0.5, 0.19])
    assert numbers.nearest(np.array([0.01, 0.1, 1]), 0.3) == 1


def run(*arguments):
    command = [sys.executable, "-m", "figures.figure7", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_command_leaves_both_images(tmp_path, folder):
    done = run("--results", folder, "--out", tmp_path / "new" / "figure")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    png, pdf = ((tmp_path / "new" / f"figure.{kind}").read_bytes() for kind in ("png", "pdf"))
    assert int.from_bytes(png[16:20], "big") == 7 * 300  # the PNG header
    assert b"/Type3" not in pdf
    assert len(pdf) < 500_000


def refused(capsys, folder, out):
    with pytest.raises(SystemExit) as ended:
        figure7.main(["--results", str(folder), "--out", str(out)])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.count("\n") == 1
    assert not out.with_suffix(".png").exists()
    return error


def test_missing_panels_and_wrong_files_are_refused_in_one_line(tmp_path, capsys, folder):
    names = [f"{name}.npz" for name in figure7.PANELS]
    for name in names[1:]:
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert f"must have the panel {tmp_path / names[0]}" in refused(capsys, tmp_path, tmp_path / "figure")
    (tmp_path / names[0]).write_bytes((folder / names[1]).read_bytes())
    assert "but holds redwood-relu-6in3" in refused(capsys, tmp_path, tmp_path / "figure")
    whole = load(folder / names[0])
    replace(whole, axes={**whole.axes, "importance": 2 * whole.importance}).save(tmp_path / names[0])
    assert "must have the importance axis of the other panels" in refused(capsys, tmp_path, tmp_path / "figure")
    replace(whole, config={}).save(tmp_path / names[0])
    assert "but holds unknown" in refused(capsys, tmp_path, tmp_path / "figure")
    (tmp_path / names[0]).write_bytes(b"PK")
    assert "whole polyjax results file" in refused(capsys, tmp_path, tmp_path / "figure")
