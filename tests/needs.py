"""Tests that want a program which not every machine has: `@pytest.mark.needs("nginx")`.

Without the program such a test is skipped, or fails where `--require-all` is given. The run's summary names each
program that is not there, and the tests that it left out.
"""

import os
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import pytest


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
    "chromium": Need("Chromium", "browser tests", ("chromium", "chromium-browser", "google-chrome")),
    "nginx": Need("nginx", "proxy tests", ("nginx",)),
    "rabbitmq": Need("RabbitMQ", "broker tests", ("rabbitmq-server",)),
    "node": Need("Node", "front-end tests", ("node",)),
    "npm": Need("npm", "front-end tests", ("npm",)),
}
LEFT_OUT = "left out for want of"  # a key of a report's user_properties, which travel from xdist's workers


def missing() -> list[Need]:
    return [need for need in NEEDS.values() if need.path() is None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-all", action="store_true", help="fail where a program that a test needs is missing")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"needs(program, ...): what the test wants of {', '.join(NEEDS)}")
    if config.getoption("--require-all") and missing():
        lacking = ", ".join(map(str, missing()))
        raise pytest.UsageError(f"--require-all, and missing are {lacking}: install them, or leave the option out.")


def pytest_sessionstart(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(session.config, "workerinput"):
        found = [need.label for need in NEEDS.values() if need.path()]
        reporter.write_line(f"On this machine: {', '.join(found) or 'none'} (of what tests may need).")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in wanted(item):
            if name not in NEEDS:
                raise pytest.UsageError(f"{item.nodeid} needs {name!r}, and only {', '.join(NEEDS)} are known.")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in wanted(item):
        if NEEDS[name].path() is None:
            item.user_properties.append((LEFT_OUT, name))
            pytest.skip(f"{NEEDS[name].label} is not on this machine")


def wanted(item: pytest.Item) -> Iterator[str]:
    for mark in item.iter_markers("needs"):
        yield from mark.args


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not missing():
        terminalreporter.write_line("Nothing was left out.")
        return
    skipped = terminalreporter.getreports("skipped")
    terminalreporter.write_line(f"Left out: {', '.join(map(str, missing()))}.")
    for name, need in NEEDS.items():
        for report in skipped:
            if (LEFT_OUT, name) in map(tuple, report.user_properties):
                terminalreporter.write_line(f"  {report.nodeid}, for want of {need.label}")
