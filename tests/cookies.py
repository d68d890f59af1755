"""Cookiecutter's command line for many runs, imported once: each run is a fork of this process.

Each line on stdin is a run, in JSON: its arguments, its folder, its environment, and the files that are its stdin,
stdout and stderr. Each line on stdout is the status with which it ended.
"""

import json
import os
import sys
from typing import Any

from cookiecutter.cli import main  # type: ignore[import-untyped]


def become(run: dict[str, Any]) -> None:
    """Be the process that `python -m cookiecutter` would be."""
    for number, name in enumerate(run["files"]):
        os.dup2(os.open(name, os.O_RDWR), number)
    os.chdir(run["folder"])
    os.environ.clear()
    os.environ.update(run["environment"])
    main(run["arguments"], prog_name="cookiecutter")


if __name__ == "__main__":
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
