"""What a render's own test file is about: where all of that is the same in another render, one of them is enough."""

import ast
import re
from collections.abc import Iterator, Mapping, Set
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rendering import Project
from variants import OVERLAYS, brought

CONFTEST = "tests/conftest.py"
JOBS_CONFTEST = "tests/jobs/conftest.py"
BACKING = "tests/jobs/backing.py"
WORKER = "app/worker.py"
STARTS_A_WORKER = {"worker", "jobs_env"}  # fixtures: one that runs, and the environment of one
APPLICATION = {"build", "client"}  # fixtures of conftest.py that give the whole application, in the test's own process
TEST = re.compile(r"tests/(.+/)?test_\w+\.py")
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
MODULE = re.compile(r"(app|tests)(\.\w+)+")

WHOLE_APPLICATION = "tests/test_main.py"  # about all of app/, with each combination

Subject = frozenset[tuple[str, bytes]]


def subjects(project: Project) -> dict[str, set[Subject]]:
    """Of each of its test files, name and bytes of each file that the test is about, in one set or more: it need not
    run where each of its sets has been shown elsewhere.

    That is the test itself, the module that its name mirrors, what it imports or names in a string (`"app.worker"`,
    `"scripts/dev.py"`), and the same of each file of tests/ among these. Whoever takes a fixture of
    tests/jobs/backing.py, or one that takes it, is about that too, and so about the store; and whoever takes a worker,
    or starts one, about that.

    Whoever takes an application or a client of one is about what is the same in every app/, too. What the answer to one
    question brings imports nothing of another's: a test of the worker is not about the front end. Nor is a test that an
    answer brings about another's answer, though it may need some of that to build an application: those files have the
    same names and types with each answer, as mypy says of each two (tests/test_quality.py), and tests of their own.
    Where a test is about no answer at all, it has a set for each question: it runs with each answer once, and not with
    each combination of them. Only tests/test_main.py does.

    Else, what a module of app/ imports in turn does not count, for it has tests of its own. Nor does what a server
    serves that runs as a process: the template's own test_served.py is about that, with each queue, model and front
    end.
    """
    return _subjects(project.path, frozenset(project.files()))


def parts(files: Set[str]) -> list[set[str]]:
    """For each question, the files of app/ among these that some answer to it brings."""
    return [{name for name in files & _brought(question) if name.startswith("app/")} for question in OVERLAYS]


def imported(project: Project, name: str) -> Set[str]:
    """The files that this one imports or names, and perhaps names that no file has."""
    return _read((project.path / name).read_bytes()).named


def with_imports(project: Project) -> dict[str, Subject]:
    """Of each of its Python files, name and bytes of it and of each other that it imports or names."""
    return _with_imports(project.path, frozenset(project.files()))


@cache
def _brought(question: str) -> set[str]:
    return {name for chain in OVERLAYS[question].values() for folder in chain for name in brought(folder)}


@cache  # what was rendered is changed by no test
def _with_imports(root: Path, files: frozenset[str]) -> dict[str, Subject]:
    content = {name: (root / name).read_bytes() for name in files if name.endswith(".py")}
    named = {name: {name} | content.keys() & _read(text).named for name, text in content.items()}
    return {name: frozenset((other, content[other]) for other in others) for name, others in named.items()}


@cache
def _subjects(root: Path, files: frozenset[str]) -> dict[str, set[Subject]]:
    content = {name: (root / name).read_bytes() for name in files}
    read = {name: _read(text) for name, text in content.items() if name.endswith(".py")}
    taken = {name: _all_taken(name, read) for name in filter(TEST.fullmatch, read)}
    named = {name: files & of_file.named for name, of_file in read.items() if name.startswith("tests/")}
    if BACKING in named:  # jobs can be taken out, as the README says
        named[BACKING] -= {WORKER}
    for name in taken:
        if name.startswith("tests/jobs/") and taken[name] & read[BACKING].fixtures.keys():
            named[name] |= {BACKING}
        if read[name].taken & STARTS_A_WORKER:
            named[name] |= {WORKER} & files
    application = {name for name in files if name.startswith("app/")}
    by_question = parts(files)
    found = {}
    for test in taken:
        subject, new = set[str](), {test, re.sub(r"^tests/(.*)test_", r"app/\1", test)} & files
        while new:
            subject |= new
            new = {other for name in new for other in named.get(name, ())} - subject
        if own := [question for question in OVERLAYS if test in _brought(question)]:
            subject -= set().union(*map(_brought, OVERLAYS.keys() - own)) - set().union(*map(_brought, own))
        sets = [subject]
        if test == WHOLE_APPLICATION:
            sets = [subject | application]
        elif taken[test] & APPLICATION:
            subject |= application.difference(*by_question)
            if not any(subject & _brought(question) for question in OVERLAYS):
                sets = [subject | part for part in by_question]
        found[test] = {frozenset((name, content[name]) for name in each) for each in sets}
    return found


class Read(NamedTuple):
    """What is read of a Python file: the files that it names, and perhaps names that no file has; the parameters of its
    tests and fixtures, which are the names of the fixtures that these take, and some others; those of each fixture."""

    named: frozenset[str]
    taken: frozenset[str]
    fixtures: dict[str, frozenset[str]]


@cache  # most files are the same in many projects
def _read(text: bytes) -> Read:
    nodes = list(ast.walk(ast.parse(text)))
    functions = [node for node in nodes if isinstance(node, FUNCTION)]
    taken = {node.name: frozenset(parameter.arg for parameter in node.args.args) for node in functions}
    fixtures = {node.name: taken[node.name] for node in functions if node.decorator_list}
    tests = (names for function, names in taken.items() if function.startswith("test_"))
    return Read(frozenset(_named(nodes)), frozenset().union(*tests, *fixtures.values()), fixtures)


def _all_taken(test: str, read: Mapping[str, Read]) -> frozenset[str]:
    """With the fixtures that these fixtures take."""
    taken = read[test].taken
    of_jobs = (JOBS_CONFTEST, BACKING) if test.startswith("tests/jobs/") else ()
    fixtures = [read[name].fixtures for name in (CONFTEST, *of_jobs)]
    while not (more := {name for each in fixtures for fixture in taken for name in each.get(fixture, ())}) <= taken:
        taken |= more
    return taken


def _named(nodes: list[ast.AST]) -> Iterator[str]:
    """Files that are imported or named, and perhaps names that no file has."""
    for node in nodes:
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
            modules = [found[0] for found in MODULE.finditer(node.value)]
        else:
            continue
        for module in modules:
            path = module.replace(".", "/")
            yield from (f"{path}.py", f"{path}/__init__.py")
