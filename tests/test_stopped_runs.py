"""Runs that a signal stops: what a notebook keeps of them, and how a user's script ends."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import polyjax
from polyjax.runs.store import Memory

SWEEP = polyjax.Sweep(
    polyjax.Redwood(3, 2), np.geomspace(0.1, 1, 4), np.geomspace(0.5, 2, 4), restarts=1, steps=20, chunk=1, retries=0
)
SCRIPT = """
import os, signal, sys
from test_stopped_runs import SWEEP
import polyjax
from polyjax.runs.folder.directory import Directory
keep = Directory.keep
def stop(self, *arguments):
    keep(self, *arguments)
    Directory.keep = keep  # one signal; a second one would end the program at once
    os.kill(os.getpid(), signal.Signals[sys.argv[2]])
Directory.keep = stop
polyjax.run_to_file(SWEEP, sys.argv[1], progress=False)
"""


@pytest.fixture
def stopped_after(monkeypatch):
    """Have Ctrl-C pressed when so many chunks are trained."""

    def stop(chunks):
        keep, kept = Memory.keep, []

        def counted(self, name, arrays, made):
            keep(self, name, arrays, made)
            kept.append(name)
            if len(kept) == chunks:
                os.kill(os.getpid(), signal.SIGINT)

        monkeypatch.setattr(Memory, "keep", counted)

    return stop


def test_ctrl_c_at_a_prompt_leaves_what_was_trained(stopped_after, monkeypatch, capsys):
    whole = polyjax.run(SWEEP, progress=False)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    stopped_after(1)
    found = polyjax.run(SWEEP, progress=False)
    trained = np.isfinite(found.loss)
    assert 0 < trained.sum() < trained.size
    np.testing.assert_array_equal(found.loss[trained], whole.loss[trained])
    np.testing.assert_array_equal(found.capacity[trained], whole.capacity[trained])
    assert not found.settled[~trained].any()
    assert found.config["unfinished"].startswith("stopped. training: ")
    assert found.config["unfinished"] in capsys.readouterr().err


def test_nothing_trained_is_an_interruption(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(Memory, "fill", lambda self, names: False)
    monkeypatch.setattr(polyjax.runs.stages.Run, "complete", _stopped)
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        polyjax.run(SWEEP, progress=False)


def _stopped(run, *_):
    run.requests.number = signal.SIGINT
    raise run.requests.stopped("training")


def test_elsewhere_an_interruption_is_pythons(stopped_after, monkeypatch):
    monkeypatch.delattr(sys, "ps1", raising=False)
    stopped_after(1)
    with pytest.raises(KeyboardInterrupt):
        polyjax.run(SWEEP, progress=False)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_script_ends_in_one_line_by_the_signal_itself(tmp_path, name):
    # The folder of the tests, of which the script takes the sweep, and that of the package.
    places = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(polyjax.__file__))]
    (tmp_path / "script.py").write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "a.npz"), name],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -signal.Signals[name]
    assert "Traceback" not in ended.stderr
    assert "chunks are saved; continue with: python" in ended.stderr.splitlines()[-1]
