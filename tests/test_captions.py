"""A caption says what was run, from the configuration alone."""

import pytest
from matplotlib.figure import Figure
from selections import selection

from polyjax.draw import captions
from polyjax.draw.style import style

PROVENANCE = {
    "command": "python -m sweeps.figure4 --out results/figure4.npz",
    "versions": {"python": "3.11.7", "polyjax": "0.1.0", "jax": "0.10.2"},
    "device": "cpu, AMD EPYC, 2 cores",
    "revision": "1a2b3c4d (modified)",
}
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
    "retries": 2,
    "shape": [8, 64],
    "room": None,
    "provenance": PROVENANCE,
}
TOLD = (
    "Provenance: python 3.11.7, polyjax 0.1.0, jax 0.10.2; device cpu, AMD EPYC, 2 cores; revision 1a2b3c4d (modified)."
)


def test_caption_says_everything_that_was_run():
    text = captions.caption(CONFIG, "drop_worst", selection(failed=2, unsettled=3), "A sentence.")
    for part in (
        "Redwood model, 6 features in 3 neurons, square activation, uniform signed features",
        "2,345 steps on 67 samples per step (enumerated sampler, sampled objective)",
        "optimizer: Adam, cosine decay from 0.02; seed 91",
        "3 densities x 4 importances x 8 restarts = 96 models",
        "all restarts that settled but the worst (drop worst)",
        "Failed cells (hatched grey): 2. Cells not settled (hatched orange): 3.",
        "A sentence.",
        "Further settings: eval batch 4096, retries of networks not settled 2.",
    ):
        assert part in text
    assert text.endswith(TOLD)


@pytest.mark.parametrize(
    ("provenance", "told"),
    [
        ({}, None),
        (None, None),
        ({"command": "python -m sweeps.figure4"}, None),
        ({"device": "cpu", "revision": None}, "device cpu"),
        ({"versions": {"jax": "0.10.2"}, "revision": "1a2b3c4d"}, "jax 0.10.2; revision 1a2b3c4d"),
        ({"device": "cpu", "jax": "0.10.2", "wall_time_s": 31.2}, "jax 0.10.2; device cpu"),  # an older file
    ],
)
def test_what_is_not_known_of_the_provenance_is_not_told(provenance, told):
    config = CONFIG | {"provenance": provenance}
    for text in (captions.caption(config, "best", selection()), captions.of_panels({"a": config}, "best")):
        _, title, found = text.partition(" Provenance: ")
        assert (title, found) == ((" Provenance: ", f"{told}.") if told else ("", ""))


def test_panels_say_once_what_they_have_in_common():
    other = PROVENANCE | {"versions": PROVENANCE["versions"] | {"jax": "0.10.3"}, "revision": None}
    configs = {
        "a": CONFIG | {"room": 64},
        "b": CONFIG | {"steps": 10, "batch": 5, "sampler": "coin_flips"},
        "c": CONFIG | {"provenance": other},
        "d": {key: value for key, value in CONFIG.items() if key != "provenance"},
    }
    text = captions.of_panels(configs, "best", "A sentence.")
    assert text == (
        "A cell shows the restart of lowest loss (best). A sentence. Settings: batch 67 (a, c, d) / 5 (b), "
        "distribution uniform signed, eval batch 4,096, objective sampled, optimizer Adam, cosine decay from 0.02, "
        "restarts 8, retries of networks not settled 2, sampler enumerated (a, c, d) / coin flips (b), seed 91, "
        "steps 2,345 (a, c, d) / 10 (b). Provenance: python 3.11.7 (a to c), polyjax 0.1.0 (a to c), jax 0.10.2 (a, b) "
        "/ 0.10.3 (c); device cpu, AMD EPYC, 2 cores (a to c); revision 1a2b3c4d (modified) (a, b)."
    )
    assert captions.of_panels(configs | {"c": CONFIG, "d": CONFIG}, "best").endswith(TOLD)


def test_panels_must_have_the_same_settings():
    lacking = {key: value for key, value in CONFIG.items() if key != "seed"}
    with pytest.raises(ValueError, match="lacks 'seed'"):
        captions.of_panels({"a": CONFIG, "b": lacking}, "best")


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
    with style():
        fig = Figure(figsize=(10, 1), dpi=72)  # 1 pixel is 1 point
        widths = [fig.text(0, 0, line, size=6.5).get_window_extent().width for line in lines]
    assert 150 < max(widths) < 201  # antialiasing widens the box by a pixel


def test_a_line_says_what_all_panels_have_in_common():
    other = CONFIG | {"steps": 10, "provenance": PROVENANCE | {"revision": None}}
    whole = captions.in_a_line([CONFIG])
    assert whole == (
        "2,345 steps, batch 67, 8 restarts, seed 91; polyjax 0.1.0, jax 0.10.2; device cpu, AMD EPYC, 2 cores; "
        "revision 1a2b3c4d (modified); all settings are in this file's metadata"
    )
    both = captions.in_a_line([CONFIG, other])
    assert both == whole.replace("2,345 steps, ", "").replace("revision 1a2b3c4d (modified); ", "")
    assert captions.in_a_line([{}]) == "all settings are in this file's metadata"


def test_hatches_are_explained_where_there_are_some():
    assert captions.hatched([selection(), selection()]) == ""
    assert (
        captions.hatched([selection(unsettled=2), selection(unsettled=1)]) == "; hatched cells: 3 not settled (orange)"
    )
    told = "; hatched cells: 2 that failed (grey) and 3 not settled (orange)"
    assert captions.hatched([selection(failed=2, unsettled=3)]) == told
