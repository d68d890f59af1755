"""Tests that want a program which not every machine has: `@pytest.mark.needs("nginx")`.

Without the program such a test is skipped, or fails where `--require-all` is given. The run's summary names each
program that is not there, and the tests that it left out.

Tests that take minutes are marked `@pytest.mark.slow`: they run with `--slow`. Without it the summary says how many
there are.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import pytest
from _pytest.nodeid import NodeId


class Need(NamedTuple):
    """A program, by the name a reader knows; the tests it is for; and what it may be called in a PATH."""

    label: str
    tests: str
    programs: tuple[str, ...]

    def path(self) -> str | None:
        """Give where it is, or None. Servers often stand where only root's PATH looks."""
        folders = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/lib/rabbitmq/bin"])
        return next(filter(None, (shutil.which(program, path=folders) for program in self.programs)), None)

    def __str__(self) -> str:
        return f"{self.label} ({self.tests})"


NEEDS = {
    # The first is Chromium without the window around a page, for two thirds of the work.
    "chromium": Need(
        "Chromium", "browser tests", ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    ),
    "nginx": Need("nginx", "proxy tests", ("nginx",)),
    "prometheus": Need("Prometheus", "telemetry tests", ("prometheus",)),
    "promtool": Need("promtool", "telemetry tests", ("promtool",)),
    "redis": Need("Redis", "crash tests", ("redis-server",)),
    "rabbitmq": Need("RabbitMQ", "broker tests", ("rabbitmq-server",)),
    "node": Need("Node", "front-end tests", ("node",)),
    "npm": Need("npm", "front-end tests", ("npm",)),
    "catatonit": Need("catatonit", "container tests", ("catatonit", "/usr/libexec/podman/catatonit")),
    "podman": Need("Podman", "container tests", ("podman",)),
    "mmdebstrap": Need("mmdebstrap", "container tests", ("mmdebstrap",)),
}
# Their slow tests wait rather than compute: for a lease to run out, a broker that is back, a pause that grows.
PATIENT = {"test_answers_crash.py", "test_benchmarks.py", "test_crash.py"}
LEFT_OUT = "left out for want of"  # a key of a report's user_properties, which travel from xdist's workers
SLOW_LEFT_OUT = pytest.StashKey[int]()


def missing() -> list[Need]:
    return [need for need in NEEDS.values() if need.path() is None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-all", action="store_true", help="fail where a program that a test needs is missing")
    parser.addoption("--slow", action="store_true", help="run the slow tests too, behind all others")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes so long that it runs with --slow only")
    config.addinivalue_line("markers", f"needs(program, ...): what the test wants of {', '.join(NEEDS)}")
    if config.getoption("--require-all") and missing():
        lacking = ", ".join(map(str, missing()))
        raise pytest.UsageError(f"--require-all, and missing are {lacking}: install them, or leave the option out.")


def pytest_sessionstart(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(session.config, "workerinput"):
        found = [need.label for need in NEEDS.values() if need.path()]
        reporter.write_line(f"On this machine: {', '.join(found) or 'none'} (of what tests may need).")


@pytest.hookimpl(trylast=True)  # behind -k and -m, so that what they leave out is not counted
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        # pytest-xdist writes a test's group where pytest 9.2 no longer reads it, and so would keep none together:
        # https://github.com/pytest-dev/pytest-xdist/issues/1386
        if grouped_as := getattr(item, "_nodeid", None):
            item._id = NodeId.parse(grouped_as)
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow and not config.getoption("--slow"):
        config.hook.pytest_deselected(items=slow)
        config.stash[SLOW_LEFT_OUT] = len(slow)
        items[:] = [item for item in items if item not in slow]
    items[:] = ordered(items)
    for item in items:
        for name in wanted(item):
            if name not in NEEDS:
                raise pytest.UsageError(f"{item.nodeid} needs {name!r}, and only {', '.join(NEEDS)} are known.")


def ordered(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """What takes a minute in one process comes first: each suite of a render, and each group of tests that stay
    together to share a server or a browser. Then come the other slow tests, and at last those that fill the end of the
    run in all processes. Beside each of what computes, one that waits runs, so that there is always work for each core.
    """
    none: list[pytest.Item] = []
    suites, grouped, slow, quick, patient = (list[list[pytest.Item]]() for _ in range(5))
    for each in together(items):
        is_slow = each[0].get_closest_marker("slow") is not None
        if is_slow and each[0].path.name in PATIENT:
            patient.append(each)
        elif each[0].path.name == "test_suites.py":
            suites.append(each)
        elif each[0].get_closest_marker("xdist_group"):
            grouped.append(each)
        else:
            (slow if is_slow else quick).append(each)
    pairs = zip_longest([*suites, *grouped, *slow], patient, fillvalue=none)
    return [item for pair in pairs for each in pair for item in each] + [item for each in quick for item in each]


def together(items: Sequence[pytest.Item]) -> Iterable[list[pytest.Item]]:
    """The tests of each group, and each test that is in none."""
    found: dict[str, list[pytest.Item]] = {}
    for item in items:
        group = item.get_closest_marker("xdist_group")
        found.setdefault(group.args[0] if group else item.nodeid, []).append(item)
    return found.values()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in wanted(item):
        if NEEDS[name].path() is None:
            item.user_properties.append((LEFT_OUT, name))
            pytest.skip(f"{NEEDS[name].label} is not on this machine")


def wanted(item: pytest.Item) -> Iterator[str]:
    for mark in item.iter_markers("needs"):
        yield from mark.args


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[LEFT_OUT] = session.config.stash.get(SLOW_LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """With xdist, only its workers collect; each collects everything."""
    config: pytest.Config = node.config
    left_out = getattr(node, "workeroutput", {}).get(LEFT_OUT, 0)  # a worker that has crashed says nothing
    config.stash[SLOW_LEFT_OUT] = max(left_out, config.stash.get(SLOW_LEFT_OUT, 0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    slow = config.stash.get(SLOW_LEFT_OUT, 0)
    if slow:
        terminalreporter.write_line(f"Left out for want of --slow: {slow} slow tests.")
    if not missing():
        if not slow:
            terminalreporter.write_line("Nothing was left out.")
        return
    skipped = terminalreporter.getreports("skipped")
    terminalreporter.write_line(f"Left out: {', '.join(map(str, missing()))}.")
    for name, need in NEEDS.items():
        for report in skipped:
            if (LEFT_OUT, name) in map(tuple, report.user_properties):
                terminalreporter.write_line(f"  {report.nodeid}, for want of {need.label}")
