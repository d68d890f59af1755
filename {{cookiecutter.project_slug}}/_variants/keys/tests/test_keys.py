import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.callers.known import KnownCallers
from app.callers.settings import CallerSettings
from app.keys import main

ROOT = Path(__file__).parent.parent


def test_the_line_has_the_new_key_and_those_before_it_and_none_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("API_KEYS=alice:k-1, bob:k-2\n", "utf-8")
    env = {**os.environ, "ENV_FILE": str(tmp_path / "env")}
    command = [sys.executable, "-m", "app.keys", "alice"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    (key,) = re.findall(r"^[\w-]{43}$", done.stdout, re.MULTILINE)
    (line,) = re.findall(r"^API_KEYS=(.*)$", done.stdout, re.MULTILINE)
    assert [secret for secret in ("k-1", "k-2", key) if secret in line] == []
    callers = KnownCallers(CallerSettings(_env_file=None, api_keys=line))
    found = [asyncio.run(callers.find(token)) for token in ("k-1", "k-2", key)]
    assert [caller and caller.name for caller in found] == ["alice", "bob", "alice"]


@pytest.mark.parametrize("arguments", [[], ["alice", "bob"], ["Alice"], ["a:b"], ["--help"], [""]])
def test_a_name_that_the_settings_would_refuse_makes_no_key(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^usage: python -m app\.keys NAME"):
        main(arguments)
    assert capsys.readouterr().out == ""
