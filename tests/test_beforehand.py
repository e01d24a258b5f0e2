"""What can fail is tried before training, and so fails before it."""

import errno
import os
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import jax
import numpy as np
import pytest

import polyjax
from polyjax.runs import attempts, provenance

SWEEP = polyjax.Sweep(polyjax.Redwood(3, 2), [0.2, 0.5], [0.5], restarts=1, steps=4, batch=8, retries=0)


@pytest.fixture
def untrained(monkeypatch):
    def train(*_):
        raise AssertionError("something was trained")

    monkeypatch.setattr(attempts, "train", train)


def test_an_activation_that_is_not_elementwise_is_trained_to_the_end(tmp_path):
    sweep = replace(SWEEP, model=polyjax.Anthropic(3, 2, jax.nn.softmax))
    polyjax.run_to_file(sweep, tmp_path / "r.npz", progress=False)
    assert all(cell.agrees for cell in polyjax.verify(tmp_path / "r.npz", sweep=sweep))


def test_a_package_that_is_not_installed_is_said_to_be(monkeypatch):
    def version(name):
        if name == "polyjax":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(provenance, "version", version)
    made = polyjax.run(SWEEP, progress=False).config["provenance"]
    assert made["versions"]["polyjax"] == "not installed"


def test_what_cannot_be_described_is_refused_before_training(monkeypatch, untrained, tmp_path):
    monkeypatch.setattr(polyjax.Sweep, "describe", lambda sweep: {"field": object()})
    for call in (lambda: polyjax.run(SWEEP), lambda: polyjax.run_to_file(SWEEP, tmp_path / "r.npz")):
        with pytest.raises(ValueError, match="sweep must be such that its results can say what it is, but Object of"):
            call()


def test_a_folder_on_another_file_system_is_found_out_before_training(monkeypatch, untrained, tmp_path):
    replaced = os.replace

    def across(source, target):
        if os.path.dirname(source) != os.path.dirname(target):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replaced(source, target)

    monkeypatch.setattr(os, "replace", across)
    with pytest.raises(OSError, match=r"path must be where a file can be written, but .* is on another file system"):
        polyjax.run_to_file(SWEEP, tmp_path / "r.npz", progress=False)


@pytest.mark.parametrize("length", [231, 255])
def test_names_may_be_as_long_as_the_file_system_has_them(tmp_path, length):
    path = tmp_path / ("r" * (length - 4) + ".npz")
    polyjax.run_to_file(SWEEP, path, progress=False)
    assert os.listdir(tmp_path) == [path.name]
    assert np.isfinite(polyjax.load(path).loss).all()
