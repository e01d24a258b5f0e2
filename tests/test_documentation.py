"""README.md and docs/: every block of Python runs as it is printed, and every command names what exists. Pages that
train much are notebooks, which `make docs` executes as they are."""

import importlib
import importlib.util
import re
import sys
import tomllib
from contextlib import suppress

import numpy as np
import pytest
from documentation import PAGES, ROOT, blocks, small, sweeps_of

import polyjax
from polyjax.__main__ import main
from polyjax.recipes import sweep_of

SLOW = (
    "adding.md",
    "beyond.md",
    "capacity.md",
    "choosing.md",
    "clusters.md",
    "explore.md",
    "first.md",
    "gallery.md",
)  # they train
TRAINED = 2  # sweeps of a page that train in every run of the tests


def pages():
    found = [name for name in PAGES if blocks(name)]
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in found]


@pytest.mark.parametrize("name", pages())
def test_every_block_of_the_page_runs(name):
    assert sweeps_of(name)


def examples_that_do_not_run():
    """The blocks that make a sweep for the reader to run, by page and line."""
    made = []
    for name in ("README.md", "questions.md", "models.md"):
        found = [each.line for each in blocks(name) if "Sweep(" in each.parsed and "run_to_file(" not in each.parsed]
        slow = [number >= TRAINED or name == "README.md" for number in range(len(found))]
        made += [
            pytest.param(name, line, marks=[pytest.mark.slow] * is_slow)
            for line, is_slow in zip(found, slow, strict=True)
        ]
    return made


@pytest.mark.parametrize(("name", "line"), examples_that_do_not_run())
def test_the_sweep_of_an_example_trains(name, line):
    found = sweeps_of(name)[line]
    assert found
    for sweep in map(small, found):
        results = polyjax.run(sweep, progress=False)
        assert list(results.axes) == list(sweep.coordinates)
        assert results.loss.shape == (*map(len, sweep.coordinates.values()), sweep.restarts)
        assert np.isfinite(results.loss).all()
        own = ~np.isnan(results.capacity) if sweep.sizes else True  # smaller networks are filled up with NaN
        assert np.isfinite(results.capacity[own]).all()


def recipes():
    """Every TOML file that README and docs show."""
    for name, path in PAGES.items():
        for text in re.findall(r"^```toml\n(.*?)^```", path.read_text(), re.S | re.M):
            yield pytest.param(text, id=name)


@pytest.mark.parametrize("text", [*recipes()])
def test_every_recipe_describes_a_sweep(text):
    assert sweep_of(tomllib.loads(text)).coordinates


# --- commands


def commands():
    """Every command that README and docs name, in code: its words."""
    for path in PAGES.values():
        code = re.sub(r"\\\n", " ", path.read_text())
        fences = re.findall(r"^```(?:bash)?\n(.*?)^```", code, re.S | re.M)
        spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", code, flags=re.S | re.M))
        lines = [*"\n".join(fences).splitlines(), *(" ".join(span.split()) for span in spans)]
        for line in lines:
            words = re.sub(r"^\w+\$ ", "", line.split(" #")[0].strip()).split()
            if words[:1] in (["make"], ["polyjax"]) or words[:2] == ["python", "-m"]:
                yield path.name, words


COMMANDS = sorted({tuple(words) for _, words in commands()})


def help_of(main, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [*words, "--help"])
    with suppress(SystemExit):
        main()
    return capsys.readouterr().out


def test_make_has_every_target_that_is_named():
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = {word for words in COMMANDS if words[0] == "make" for word in words[1:] if "=" not in word}
    assert {"figure4", "test", "docs"} <= named
    assert not {word for word in named if word not in targets and word != "figureN"}


def test_modules_have_the_options_that_are_named(monkeypatch, capsys):
    named: dict[str, set[str]] = {}
    for words in COMMANDS:
        if words[0] == "python":
            named.setdefault(words[2], set()).update(word for word in words[3:] if word.startswith("--"))
    assert {"sweeps.figure4", "benchmarks.large"} <= named.keys()
    for module, options in named.items():
        assert importlib.util.find_spec(module)
        if options:
            told = help_of(importlib.import_module(module).main, [module], monkeypatch, capsys)
            assert not {option for option in options if option not in told}, module


def test_polyjax_has_every_command_and_option_that_is_named(monkeypatch, capsys):
    named: dict[str, set[str]] = {}
    for words in COMMANDS:
        if words[0] == "polyjax" and words[1:] and not words[1].startswith("-") and words[1].islower():
            options = {word.split(".")[0].split("=")[0] for word in words[2:] if word.startswith("--")}
            named.setdefault(words[1], set()).update(options)
    assert {"sweep", "plot", "info", "verify", "explore", "film", "export"} <= named.keys()
    for command, options in named.items():
        told = help_of(main, ["polyjax", command], monkeypatch, capsys)
        assert "Usage: polyjax " + command in told
        assert not {option for option in options if option not in told}, command
