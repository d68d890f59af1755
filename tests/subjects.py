"""What a render's own test file is about: where all of that is the same in another render, one of them is enough."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from rendering import Project

CONFTEST = "tests/conftest.py"
BACKING = "tests/jobs/backing.py"
APPLICATION = {"build", "client"}  # fixtures of conftest.py that give the whole application, in the test's own process
TEST = re.compile(r"tests/(.+/)?test_\w+\.py")
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
MODULE = re.compile(r"(app|tests)(\.\w+)+")

Subject = frozenset[tuple[str, bytes]]


def subjects(project: Project) -> dict[str, Subject]:
    """Of each of its test files, name and bytes of each file that the test is about.

    That is the test itself, the module that its name mirrors, what it imports or names in a string (`"app.worker"`,
    `"scripts/dev.py"`), and the same of each file of tests/ among these. Whoever takes a fixture of
    tests/jobs/backing.py is about that too, and so about the store and the worker; whoever takes an application or a
    client of one is about all of app/.

    Else, what a module of app/ imports in turn does not count, for it has tests of its own. Nor does what a server
    serves that runs as a process: the template's own test_served.py is about that, with each queue, model and front
    end.
    """
    return _subjects(project.path, frozenset(project.files()))


@cache  # what was rendered is changed by no test
def _subjects(root: Path, files: frozenset[str]) -> dict[str, Subject]:
    content = {name: (root / name).read_bytes() for name in files}
    nodes = {name: list(ast.walk(ast.parse(text))) for name, text in content.items() if name.endswith(".py")}
    taken = {name: {*_taken(of_file)} for name, of_file in nodes.items()}
    backed = {node.name for node in nodes[BACKING] if isinstance(node, FUNCTION)}
    named = {name: files & {*_named(of_file)} for name, of_file in nodes.items() if name.startswith("tests/")}
    for name in named.keys() - {BACKING, CONFTEST}:
        if taken[name] & backed:
            named[name] |= {BACKING}
    found = {}
    for test in filter(TEST.fullmatch, files):
        subject = {name for name in files if name.startswith("app/") and taken[test] & APPLICATION}
        new = {test, re.sub(r"^tests/(.*)test_", r"app/\1", test)} & files
        while new:
            subject |= new
            new = {other for name in new for other in named.get(name, ())} - subject
        found[test] = frozenset((name, content[name]) for name in subject)
    return found


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


def _taken(nodes: list[ast.AST]) -> Iterator[str]:
    """The parameters of tests and fixtures: the names of the fixtures that these take, and some others."""
    for node in nodes:
        if isinstance(node, FUNCTION) and (node.name.startswith("test_") or node.decorator_list):
            yield from (parameter.arg for parameter in node.args.args)
