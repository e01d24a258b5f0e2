"""Figure 4 from a made-up sweep: the closed form plus noise, with cells that failed and cells that are not settled."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from legibility import assert_legible, rendered, sentences, words
from PIL import Image
from selections import marked

from figures import figure4
from polyjax.draw.distances import from_theory
from polyjax.results import Results

ROOT = Path(__file__).parents[1]
FAILED = 4


def closed_form(density, importance):
    """Capacity of feature 0 [P, V], 6 in 3, from section 3.5.2 and not from `polyjax.theory`; NaN on ties."""
    k, v = 9 / (5 * density[:, None]), importance[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = (3 * (k - 3) + 12) * v / ((k - 3) * (5 + v)) - 2 / (k - 3)
    full, ignored = 5 * (k - 1) / (2 * (k - 3) + 10), 10 / (3 * (k - 3) + 10)
    sparse = np.where(v >= full, 1, np.where(v <= ignored, 0, shared))
    return np.where(k > 3, sparse, np.where(v == 1, np.nan, v > 1))


def synthetic(size=24, importance=(0.1, 10), **changes):
    """Results of two restarts, the second one of higher loss."""
    rng = np.random.default_rng(1)
    density, v = np.geomspace(0.01, 1, size), np.geomspace(*importance, size)
    noisy = np.nan_to_num(closed_form(density, v), nan=0.5) + 0.03 * rng.standard_normal((size, size))
    capacity = np.full((size, size, 2, 6), 0.5)
    capacity[..., 0] = np.clip(noisy, 0, 1)[..., None]
    loss = np.broadcast_to([0.1, 0.2], (size, size, 2)).copy()
    loss[2:4, 5:7], capacity[2:4, 5:7] = np.nan, np.nan
    settled = np.isfinite(loss)
    settled[size // 2, 1:4] = False
    config = {
        "model": {"name": "Redwood", "n_features": 6, "n_neurons": 3, "activation": "square"},
        "distribution": "uniform_signed",
        "restarts": 2,
        "steps": 2000,
        "batch": 64,
        "sampler": "enumerated",
        "objective": "sampled",
        "optimizer": "Adam, cosine decay from 0.02",
        "learning_rate": 0.02,
        "seed": 0,
        "provenance": {
            "command": "python -m sweeps.figure4",
            "versions": {"python": "3.11.7", "polyjax": "0.1.0", "jax": "0.10.2", "numpy": "2.4.6"},
            "device": "cpu, AMD EPYC, 2 cores",
            "revision": "1a2b3c4d (modified)",
        },
    }
    W, b = np.zeros((size, size, 2, 3, 6)), np.zeros((size, size, 2))
    return Results(
        {"density": density, "importance": v},
        capacity,
        loss,
        loss,
        0.01 * loss,
        settled,
        0 * settled,
        {"W": W, "b": b},
        config | changes,
    )


def draw(results, **options):
    return rendered(lambda: figure4.draw(results, **options))


@pytest.fixture(scope="module")
def results():
    return synthetic()


@pytest.fixture(scope="module")
def figure(results):
    return draw(results)


def test_all_text_is_legible(figure):
    fig, drawn = figure
    assert fig.get_figwidth() == 7  # two columns of a page
    assert len(drawn) > 60
    assert_legible(fig, drawn)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"size": 21, "importance": (0.01, 100)},
        {"model": {"name": "Redwood", "n_features": 6, "n_neurons": 5, "activation": "square"}},
    ],
)
def test_all_text_is_legible_on_other_grids_and_models(options):
    assert_legible(*draw(synthetic(**options)))


def test_the_printed_statistics_are_those_of_the_closed_form(results, figure):
    expected = closed_form(results.density, results.importance)
    error = abs(results.capacity[:, :, 0, 0] - expected)
    error = error[np.isfinite(error)]
    assert error.size == 24 * 24 - FAILED
    mean, maximum, share = (f"{error.mean():.2g}", f"{error.max():.2g}", f"{(error > 0.05).mean():.2%}")
    text = words(figure[1])
    assert f"mean {mean} max {maximum} > 0.05: {share}" in text
    assert f"which is {mean} in the mean and {maximum} at most" in text
    assert f"mean {mean}, maximum {maximum}, more than 0.05 in {share} of cells" in figure[0].details
    assert "not unique" not in text


def test_cells_of_no_unique_optimum_are_left_out_and_counted():
    results = synthetic(21)  # V = 1 is its middle column
    ties = int((9 / (5 * results.density) <= 3).sum())
    assert ties == 3
    e = np.isfinite(closed_form(results.density, results.importance)) & np.isfinite(results.loss[..., 0])
    _, drawn = draw(results)
    assert f"{ties} cells of V = 1 and k ≤ 3" in words(drawn)
    np.testing.assert_array_equal(np.isfinite(from_theory(results).cells), e)


def test_failed_and_unsettled_cells_are_hatched_and_counted(results, figure):
    fig, drawn = figure
    grid = results.density, results.importance
    hatched = {ax.get_title(): [marked(p, *grid) for p in ax.patches if p.get_hatch()] for ax in fig.axes}
    failed, unsettled = np.isnan(results.loss[..., 0]), np.isfinite(results.loss) & ~results.settled
    np.testing.assert_array_equal(hatched.pop("Empirical"), [failed, unsettled[..., 0]])
    np.testing.assert_array_equal(hatched.pop("Difference"), [failed])
    assert not any(hatched.values())
    assert f"hatched cells: {FAILED} that failed (grey) and 3 not settled (orange)" in words(drawn)
    assert f"Failed cells (hatched grey): {FAILED}. Cells not settled (hatched orange): 3." in fig.details


def test_the_points_are_in_the_phases_of_the_paper(results):
    p = figure4.problem(results.config)
    points = figure4.points(p, results.importance, results.density)
    capacity = {letter: closed_form(np.array([d]), np.array([v]))[0, 0] for letter, (v, d) in points.items()}
    assert points["C"] == pytest.approx((1, 0.6))
    assert [capacity[letter] for letter in "ABDF"] == [0, 1, 0, 1]
    assert 0 < capacity["E"] < 1
    assert points["A"][0] < 1 < points["B"][0]
    assert points["A"][1] == points["B"][1] > 0.6
    assert points["D"][1] == points["E"][1] == points["F"][1]


def test_both_diagrams_share_a_scale_and_show_what_they_should(results, figure):
    analytical, empirical, difference = (ax.collections[0] for ax in figure[0].axes[:3])
    expected = closed_form(results.density, results.importance)
    # The figure's theory is in single precision; near k = 3 the closed form here cancels four digits of double's 16.
    np.testing.assert_allclose(analytical.get_array(), expected, atol=1e-5)
    np.testing.assert_array_equal(empirical.get_array().filled(np.nan), results.capacity[:, :, 0, 0])
    assert analytical.get_clim() == empirical.get_clim() == (0, 1)
    assert difference.get_array().mask.sum() == FAILED


def test_the_rule_is_printed():
    fig, _ = draw(synthetic(), rule="mean")
    assert "the mean of all restarts that settled (mean)" in fig.details


def test_the_caption_has_two_sentences_and_a_line_of_settings(figure):
    fig, drawn = figure
    assert sentences(fig) == 2
    [settings] = [text.get_text() for text, _ in drawn if text.get_gid() == "settings"]
    assert settings.startswith("2,000 steps, batch 64, 2 restarts, seed 0; polyjax 0.1.0, jax 0.10.2; device cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"name": "Redwood", "n_features": 6, "n_neurons": 3, "activation": "relu"}}, "closed form"),
        ({"model": {"name": "Anthropic", "n_features": 6, "n_neurons": 3, "activation": "square"}}, "closed form"),
        ({"model": {"name": "Redwood", "n_features": 6, "n_neurons": 6, "activation": "square"}}, "fewer neurons"),
        ({"model": {}}, "must name a model"),
        ({"distribution": "uniform_positive"}, "mean 0 and variance 1"),
        ({"distribution": "cauchy"}, "distribution must be one of"),
        ({"distribution": "normal"}, "around the critical point"),
        ({"importance": (2, 10)}, "around the critical point"),
    ],
)
def test_results_without_a_closed_form_are_refused(tmp_path, capsys, changes, message):
    synthetic(8, **changes).save(tmp_path / "r.npz")
    with pytest.raises(SystemExit) as ended:
        figure4.main(["--results", str(tmp_path / "r.npz"), "--out", str(tmp_path / "figure")])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "figure.png").exists()


def run(*arguments):
    command = [sys.executable, "-m", "figures.figure4", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_the_command_leaves_both_images(tmp_path, results):
    results.save(tmp_path / "r.npz")
    done = run("--results", tmp_path / "r.npz", "--out", tmp_path / "new" / "figure.v1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    png, pdf = ((tmp_path / "new" / f"figure.v1.{kind}").read_bytes() for kind in ("png", "pdf"))
    width, height = (int.from_bytes(png[i : i + 4], "big") for i in (16, 20))  # the PNG header
    assert width == 7 * 300
    assert height > width / 2
    with Image.open(tmp_path / "new" / "figure.v1.png") as image:
        assert "2 restarts = 1,152 models" in image.text["Description"]  # settings
        assert "closed-form boundaries of phases" in image.text["Description"]  # and the caption
    assert b"/Keywords" in pdf
    assert b"/FontFile2" in pdf  # TrueType fonts are embedded,
    assert b"/Type3" not in pdf  # and no others
    assert len(pdf) < 500_000


def test_the_command_names_a_missing_file_in_one_line(tmp_path):
    done = run("--results", tmp_path / "none.npz", "--out", tmp_path / "figure")
    assert done.returncode == 2
    assert "none.npz" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_refuses_a_truncated_file_in_one_line(tmp_path, results):
    path = tmp_path / "r.npz"
    results.save(path)
    path.write_bytes(path.read_bytes()[:-1000])
    done = run("--results", path, "--out", tmp_path / "figure")
    assert done.returncode == 2
    assert "whole polyjax results file" in done.stderr
    assert done.stderr.count("\n") == 1
