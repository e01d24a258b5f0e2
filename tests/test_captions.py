"""A caption says what was run, from the configuration alone."""

import pytest
from matplotlib.figure import Figure
from selections import selection

from polyjax import captions, plotting

CONFIG = {
    "model": {"name": "Redwood", "n_features": 6, "n_neurons": 3, "activation": "square"},
    "distribution": "uniform_signed",
    "restarts": 8,
    "steps": 2345,
    "batch": 67,
    "sampler": "enumerated",
    "objective": "sampled",
    "optimizer": "Adam, cosine decay from 0.02",
    "learning_rate": 0.02,
    "seed": 91,
    "eval_batch": 4096,
    "provenance": {"polyjax": "0.1.0", "jax": "0.10.2", "device": "cpu", "wall_time_s": 31.2},
}


def test_caption_says_everything_that_was_run():
    text = captions.caption(CONFIG, "drop_worst", selection(failed=2, unconverged=3), "A sentence.")
    for part in (
        "Redwood model, 6 features in 3 neurons, square activation, uniform signed features",
        "2,345 steps on 67 samples per step (enumerated sampler, sampled objective)",
        "optimizer: Adam, cosine decay from 0.02; seed 91",
        "3 densities x 4 importances x 8 restarts = 96 models",
        "all restarts but the worst (drop worst)",
        "Failed cells (hatched): 2. Unconverged cells (dots): 3.",
        "A sentence.",
        "eval batch 4096",
        "polyjax 0.1.0, jax 0.10.2, device cpu, wall time 31.2 s",
    ):
        assert part in text


def test_caption_does_not_claim_samples_where_there_are_none():
    config = CONFIG | {"objective": "expected", "optimizer": "Adam", "learning_rate": 0.03}
    text = captions.caption(config, "best", selection())
    assert "no samples" in text
    assert "67" not in text
    assert "Adam, learning rate 0.03;" in text


def test_caption_of_an_optimizer_without_a_known_rate():
    config = CONFIG | {"optimizer": "given by the caller", "learning_rate": None}
    assert "optimizer: given by the caller; seed" in captions.caption(config, "best", selection())


@pytest.mark.parametrize("key", ["model", "steps", "seed", "restarts", "distribution"])
def test_caption_refuses_an_incomplete_configuration(key):
    config = {k: v for k, v in CONFIG.items() if k != key}
    with pytest.raises(ValueError, match=f"lacks '{key}'"):
        captions.caption(config, "best", selection())


def test_wrapped_lines_fit_and_lose_nothing():
    text = captions.caption(CONFIG, "best", selection())
    lines = captions.wrapped(text, 200, 6.5)
    assert " ".join(lines) == text
    with plotting.style():
        fig = Figure(figsize=(10, 1), dpi=72)  # 1 pixel is 1 point
        widths = [fig.text(0, 0, line, size=6.5).get_window_extent().width for line in lines]
    assert 150 < max(widths) < 201  # antialiasing widens the box by a pixel
