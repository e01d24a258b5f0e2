"""What a machine may do to a run: settings of JAX, clocks, file systems, make's variables, and source archives."""

import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import polyjax
from polyjax.runs import progress
from polyjax.runs.folder.directory import Directory
from polyjax.runs.progress import Progress, Size

ROOT = Path(__file__).parents[1]
MAKING = "import polyjax; polyjax.Sweep(polyjax.Redwood(3, 2), [0.5])"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "JAX_ENABLE_X64=1",
            "JAX_ENABLE_X64 must be false, since networks are trained in single precision, but is true",
        ),
        ("JAX_PLATFORMS=none", "JAX_PLATFORMS must name devices that are here, but is 'none' ("),
        ("JAX_PLATFORMS=cuda", "JAX_PLATFORMS must name devices that are here, but is 'cuda' ("),
    ],
)
def test_settings_with_which_nothing_can_be_trained_are_refused_by_name(setting, said):
    if "cuda" in setting and any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("there is a GPU here")
    environment = os.environ | dict([setting.split("=")])
    done = subprocess.run([sys.executable, "-c", MAKING], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith(f"ValueError: {said}")


def test_verification_refuses_double_precision_too(tmp_path):
    with jax.enable_x64(True), pytest.raises(ValueError, match="JAX_ENABLE_X64 must be false"):
        polyjax.verify(tmp_path / "none.npz")


FORKING = """
import os, polyjax
sweep = polyjax.Sweep(polyjax.Redwood(3, 2), [0.5], restarts=1, steps=2)
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    polyjax.run(sweep, progress=False)
except ValueError as error:
    os.write(2, str(error).encode())
    os._exit(1)  # as leaving the process by its end would wait for JAX's threads too
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing can be forked here")
def test_a_forked_process_is_refused_and_does_not_wait_for_ever():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("the process must be started anew (multiprocessing.")


class Constant(polyjax.Redwood):
    """A model whose loss is constant in pieces."""

    def loss(self, params, x, importance):
        return importance @ (jnp.sign(params.W.T @ (params.W @ x)) - x) ** 2


@pytest.mark.parametrize("engine", ["lanes", "arrays"])
def test_a_loss_that_no_engine_can_descend_is_refused_by_every_engine(engine):
    with pytest.raises(ValueError, match=r"Constant.loss must have a derivative in the parameters that is not 0"):
        polyjax.Sweep(Constant(3, 2), [0.5], engine=engine)


@pytest.mark.slow
def test_activations_that_are_constant_in_pieces_but_for_a_part_train_alike_in_every_engine():
    found = [
        polyjax.run(
            polyjax.Sweep(
                polyjax.Redwood(3, 2, lambda z: z + jnp.sign(z)), [0.5], restarts=1, steps=4, batch=8, engine=engine
            ),
            progress=False,
        )
        for engine in ("lanes", "arrays")
    ]
    assert jnp.allclose(found[0].W, found[1].W, atol=1e-5)


def test_a_rename_that_fails_is_not_taken_for_results_that_were_removed(tmp_path, monkeypatch):
    def fails(*_):
        raise FileNotFoundError(2, "No such file or directory")

    with Directory(tmp_path / "r.run", {}) as store:
        store.begin()
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fails)
            with pytest.raises(OSError, match=r"cannot save in .*: No such file or directory\. What was saved"):
                store.remember(shape=(1, 1))


def test_a_clock_that_stands_still_stops_nothing(monkeypatch):
    monkeypatch.setattr(progress, "perf_counter", lambda: 1.0)
    with Progress("training", Size(2, "cell", 10), shown=False) as bar:
        bar.done(1, 4)


def make(*words):
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not done.stderr
    return done.stdout


def test_make_takes_paths_with_spaces_and_extras_with_commas_or_spaces():
    assert '"/tmp/a b/bin/python" -m ' in make("figure1", "-W", "figures/figure1.py", "VENV=/tmp/a b")
    for extras in ("dev tpu", "dev,tpu", "tpu, dev"):
        told = make("venv", f"EXTRAS={extras}")
        assert "'.[dev,tpu]'" in told
        assert "python3 -m venv .venv-" in told


def test_a_source_archive_has_what_its_tests_and_make_need():
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines() if not line.startswith("#")]
    patterns = [pattern for word, *given in lines if word == "include" for pattern in given]
    patterns += [f"{folder}/*{end[1:]}" for word, folder, *ends in lines if word == "recursive-include" for end in ends]
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    folders = ("tests/", "sweeps/", "figures/", "benchmarks/", "docs/", "Makefile")
    needed = [name for name in tracked if name.startswith(folders)]
    assert len(needed) > 100
    assert [name for name in needed if not any(fnmatch(name, pattern) for pattern in patterns)] == []
