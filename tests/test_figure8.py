"""Figure 8 from embeddings whose blocks are known."""

from dataclasses import replace

import numpy as np
import pytest
from legibility import assert_legible, rendered, sentences, words
from selections import marked

from figures import figure8
from polyjax.draw import shapes
from polyjax.embedding.capacity import capacities
from polyjax.embedding.geometry import embedding_with_capacities, tegum_product
from polyjax.results import Results
from polyjax.selection import Refined

PAIR = embedding_with_capacities([0.5, 0.5])
MIXED = embedding_with_capacities(np.full(5, 0.4))
FULL = np.eye(1)


def padded(W):
    """[3, 6]"""
    return np.pad(W, ((0, 3 - W.shape[0]), (0, 6 - W.shape[1])))


# the embedding, its largest block, its number of blocks and the sizes of its superposed ones
KINDS = {
    "pairs": (tegum_product([PAIR] * 3, [1, 2, 0.5]), 2, 3, [2, 2, 2]),
    "full": (padded(np.eye(3)), 1, 3, []),
    "pair and full": (padded(tegum_product([PAIR, FULL, FULL])), 2, 3, [2]),
    "block of five": (tegum_product([MIXED, FULL], [1, 3]), 5, 2, [5]),
    "block of six": (embedding_with_capacities([0.3, 0.4, 0.5, 0.55, 0.6, 0.65]), 6, 1, [6]),
}


def results(name, rows, size=8, noise=0.0):
    """A panel in whose rows the kinds take turns."""
    rng = np.random.default_rng(0)
    W = np.empty((size, size, 3, 6))
    for i in range(size):
        rotation = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        W[i] = rotation @ KINDS[rows[i % len(rows)]][0]
    W += noise * rng.standard_normal(W.shape)
    C = np.array(capacities(W))
    model, activation, _ = name.split("-")
    config = {"model": {"name": model.title(), "n_features": 6, "n_neurons": 3, "activation": activation}}
    config |= {"steps": 100, "optimizer": "Adam, cosine decay from 0.02", "learning_rate": 0.02, "seed": 0}
    config |= {"distribution": "uniform_signed", "provenance": {"versions": {"polyjax": "0.1.0"}}}
    axes = np.geomspace(0.01, 1, size), np.geomspace(0.01, 100, size)
    loss, one = np.ones((size, size)), np.ones((size, size), bool)
    refined = Refined(C, loss, loss, 0.01 * loss, one, {"W": W, "b": 0 * loss}, 0 * loss)
    C, loss, se, one, attempt, W, b = (a[:, :, None] for a in (C, loss, 0.01 * loss, one, 0 * one, W, 0 * loss))
    named = dict(zip(("density", "importance"), axes, strict=True))
    return Results(named, C, loss, loss, se, one, attempt, {"W": W, "b": b}, config, refined)


@pytest.fixture(scope="module")
def panels():
    rows = (["block of six", "full"], ["block of five"], ["pairs", "block of five"], ["pairs", "pair and full"])
    return {name: results(name, kinds) for name, kinds in zip(figure8.PANELS, rows, strict=True)}


@pytest.fixture(scope="module")
def figure(panels):
    return rendered(lambda: figure8.draw(panels))


def test_all_text_is_legible(figure):
    fig, drawn = figure
    assert fig.get_figwidth() == 7  # two columns of a page
    assert_legible(fig, drawn)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tolerance", [0.02, 0.05, 0.1])
def test_the_blocks_of_a_diagram(kind, tolerance):
    _, largest, number, sizes = KINDS[kind]
    noise = 0.002  # below every tolerance, as what training leaves
    found = shapes.shapes(results("redwood-square-6in3", [kind], noise=noise).select("refined"), tolerance)
    assert (found.largest == largest).all()
    assert (found.number == number).all()
    assert found.features == 64 * sum(sizes)
    expected = np.bincount(sizes, weights=sizes, minlength=7) / max(sum(sizes), 1)
    np.testing.assert_allclose(found.share, expected)
    assert found.several == (len(sizes) > 1)
    assert found.efficient.all()


def test_what_counts_as_zero_follows_from_most_certificates_of_a_diagram():
    plain = results("redwood-square-6in3", ["pairs"])
    assert shapes.tolerance_of(plain, "refined") == shapes.TOLERANCE
    excess, spectrum = np.zeros((8, 8)), np.full((8, 8, 18), 3.0)
    spectrum[..., 0], spectrum[..., -3:] = 1.0, np.nan
    certified = replace(plain, refined=plain.refined._replace(excess=excess, spectrum=spectrum))
    # Where polishing sees no excess it may leave `descent.ENOUGH`, 2e-5: a distance of (2 * 2e-5 / 1)^(1/2), twice.
    assert shapes.tolerance_of(certified, "refined") == pytest.approx(0.01265, rel=1e-3)
    excess[0, :6] = 1.0  # less than a tenth of the cells
    assert shapes.tolerance_of(certified, "refined") == pytest.approx(0.01265, rel=1e-3)
    excess[1] = 1e-4
    assert shapes.tolerance_of(certified, "refined") == pytest.approx(0.02828, rel=1e-3)
    spectrum[1, :, 0] = 0.01  # no less than `certificate.FLATTEST` counts: 0.14, which is no longer clear
    assert shapes.tolerance_of(certified, "refined") == 0.05


def test_an_embedding_that_wastes_capacity_is_not_efficient(panels):
    wasteful = results("redwood-relu-6in3", ["block of six"])
    wasteful.refined.W[:4] *= np.array([3, 1, 1])[:, None]  # the block is no longer isotropic
    C = np.asarray(capacities(wasteful.refined.W))
    wasteful = replace(wasteful, refined=wasteful.refined._replace(capacity=C))
    found = shapes.shapes(wasteful.select("refined"))
    np.testing.assert_array_equal(found.efficient.all(1), np.arange(8) >= 4)
    fig, _ = rendered(lambda: figure8.draw(panels | {"redwood-relu-6in3": wasteful}))
    hatched = [ax.get_title() for ax in fig.axes for c in ax.collections if getattr(c, "hatches", None)]
    assert hatched == ["b  Redwood, ReLU", ""]  # in both of its maps and in no other
    assert "/ 0.0% / 50.0% / 0 / 0; c" in fig.details


def test_failed_and_unsettled_cells_are_hatched_and_counted(panels):
    changed = results("redwood-square-6in3", ["block of six", "full"])
    for a in (*changed.refined[:3], changed.refined.W):
        a[0, :3] = np.nan
    changed.refined.settled[0, :3] = changed.refined.settled[4:6, 5] = False
    fig, drawn = rendered(lambda: figure8.draw(panels | {"redwood-square-6in3": changed}))
    maps = [ax for ax in fig.axes if ax.get_yscale() == "log"]
    hatched = [[marked(p, changed.density, changed.importance) for p in ax.patches] for ax in maps]
    failed = np.isnan(changed.refined.loss)
    for found in (hatched[0], hatched[4]):
        np.testing.assert_array_equal(found, [failed, ~changed.refined.settled & ~failed])
    assert not any(hatched[1:4] + hatched[5:])
    assert "/ 0.0% / 3 / 2; b" in fig.details
    assert "hatched cells: 3 that failed (grey) and 2 not settled (orange)" in words(drawn)


def test_failed_cells_have_no_blocks():
    found = results("redwood-square-6in3", ["pairs"])
    for a in (*found.refined[:3], found.refined.W):
        a[0, 0] = np.nan
    blocks = shapes.shapes(found.select("refined"))
    assert blocks.largest[0, 0] == blocks.number[0, 0] == 0
    assert blocks.features == 63 * 6


def test_the_maps_show_what_was_found(panels, figure):
    maps = [ax.collections[0].get_array() for ax in figure[0].axes if ax.get_yscale() == "log"]
    assert len(maps) == 8
    rows = zip(maps[:4], maps[4:], panels.values(), strict=True)
    for largest, number, results in rows:
        found = shapes.shapes(results.select("refined"))
        np.testing.assert_array_equal(largest, found.largest)
        np.testing.assert_array_equal(number, found.number)


def test_the_caption_says_which_blocks_hold_most_features(figure):
    text = figure[0].details
    assert sentences(figure[0]) == 2
    assert "a 100.0% (100.0%, 100.0%) / 0.0% (0.0%, 0.0%) / 0.0% / 0.0% / 0 / 0;" in text
    # five against six, row by row
    assert "c 45.5% (45.5%, 45.5%) / 54.5% (54.5%, 54.5%) / 50.0% / 0.0% / 0 / 0;" in text
    assert "Most superposed features are in blocks of 4 or more (a, b), pairs (c, d)." in words(figure[1])


def test_a_mean_over_restarts_has_no_blocks(panels):
    with pytest.raises(ValueError, match="must choose one restart"):
        shapes.shapes(panels["redwood-square-6in3"].select("mean"))


def save(panels, folder):
    for name, results in panels.items():
        results.save(folder / f"{name}.npz")


def test_the_command_leaves_both_images(tmp_path, panels):
    save(panels, tmp_path)
    figure8.main(["--results", str(tmp_path), "--out", str(tmp_path / "new" / "figure")])
    png, pdf = ((tmp_path / "new" / f"figure.{kind}").read_bytes() for kind in ("png", "pdf"))
    assert int.from_bytes(png[16:20], "big") == 7 * 300  # the PNG header
    assert b"/Type3" not in pdf


@pytest.mark.parametrize("fault", ["missing", "not refined"])
def test_a_folder_that_does_not_fit_is_refused_in_one_line(tmp_path, capsys, panels, fault):
    save(panels, tmp_path)
    path = tmp_path / "redwood-relu-6in3.npz"
    path.unlink()
    if fault == "not refined":
        replace(panels["redwood-relu-6in3"], refined=None).save(path)
    with pytest.raises(SystemExit) as ended:
        figure8.main(["--results", str(tmp_path), "--out", str(tmp_path / "figure")])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert ("must have the panel" if fault == "missing" else "must not be refined") in error
    assert error.count("\n") == 1
