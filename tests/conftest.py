"""Settings for the whole suite."""

import gc
import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import settings

from bbr.built import COMPILED
from tests.support.brief import be_brief
from tests.support.examples import TIMES
from tests.support.measuring import collect_unmeasured, leave_out, measure
from tests.support.together import Together

# Machines are noisy: how long an example takes is not what a property says. print_blob: how to repeat a failure.
# The gate must not depend on luck: in CI examples are the same every time, on a developer's machine they are new ones.
settings.register_profile(
    "bbr", deadline=None, print_blob=True, derandomize="CI" in os.environ, max_examples=100 * TIMES
)
settings.load_profile("bbr")

# As `bbr serve` does: grpcio's C core tells of refused binds and resets on stderr, in a format of its own.
os.environ["GRPC_VERBOSITY"] = "NONE"

# A developer's proxy cannot reach what tests start on this machine's loopback.
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, [os.environ.get(_name), "127.0.0.1", "localhost", "::1"]))


# Python's own are 700, 10 and 10: a tenth of the unit tests' processor time went into looking for garbage, and 3% does
# with these. Tests that need what is garbage to be gone call gc.collect.
_THRESHOLDS = (20_000, 50, 50)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Let the garbage collector alone while tests are collected, which are no garbage, and for good with these.

    Every worker collects all tests; this takes a fifth off.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(*_THRESHOLDS)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --cases, for whoever wants to see each test once on another Python or machine."""
    parser.addoption("--cases", type=int, metavar="N", help="run at most N cases of each parametrised test")


def sampled(items: list[pytest.Item], cases: int) -> list[pytest.Item]:
    """Return at most so many cases of each test, evenly spread over all that it has."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {
        id(group[index * len(group) // min(cases, len(group))])
        for group in groups.values()
        for index in range(min(cases, len(group)))
    }
    return [item for item in items if id(item) in kept]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, on the compiled build, the tests that put something of their own in place of what it has bound."""
    if cases := config.getoption("--cases"):
        kept = sampled(items, cases)
        left = set(kept)
        config.hook.pytest_deselected(items=[item for item in items if item not in left])
        items[:] = kept
    for item in items if COMPILED else ():
        marker = item.get_closest_marker("interpreted")
        if marker is not None:
            item.add_marker(pytest.mark.skip(reason=f"of the interpreted build alone: it {marker.args[0]}"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """See tests.support.together."""
    return Together(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """See tests.support.brief, and tests.support.measuring: the process that only hands out tests is not measured."""
    be_brief(session.config)
    if getattr(session.config.option, "numprocesses", None):
        leave_out()
    if worker := getattr(session.config, "workerinput", None):
        collect_unmeasured(worker["workerid"])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """See tests.support.measuring."""
    measure(item.path)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(report: pytest.CollectReport | pytest.TestReport) -> Generator[None, Any, Any]:
    """Spell out lone surrogates in reports: a worker of pytest-xdist sends them as UTF-8, and would end by one.

    One that passed and wrote nothing has none: pytest's ids are ASCII. Each test has three reports.
    """
    data = yield
    return data if report.passed and not report.sections else encodable(data)


def encodable(value: Any) -> Any:
    """Return a report's data with every text as one that UTF-8 can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(encodable(each) for each in value)
    return value
