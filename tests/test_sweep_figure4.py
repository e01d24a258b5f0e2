"""Figure 4's sweep script, run as a user runs it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import polyjax
from sweeps import figure4

ROOT = Path(__file__).parents[1]


def run(*arguments, **options):
    command = [sys.executable, "-m", "sweeps.figure4", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, **options)


def test_quick_preset_leaves_a_results_file_and_shows_progress(tmp_path):
    done = run("--preset", "quick", "--out", tmp_path / "new" / "r.npz", "--seed", 3)
    assert done.returncode == 0, done.stderr
    results = polyjax.load(tmp_path / "new" / "r.npz")
    cells, restarts, steps, batch = figure4.PRESETS["quick"]
    assert results.capacity.shape == (cells, cells, restarts, 6)
    assert np.isfinite(results.capacity).all()
    assert (results.config["steps"], results.config["batch"], results.config["seed"]) == (steps, batch, 3)
    for part in ("144/144", "model-steps/s", "00:00"):  # cells done, speed, time left
        assert part in done.stderr


def test_every_preset_is_a_valid_sweep():
    for preset, (cells, restarts, _, _) in figure4.PRESETS.items():
        assert figure4.sweep(preset).shape == (cells, cells, restarts)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--preset", "huge"], "--preset"),
        (["--cells", "3"], "--cells"),
        (["--out", "figure.txt"], "must end in .npz"),
        (["--out", "/dev/null/r.npz"], "must be in a folder that can be written to"),
        (["--preset", "quick", "--seed", "-1"], "seed must be a whole number"),
    ],
)
def test_bad_arguments_end_in_one_line_and_exit_code_2(tmp_path, arguments, told):
    done = run(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_help_lists_the_presets():
    done = run("--help")
    assert done.returncode == 0
    for preset in figure4.PRESETS:
        assert preset in done.stdout
