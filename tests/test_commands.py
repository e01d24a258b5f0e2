"""The command `polyjax`, as a user types it: a sweep from a file or from options, and what is made of its results."""

import csv
import subprocess
import sys
import tomllib

import matplotlib.image
import numpy as np
import pytest
from PIL import Image

import polyjax
from polyjax.__main__ import COMMANDS, main

RECIPE = """
model = "Redwood(3, 2)"
steps = 60
restarts = 2
snapshots = 4
[axes]
density = "geomspace(0.1, 1, 3)"
importance = [0.5, 1, 2]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a recipe and of what it was trained into."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mine.toml").write_text(RECIPE)
    main(["sweep", str(folder / "mine.toml")])
    return folder


def failed(capsys, *words):
    """What a command says that is wrong, which it must end with in one line and exit code 2."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err.removeprefix("polyjax: ").rstrip()


# --- sweep


def test_a_recipe_is_trained_beside_its_file(trained):
    found = polyjax.load(trained / "mine.npz")
    assert found.capacity.shape == (3, 3, 2, 3)
    assert found.snapshots is not None


def test_options_alone_describe_the_same_sweep(trained, tmp_path, capsys):
    out = tmp_path / "other.npz"
    words = ["--model", "Redwood(3, 2)", "--steps", "60", "--restarts", "2", "--snapshots", "4"]
    words += ["--axes.density", "geomspace(0.1, 1, 3)", "--axes.importance", "[0.5, 1, 2]", "--out", str(out)]
    main(["sweep", *words])
    capsys.readouterr()
    main(["sweep", *words])  # which the file is of already
    assert "is there already, of the same configuration" in capsys.readouterr().err
    np.testing.assert_array_equal(polyjax.load(out).loss, polyjax.load(trained / "mine.npz").loss)


def test_options_take_the_place_of_what_the_file_says(trained, tmp_path):
    out = tmp_path / "a.npz"
    main(["sweep", str(trained / "mine.toml"), "--steps", "2", "--axes.importance", "[1]", "--out", str(out)])
    found = polyjax.load(out)
    assert found.config["steps"] == 2
    assert [len(values) for values in found.axes.values()] == [3, 1]


def test_the_recipe_that_info_prints_makes_the_file_again(trained, tmp_path, capsys):
    main(["info", str(trained / "mine.npz"), "--toml"])
    text = capsys.readouterr().out
    (tmp_path / "again.toml").write_text(text)
    main(["sweep", str(tmp_path / "again.toml")])
    one, other = polyjax.load(trained / "mine.npz"), polyjax.load(tmp_path / "again.npz")
    np.testing.assert_array_equal(one.loss, other.loss)
    capsys.readouterr()
    main(["info", str(trained / "mine.npz")])
    inside = capsys.readouterr().out.split("alone: `polyjax info --toml`)\n")[1]
    assert tomllib.loads(inside) == tomllib.loads(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep"], "--out must be given where there is no TOML file"),
        (["sweep", "--out", "a.npz"], "model must be given, but is None"),
        (["sweep", "missing.toml"], "missing.toml: No such file or directory"),
        (["sweep", "--restrats", "3"], 'Unknown option: "--restrats". Did you mean "--restarts"?'),
        (["sweep", "--sampler", "idd"], "idd"),
        (["swep"], "Did you mean"),
        (
            ["sweep", "--model", "Redwood(3, 2)", "--axes.desnity", "[0.1]", "--out", "a.npz"],
            "where no axis is the density",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_command_that_cannot_be_done_is_refused(capsys, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said.replace('"', "") in failed(capsys, *words).replace('"', "")
    assert not [*tmp_path.iterdir()]


# --- plot


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("diagram", ["--color", "loss"]),
        ("difference", []),
        ("blocks", ["--show", "number"]),
        ("embedding", ["--at.density", "0.1", "--at.importance", "2"]),
        ("gram", ["--at.density", "0.1", "--at.importance", "2", "--restart", "1"]),
        ("restarts", ["--at.density", "0.1", "--at.importance", "2"]),
        ("history", ["--at.density", "0.1", "--at.importance", "2"]),
        ("cut", ["--axis", "importance", "--at.density", "0.1"]),
        ("dimensionality", ["--at.importance", "1"]),
    ],
)
def test_every_picture_is_drawn(trained, tmp_path, capsys, kind, words):
    out = tmp_path / f"{kind}.png"
    main(["plot", str(trained / "mine.npz"), "--kind", kind, "--out", str(out), *words])
    assert capsys.readouterr().out == f"{out}\n"
    image = matplotlib.image.imread(out)
    assert min(image.shape[:2]) > 300
    assert image[..., :3].std() > 0.01
    with Image.open(out) as image:
        told = image.text["Description"]
    assert "60 steps" in told
    assert tomllib.loads(told.split("\n\n", 1)[1])["model"].startswith("Redwood")


def test_two_files_are_compared_and_a_picture_goes_beside_the_file(trained, capsys):
    file = str(trained / "mine.npz")
    main(["plot", file, file, "--kind", "compare"])
    assert capsys.readouterr().out == f"{trained / 'mine-compare.png'}\n"
    main(["plot", file, "--out", str(trained / "a.pdf")])
    assert (trained / "a.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kind", "compare"], "compare is of 2 results files, but 1 are given"),
        (["--kind", "gram", "--feature", "1"], "--feature says nothing of gram"),
        (["--kind", "gram"], "density must be given: one of its 3 values from 0.1 to 1, but is None"),
        (["--at.rate", "1"], "the grid of these results has no rate"),
        (["--feature", "7"], "feature must be"),
        (["--out", "a.xyz"], "xyz"),
    ],
    ids=" ".join,
)
def test_a_picture_that_cannot_be_drawn_is_refused(trained, capsys, words, said):
    assert said in failed(capsys, "plot", trained / "mine.npz", *words)


# --- film and export


def test_a_film_is_written_beside_the_file(trained, capsys):
    main(["film", str(trained / "mine.npz"), "--seconds", "0.5"])
    assert capsys.readouterr().out == f"{trained / 'mine.gif'}\n"
    with Image.open(trained / "mine.gif") as film:
        assert film.n_frames > 3


def test_a_table_has_every_network(trained, capsys):
    main(["export", str(trained / "mine.npz"), "--to", "csv"])
    assert capsys.readouterr().out == f"{trained / 'mine.csv'}\n"
    found = polyjax.load(trained / "mine.npz")
    with (trained / "mine.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == found.loss.size
    row = rows[3 * 2 * 1 + 2 * 2 + 1]  # density 1, importance 2, restart 1
    assert (float(row["density"]), float(row["importance"]), row["restart"]) == (*found_at(found, 1, 2), "1")
    assert np.float32(row["loss"]) == found.loss[1, 2, 1]
    assert [np.float32(row[f"capacity_{i}"]) for i in range(3)] == found.capacity[1, 2, 1].tolist()
    assert row["settled"] == str(bool(found.settled[1, 2, 1]))


def found_at(found, i, j):
    return found.axes["density"][i], found.axes["importance"][j]


@pytest.mark.parametrize(("to", "opener"), [("netcdf", "open_dataset"), ("xarray", "open_zarr")])
@pytest.mark.filterwarnings("ignore:Consolidated metadata", "ignore:Numcodecs codecs")
def test_labelled_arrays_are_read_by_xarray(trained, tmp_path, to, opener):
    xarray = pytest.importorskip("xarray")
    out = tmp_path / "out"
    main(["export", str(trained / "mine.npz"), "--to", to, "--out", str(out)])
    found = polyjax.load(trained / "mine.npz")
    with getattr(xarray, opener)(out) as data:
        np.testing.assert_array_equal(data.capacity.sel(density=1, restart=0, importance=2), found.capacity[2, 2, 0])
        np.testing.assert_array_equal(data.settled, found.settled)
        assert set(data.data_vars) == set(found.to_xarray().data_vars)


# --- help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples_in_its_help(command, capsys):
    main([command, "--help"])
    out = capsys.readouterr().out
    assert "Examples:" in out
    assert f"polyjax {command}" in out.split("Examples:")[1]


def test_shells_complete_commands_and_options():
    made = subprocess.run(
        [sys.executable, "-c", "from polyjax.__main__ import app; print(app.generate_completion(shell='bash'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(command in made for command in COMMANDS)
    assert "--restarts" in made


def test_nothing_in_a_file_moves_the_cursor_of_a_terminal(trained, tmp_path, capsys):
    found = polyjax.load(trained / "mine.npz")
    found.config["provenance"]["command"] = "python \x1b[2J\x1b[1;31m mine.py"
    found.save(tmp_path / "escapes.npz")
    main(["info", str(tmp_path / "escapes.npz")])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b[2J" in out
