"""Many devices against one, and where compiled programs are kept: every case in a process of its own, since JAX counts
its devices and looks for its cache once."""

import os
import subprocess
import sys

import numpy as np
import pytest

import polyjax
from polyjax.engine import devices

SWEEP = """
import os, sys
if {one_core}:
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
import jax, numpy as np, polyjax
from polyjax.runs.verification import verify
sweep = polyjax.Sweep(
    polyjax.Redwood(3, 2, {activation!r}),
    density=[0.05, 0.5, 1.0],
    importance=np.geomspace(0.1, 10, 5),
    restarts=3,
    steps=300,
    retries={retries},
    refine=1,
    engine={engine!r},
)
polyjax.run(sweep, progress=False).save(sys.argv[1])
print(jax.local_device_count())
assert not {verified} or all(cell.agrees for cell in verify(sys.argv[1], cells={verified}, seed=0))
"""


def run(path, activation="square", engine="auto", retries=0, verified=0, one_core=False, **environment):
    """The results of the sweep in a process with this environment, and the number of its devices; as many cells are
    verified there. With `one_core`, it has one core of this machine."""
    code = SWEEP.format(activation=activation, engine=engine, retries=retries, verified=verified, one_core=one_core)
    command = [sys.executable, "-W", "error", "-c", code, str(path)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return polyjax.load(path), int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "engine", "n"), [("square", "lanes", 8), ("relu", "lanes", 6), ("square", "arrays", 8)]
)
def test_many_devices_give_the_results_of_one(tmp_path, activation, engine, n):
    many = os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={n}"
    found, there = run(tmp_path / "many.npz", activation, engine, retries=1, verified=4, XLA_FLAGS=many)
    expected, one = run(tmp_path / "1.npz", activation, engine, retries=1)
    assert (there, one) == (n, 1)
    # Neither 15 lanes divide among them, nor rows of 32 among 6, nor the 3 restarts that are verified. Chunks of
    # another width are vectorised otherwise: rounding, over 300 steps of Adam. Measured: at most 4e-7 in the
    # capacities.
    np.testing.assert_allclose(found.capacity, expected.capacity, atol=1e-5)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.refined.capacity, expected.refined.capacity, atol=1e-5)
    np.testing.assert_array_equal(found.settled, expected.settled)
    np.testing.assert_array_equal(found.attempt, expected.attempt)
    assert found.attempt.any()  # so that scattered lanes were shared out as well


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no process can be given one core here")
@pytest.mark.parametrize(
    ("activation", "engine"), [("relu", "lanes"), pytest.param("relu", "arrays", marks=pytest.mark.slow)]
)
def test_one_core_gives_the_bits_of_many(tmp_path, activation, engine):
    uncached = {"JAX_ENABLE_COMPILATION_CACHE": "false"}  # or one process would take over what the other compiled
    many, _ = run(tmp_path / "many.npz", activation, engine, retries=1, **uncached)
    one, _ = run(tmp_path / "one.npz", activation, engine, retries=1, one_core=True, **uncached)
    for name in ("W", "b", "capacity", "loss", "loss_se"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))
        np.testing.assert_array_equal(getattr(one.refined, name), getattr(many.refined, name))


@pytest.mark.parametrize("cores", [1, 2, 64])
def test_chunks_follow_the_grid_and_not_the_number_of_cores(monkeypatch, cores):
    monkeypatch.setattr("polyjax.engine.devices.workers", lambda: cores)
    assert devices.default_chunk(10**6, "lanes") == devices.CHUNK["cpu"]
    assert devices.default_chunk(4000, "lanes") == 500  # in eight
    assert devices.default_chunk(1000, "lanes") == 500  # rather than in eight of 125
    assert devices.default_chunk(80, "lanes") == 80
    assert devices.default_chunk(80, "arrays") == 10
    assert devices.default_chunk(1, "arrays") == 1


@pytest.fixture
def no_settings(monkeypatch):
    """None of JAX's own in the environment, as users have it."""
    for name in [name for name in os.environ if name.startswith("JAX_")]:
        monkeypatch.delenv(name)


@pytest.mark.slow
@pytest.mark.usefixtures("no_settings")
def test_compiled_programs_are_kept_in_the_users_cache_folder(tmp_path):
    environment = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    first, _ = run(tmp_path / "first.npz", **environment)
    kept = set(tmp_path.rglob("jit_training-*-cache"))
    assert len(kept) == 2  # training, and refining for half as many steps
    assert all("polyjax" in path.parts for path in kept)
    again, _ = run(tmp_path / "again.npz", **environment)
    assert set(tmp_path.rglob("jit_training-*-cache")) == kept  # found, none made
    np.testing.assert_array_equal(first.W, again.W)  # and what was found is the same program
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "off"), "JAX_ENABLE_COMPILATION_CACHE": "0"}
    run(tmp_path / "off.npz", **environment)
    assert not (tmp_path / "off").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_settings")
def test_a_cache_folder_that_cannot_be_written_to_disturbs_nobody(tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("a file, not a folder")
    nowhere = {"XDG_CACHE_HOME": str(taken), "HOME": str(taken), "LOCALAPPDATA": str(taken)}
    run(tmp_path / "results.npz", **nowhere)  # warnings are errors there


@pytest.mark.slow
def test_a_folder_that_the_user_names_is_used_instead(tmp_path):
    named = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "named"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05"}
    run(tmp_path / "results.npz", XDG_CACHE_HOME=str(tmp_path / "user"), **named)
    assert [*(tmp_path / "named").glob("jit_training-*")]
    assert not (tmp_path / "user").exists()
