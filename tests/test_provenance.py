"""Where results come from: a command that repeats them, and the revision of the code that made them."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

import polyjax
from polyjax.runs import provenance
from polyjax.runs.folder.directory import Directory, folder
from polyjax.runs.provenance import RUN_OPTIONS, command, without_options

FEW = hypothesis.settings(deadline=None, max_examples=300, derandomize=True)
WORDS = st.sampled_from(["-m", "sweeps.figure4", "--seed", "3", "--out=results/a b.npz", "--preset", "-", "--", ""])
VALUES = st.sampled_from(["3", "host:1234", "a=b", "--restart", "--seed", ""])


@st.composite
def command_lines(draw):
    """Words of a command line, and those of them that are no options of the run or their values."""
    words, kept = [], []
    for _ in range(draw(st.integers(0, 8))):
        name = draw(st.none() | st.sampled_from(sorted(RUN_OPTIONS)))
        if name is None:
            words.append(draw(WORDS))
            kept.append(words[-1])
        elif not RUN_OPTIONS[name]:
            words.append(name)
        elif draw(st.booleans()):
            words.append(f"{name}={draw(VALUES)}")
        else:
            words += [name, draw(VALUES)]
    return words, kept


@FEW
@hypothesis.given(command_lines())
def test_options_of_the_run_are_left_out_with_their_values_and_nothing_else_is(line):
    words, kept = line
    assert without_options(words, RUN_OPTIONS) == kept


@FEW
@hypothesis.given(st.lists(WORDS))
def test_other_words_are_left_as_they_are(words):
    assert without_options(words, RUN_OPTIONS) == words
    assert without_options([*words, "--restart", *words], ()) == [*words, "--restart", *words]


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("--seed 3 --restart", "--seed 3"),
        ("--dask host:1 --seed 3", "--seed 3"),
        ("--dask=host:1 --seed=3", "--seed=3"),
        ("--dask local:4 --restart", ""),
        ("--restarts 3 --dasks a", "--restarts 3 --dasks a"),  # of other scripts
        ("--seed --dask", "--seed"),  # broken, but no reason to fail
    ],
)
def test_some_command_lines_without_the_options_of_the_run(words, kept):
    assert without_options(words.split(), RUN_OPTIONS) == kept.split()


def test_the_command_can_be_pasted_into_a_shell(monkeypatch):
    words = ["-m", "sweeps.figure4", "--out", "my results/it's.npz", "--dask", "a:1", "--restart", "--seed=3"]
    monkeypatch.setattr(sys, "argv", ["/work/sweeps/figure4.py", *words[2:]])
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3.11", *words])
    without = ["-m", "sweeps.figure4", "--out", "my results/it's.npz", "--seed=3"]
    assert shlex.split(command()) == ["python", *without]
    # To continue, the workers must still be found.
    assert shlex.split(command(["--restart"])) == ["python", *words[:6], "--seed=3"]


@pytest.mark.parametrize("program", ["", "-c", "/lib/python3.11/site-packages/ipykernel_launcher.py"])
def test_what_is_typed_at_a_prompt_or_in_a_notebook_is_no_command(program, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    assert command() is None


def test_the_provenance_is_json_and_the_same_every_time():
    found = provenance.made("lanes")
    assert json.loads(json.dumps(found)) == found == provenance.made("lanes")
    assert set(found) == {"versions", "device", "engine", "revision", "code"}
    assert set(found["versions"]) == {"python", *provenance.PACKAGES}
    assert found["device"].startswith("cpu, ")


# --- the revision


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder in which polyjax might be, outside of every checkout."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "checkout" / "polyjax"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "__file__", str(folder / "runs" / "provenance.py"))
    return folder


def git(package, *arguments):
    who = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")
    command = ["git", *who, "-C", str(package.parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(package):
    git(package, "init", "--quiet")
    git(package, "add", "polyjax")
    git(package, "commit", "--quiet", "-m", "First")
    return package


def revision():
    return provenance.revision.__wrapped__()  # of now, not of the first call


def test_the_revision_is_the_commit_of_the_checkout(checkout):
    assert revision() == git(checkout, "rev-parse", "HEAD")[:12]
    first = revision()
    git(checkout, "commit", "--quiet", "--allow-empty", "-m", "Second")
    assert revision() != first


def test_a_checkout_with_changes_is_modified_and_one_with_results_in_it_is_not(checkout):
    (checkout.parent / "results.npz").write_text("not of the code")
    assert "modified" not in revision()
    (checkout / "__init__.py").write_text("import jax")
    assert revision() == git(checkout, "rev-parse", "HEAD")[:12] + " (modified)"
    git(checkout, "add", "polyjax")
    assert revision().endswith(" (modified)")
    git(checkout, "commit", "--quiet", "-m", "Second")
    assert "modified" not in revision()


def test_a_copy_outside_of_a_checkout_has_no_revision(package):
    assert revision() is None


def test_a_copy_inside_somebody_elses_checkout_has_not_their_revision(checkout, monkeypatch):
    copy = checkout.parent / "environment" / "polyjax"
    copy.mkdir(parents=True)
    (copy / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "__file__", str(copy / "runs" / "provenance.py"))
    assert revision() is None


def test_a_checkout_without_a_commit_has_no_revision(package):
    git(package, "init", "--quiet")
    git(package, "add", "polyjax")
    assert revision() is None


def test_without_git_there_is_no_revision(checkout, monkeypatch, tmp_path):
    assert revision() is not None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision() is None


# --- the code


def code():
    return provenance.code.__wrapped__()


def test_any_edit_of_what_trains_is_other_code_and_one_of_what_draws_is_not(package):
    trains = ("engine/training.py", "toy/models.py", "sweep.py")
    for name in (*trains, "draw/curves.py", "summary.py", "runs/verification.py"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("a = 1")
    seen = {code()}
    for name in ("draw/curves.py", "summary.py", "runs/verification.py"):
        (package / name).write_text("a = 2")
        assert {code()} == seen
    for name in trains:
        for text in ("a = 2", "a = 3"):
            (package / name).write_text(text)
            assert code() not in seen
            seen.add(code())


def test_what_trains_is_what_make_takes_for_it():
    root = Path(polyjax.__file__).parents[1]
    command = ["make", "-s", "--eval", "say: ; @echo $(TRAINING)", "say"]
    said = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split()
    assert [f"polyjax/{name}" for name in provenance.what_trains(root / "polyjax")] == sorted(said)


def test_a_run_is_not_continued_by_other_code(tmp_path, monkeypatch):
    path, config = tmp_path / "r.npz", {"seed": 0}
    with Directory(folder(path), config) as store:
        store.begin()
        store.remember(shape=(1, 2))
    with Directory(folder(path), config) as store:
        store.begin()
        assert store.shape == (1, 2)
    monkeypatch.setattr(provenance, "code", lambda: "another")
    must = r"was begun by other code of polyjax \(.*\) than this \(.*\): go on with that code, or restart=True"
    with Directory(folder(path), config) as store, pytest.raises(ValueError, match=must):
        store.begin()


def test_flags_of_the_compiler_are_told(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert "XLA_FLAGS" not in provenance.made("lanes")
    monkeypatch.setenv("XLA_FLAGS", "--xla_some=1")
    assert provenance.made("lanes")["XLA_FLAGS"] == "--xla_some=1"
