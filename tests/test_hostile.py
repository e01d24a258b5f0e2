"""Hostile calls of what is public: each ends in a right value, or in a ValueError that names the argument."""

import warnings

import hostile_calls
import pytest
import shapes
from hostile import REFUSED, VALUES, is_refusal, made, same
from hypothesis import HealthCheck, Phase, given, settings
from matplotlib import axes, pyplot

import polyjax
from polyjax.draw.page import Page

FEW, MANY = 2, 40  # hostile values of every argument, in the default suite and in all


@pytest.fixture(autouse=True)
def library_alone(monkeypatch):
    """Whatever is given comes to the library itself, which must refuse it in its own words."""
    monkeypatch.setitem(shapes.SWITCH, "on", False)


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """All calls, with results to be read and drawn."""
    pyplot.switch_backend("agg")
    folder = tmp_path_factory.mktemp("hostile")
    sweep = polyjax.Sweep(**hostile_calls.SWEEP)
    results = polyjax.run(sweep, progress=False)
    results.save(folder / "r.npz")
    more = [*hostile_calls.of_files(folder / "r.npz", sweep), *hostile_calls.of_results(results)]
    return [*hostile_calls.FUNCTIONS, *more]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def outcome(call, name, value):
    """What a call returns, the ValueError or the OSError that it ends in; no other exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = call.f(**(call.right | {name: value}))
        except (ValueError, OSError) as error:
            return error
    pyplot.close("all")
    return type(found) if isinstance(found, axes.Axes | Page) else found


def check(call, name, choice):
    given, told = made(choice), f"{getattr(call.f, '__name__', call.f)}({name}={choice})"
    plain = call.kinds[name](given if callable(given) else made(choice))
    found = outcome(call, name, given)
    if isinstance(found, ValueError):
        assert is_refusal(found, name, given), f"{told} is refused by: {found}"
    elif isinstance(found, OSError):
        assert name == "path", told
    else:
        assert plain is not REFUSED, f"{told} is accepted"
        assert same(found, outcome(call, name, plain)), f"{told} is another value than that of {plain}"


def suite(calls, examples):
    arguments = [(call, name) for call in calls for name in call.kinds]
    tried = 0

    def of_argument(argument):
        phases = [Phase.generate]  # a failing value is small as it is

        @settings(max_examples=examples, deadline=None, phases=phases, suppress_health_check=[*HealthCheck])
        @given(VALUES)
        def tries(choice):
            nonlocal tried
            tried += 1
            check(*argument, choice)

        tries()

    for argument in arguments:
        of_argument(argument)
    return tried


def test_a_few_hostile_values_of_every_argument_are_refused_or_right(calls):
    assert suite(calls, FEW) >= 300


@pytest.mark.slow
def test_many_hostile_values_of_every_argument_are_refused_or_right(calls):
    tried = suite(calls, MANY)
    print(f"{tried:,} hostile calls")
    assert tried > 4000
