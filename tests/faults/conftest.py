"""What the tests of faults share, and the table of what was tried."""

import shutil
import sys
from itertools import count
from time import monotonic

import pytest
from harness import HERE, OUT, OUTCOMES, ROOT, STAGES, Expected, Judge, Place, digest


def pytest_collection_modifyitems(items):
    if sys.platform != "linux":
        for item in items:
            item.add_marker(pytest.mark.skip(reason="the faults are made by means of Linux"))


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """A folder with a copy of the code: what is edited while the tests run changes nothing."""
    folder = tmp_path_factory.mktemp("faults")
    for package in ("polyjax", "figures"):
        shutil.copytree(ROOT / package, folder / "code" / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "sweep.py", folder / "code")
    yield folder
    shutil.rmtree(folder)  # pytest would keep thousands of files


@pytest.fixture(scope="session")
def new_place(workshop):
    """Makes empty folders to run the sweep in."""
    numbers = count()
    return lambda: Place(workshop / f"place{next(numbers)}", workshop / "code")


@pytest.fixture(scope="session")
def expected(new_place):
    """Of the second of two undisturbed runs; the first compiles."""
    first, second = new_place(), new_place()
    assert first.sweep().code == 0
    start = monotonic()
    assert second.sweep().code == 0
    seconds = monotonic() - start
    assert digest(first.file) == digest(second.file)
    return Expected(digest(second.file), seconds)


@pytest.fixture(scope="session")
def trained(new_place, expected):
    """A run that was killed when all chunks of all stages were there, but not the results file."""
    place = new_place()
    assert place.sweep(fault=f"os.rename {OUT.name} 2 SIGKILL").code == -9
    assert all(len(place.chunks(stage)) > 1 for stage in STAGES)
    return place


@pytest.fixture(scope="session")
def edited(workshop):
    """A folder with the code after an edit that changes results, and that no configuration tells of."""
    folder = workshop / "edited"
    shutil.copytree(workshop / "code", folder)
    source = folder / "polyjax" / "engine" / "optimizers.py"
    before = source.read_text()
    source.write_text(before.replace("(learning_rate, steps))", "(learning_rate, steps), b2=0.99)"))
    assert source.read_text() != before
    return folder


@pytest.fixture
def judged(expected):
    """Makes the judge of a fault."""
    return lambda fault: Judge(fault, expected)


def pytest_terminal_summary(terminalreporter):
    if not OUTCOMES:
        return
    width = max(map(len, OUTCOMES))
    terminalreporter.section("faults")
    terminalreporter.line(f"{'fault':{width}} | times tried | outcome")
    for fault, outcomes in OUTCOMES.items():
        words = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items() if n)
        terminalreporter.line(f"{fault:{width}} | {outcomes.total():11} | {words}")
