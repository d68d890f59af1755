"""Lays the chosen variants over the base tree, tries to lock the dependencies, and says what to do next.

Cookiecutter deletes the project when this hook fails. So it fails only where no working project can come out:
whatever stands in the way of `uv lock` is told, and left for later.
"""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# Locking takes a second or two; past a minute something is wrong that waiting does not mend.
LOCK_SECONDS = 60


def overlay(project: Path, names: Iterable[str]) -> None:
    """Copy the named variants over the tree, then remove them all."""
    variants = project / "_variants"
    for name in names:
        if (variants / name).is_dir():
            shutil.copytree(variants / name, project, dirs_exist_ok=True, ignore=shutil.ignore_patterns("_parts"))
    if variants.is_dir():
        shutil.rmtree(variants)


def parts(project: Path, names: Iterable[str], part: str) -> list[str]:
    """What the named variants say under this name, before they are removed."""
    found = (project / "_variants" / name / "_parts" / part for name in names)
    return [path.read_text("utf-8").strip() for path in found if path.is_file()]


def lock(project: Path, seconds: float = LOCK_SECONDS) -> str | None:
    """Make uv.lock; return why that was not possible, None if it was."""
    # uvx sets UV, and need not be on PATH.
    uv = shutil.which(os.environ.get("UV", "")) or shutil.which("uv")
    if uv is None:
        return "uv was not found; https://docs.astral.sh/uv/ says how to install it"
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        done = subprocess.run(
            [uv, "lock", "--quiet"],
            cwd=project,
            # One hiccup of a network is mended. Who is offline waits for a second or two.
            env=environment | {"UV_HTTP_RETRIES": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return f"uv did not finish within {seconds:g} seconds"
    except KeyboardInterrupt:
        return "interrupted"
    except OSError as error:
        return f"uv did not start: {error}"
    return None if done.returncode == 0 else reason(done.stderr) or f"uv ended with status {done.returncode}"


def reason(stderr: str) -> str:
    """What uv says is wrong: its first line, and its hint where it gives one. Of a request that was tried again, the
    first line only says so, and the second has the cause."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if len(lines) > 1 and "Request failed after" in lines[0]:
        lines = [lines[1].removeprefix("cause: "), *lines[2:]]
    hints = [line for line in lines[1:] if line.startswith("hint: ")]
    return " ".join(line.removeprefix("error: ") for line in lines[:1] + hints[:1])


def main(answers: Mapping[str, Any]) -> None:
    project = Path.cwd()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path or a message of uv that the console cannot show is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    names = [name for question, chains in answers["_overlays"].items() for name in chains[answers[question]]]
    keys, notes = parts(project, names, "key"), parts(project, names, "next_steps")
    try:
        overlay(project, names)
    except OSError as error:
        sys.exit(f"The project could not be finished: {error}")
    queue, model, front_end = (answers[question] for question in ("queue_backend", "model_provider", "front_end"))
    auth, telemetry = answers["auth"], answers["telemetry"]
    made = f"queue {queue}, model {model}, front end {front_end}, callers by {auth}, telemetry {telemetry}"
    print(f"Made {project.name}: {made}.")
    print(f"Locking its dependencies (uv lock, {LOCK_SECONDS} s at most) ...", flush=True)
    failure = lock(project)
    if failure:
        print(f"No uv.lock yet: {failure}\nLater, in the project, run: uv lock")
    # Only the shell's own PWD tells where it stands: cookiecutter has changed directory since.
    beside = os.environ.get("PWD") in (None, str(project.parent))
    print("\nNext:")
    print(f"  cd {project.name if beside else shlex.quote(str(project))}")
    print("  uv sync")
    for key in keys:
        # `echo … >>` of Windows PowerShell writes UTF-16, and of cmd the blank before `>>` too.
        to_env = "Add-Content .env {}" if os.name == "nt" else "echo {} >> .env"
        print(f"  {to_env.format(f'{key}=sk-...')}    # to begin without a key: {to_env.format('MODEL_PROVIDER=echo')}")
    # Where the web server is all there is to run, no script is needed to run it with what it needs.
    script = "python scripts/dev.py" if (project / "scripts" / "dev.py").exists() else "uvicorn app.main:app --reload"
    print(f"  make dev    # without make: uv run {script}")
    for note in notes:
        print(note)
    print("Then open http://127.0.0.1:8000")


if __name__ == "__main__":
    # tojson writes ' as \u0027, so no answer can end a string in single quotes.
    main(json.loads(r'''{{ cookiecutter | tojson }}'''))  # fmt: skip
