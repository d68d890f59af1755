"""What Docker would do, done by hand, for no engine is needed here: the image's build and start, the composition."""

import json
import re
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]
from rendering import Answers, Project, environment, first_or_slow, named, run, varied
from running import START_SECONDS, Server, posix_only, running, services, settings_of

SERVICES = {
    "none": {"web"},
    "rq": {"web", "worker", "redis"},
    "celery-redis": {"web", "worker", "redis"},
    "celery-rabbitmq": {"web", "worker", "redis", "rabbitmq"},
    "dramatiq-redis": {"web", "worker", "redis"},
    "dramatiq-rabbitmq": {"web", "worker", "redis", "rabbitmq"},
}
SECONDS = {"s": 1, "m": 60, "h": 3600}
NUMBERS = {"seven": 7, "twelve": 12}
CONFINED = {
    "init": True,
    "read_only": True,
    "tmpfs": ["/tmp"],
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "pull_policy": "never",
}
COMPILE = "python -m compileall -q app"
# Prints the files that Python has to compile while these modules are imported.
COMPILED = """
import importlib, sys
from importlib.machinery import SourceFileLoader as Loader
compiled = Loader.source_to_code
Loader.source_to_code = lambda loader, data, path, **options: print(path) or compiled(loader, data, path, **options)
for module in sys.argv[1:]:
    importlib.import_module(module)
"""


@pytest.fixture
def project(variant: Answers, render: Callable[..., Project]) -> Project:
    return render(**variant)


@pytest.fixture
def composed(project: Project) -> dict[str, dict[str, Any]]:
    """The services of compose.yaml."""
    parsed: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(project.read("compose.yaml"))
    return parsed["services"]


@dataclass
class Image:
    """A stage of the build: a folder for its `/`, and what the Dockerfile says of it."""

    root: Path
    folder: str = "/"
    env: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    other_runs: list[str] = field(default_factory=list)

    def at(self, path: str = ".") -> Path:
        return self.root / str(Path(self.folder, path)).lstrip("/")


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Each instruction's name and the rest of it, on one line."""
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^\s*#.*\n", "", dockerfile, flags=re.MULTILINE))
    for line in filter(None, joined.splitlines()):
        name, rest = line.split(maxsplit=1)
        yield name, rest


def ignored(name: str, dockerignore: str) -> bool:
    """The last line decides that fits the file, or a folder that it is in."""
    out = False
    for line in dockerignore.splitlines():
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if line and not line.startswith("#") and re.fullmatch(f"{pattern}(/.*)?", name):
            out = not line.startswith("!")
    return out


def started(image: Image) -> dict[str, str]:
    """The environment of what runs in it."""
    path = image.env.get("PATH", "$PATH").replace("$PATH", environment()["PATH"])
    return image.env | {"PATH": path}


def build(context: Path, folder: Path) -> Image:
    """Carry the Dockerfile out, all but what is about the system below; give its last stage.

    Each stage is made at the same place, as in Docker, for an environment holds the path that it was made at.
    """
    stages: dict[str, Path] = {}
    image, stage = Image(folder / "root"), ""
    for name, rest in instructions((context / "Dockerfile").read_text("utf-8")):
        if name == "FROM":
            if stage:
                stages[stage] = image.root.rename(folder / f"stage-{stage}")
            image, stage = Image(folder / "root"), rest.partition(" AS ")[2]
        elif name == "WORKDIR":
            image.folder = rest
            image.at().mkdir(parents=True)
        elif name == "ENV":
            for word in shlex.split(rest):
                key, _, value = word.partition("=")
                image.env[key] = value.replace(image.folder, str(image.at()))
        elif name == "COPY":
            *sources, target = (word for word in rest.split() if not word.startswith("--"))
            origin = re.search(r"--from=(\S+)", rest)
            for source in sources:
                found = (stages[origin[1]] if origin else context) / source.lstrip("/")
                if found.is_dir():
                    shutil.copytree(found, image.at(target), symlinks=True, dirs_exist_ok=True)
                else:
                    shutil.copy(found, image.at(target))
        elif name == "RUN" and (rest.startswith("uv ") or rest == COMPILE):
            done = run(*shlex.split(rest), cwd=image.at(), env=started(image))
            assert done.returncode == 0, done.stderr
        elif name == "RUN":
            image.other_runs.append(rest)
        else:
            image.said[name] = rest
    return image


# One for each broker. Podman builds and runs those that are not here, in tests/test_containers.py.
OF_EACH_BROKER = [answers for answers in varied() if answers["queue_backend"] in ("rq", "dramatiq-rabbitmq")]


@pytest.mark.parametrize("variant", first_or_slow(1, OF_EACH_BROKER), indirect=True, ids=named)
@posix_only
def test_the_image_is_built_starts_is_healthy_and_stops(
    project: Project, composed: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    """The Dockerfile's uv lines and its CMD are carried out on what .dockerignore lets through, and compose.yaml's
    command of a worker: without what only development needs, both do their work."""
    project.sync()
    context = tmp_path / "context"
    names = [*project.files(), "uv.lock", ".env", ".git/config", "app/__pycache__/main.pyc"]
    sent = [name for name in names if not ignored(name, project.read(".dockerignore"))]
    assert {name.partition("/")[0] for name in sent} == {"app", "pyproject.toml", "uv.lock"}
    assert not [name for name in sent if "__pycache__" in name]
    for name in [*sent, "Dockerfile"]:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project.path / name, context / name)
    image = build(context, tmp_path)
    assert {path.name for path in image.at().iterdir()} == {"app", ".venv"}
    library, user = image.other_runs
    assert re.fullmatch(r"python -m compileall .*stdlib.*", library)
    assert user == f"useradd --no-create-home --uid {int(image.said['USER'])} app"
    with services(project) as env:
        env |= started(image)
        modules = ["app.main", *(["app.worker"] if "worker" in composed else [])]
        compiled = run("python", "-c", COMPILED, *modules, cwd=image.at(), env=env)
        assert compiled.returncode == 0, compiled.stderr
        assert [path for path in compiled.stdout.splitlines() if path.startswith(str(image.root))] == []
        port = image.said["EXPOSE"]
        command = [word.replace(port, "0") for word in json.loads(image.said["CMD"])]
        with running(*command, cwd=image.at(), env=env) as process:
            server = Server(process)
            assert server.request("GET", "/health").status == 200
            check = image.said["HEALTHCHECK"].partition("CMD ")[2].replace(f":{port}/", f":{server.port}/")
            assert run(*json.loads(check), cwd=image.at(), env=env).returncode == 0
            if worker := composed.get("worker"):
                with running(*worker["command"], cwd=image.at(), env=env) as working:
                    deadline = time.monotonic() + START_SECONDS
                    while (answer := server.request("GET", "/ready?strict=1")).status != 200:
                        assert working.alive, answer.read()
                        assert time.monotonic() < deadline, answer.read()
                        time.sleep(0.1)
                    assert run(*worker["healthcheck"]["test"][1:], cwd=image.at(), env=env).returncode == 0
                    assert working.stop() == 0
            assert process.stop() == -signal.SIGTERM
            assert run(*json.loads(check), cwd=image.at(), env=env).returncode != 0
        assert "No module named 'pytest'" in run("python", "-c", "import pytest", cwd=image.at(), env=env).stderr


def test_the_services_are_those_that_the_queue_needs(variant: Answers, composed: dict[str, dict[str, Any]]) -> None:
    assert set(composed) == SERVICES[variant["queue_backend"]]


def test_the_processes_are_the_same_on_every_platform(project: Project, composed: dict[str, dict[str, Any]]) -> None:
    """What the image runs as, by compose.yaml or by the Procfile, is there under the same names."""
    procfile = dict(line.split(": ", 1) for line in project.read("Procfile").splitlines())
    assert set(procfile) == {name for name, service in composed.items() if service["image"] == project.path.name}
    for name, command in procfile.items():
        words = composed[name].get("command") or json.loads(dict(instructions(project.read("Dockerfile")))["CMD"])
        assert command.split()[: len(words)] == [re.sub(r"^8000$", "${PORT:-8000}", word) for word in words]
        (module,) = (word.partition(":")[0] for word in words if word.startswith("app."))
        assert (project.path / f"{module.replace('.', '/')}.py").is_file()


def test_a_service_is_asked_for_its_health_where_another_waits_for_it(composed: dict[str, dict[str, Any]]) -> None:
    """Others' images bring no check of their own, and no tag that means another version tomorrow."""
    for service in composed.values():
        for other, needed in service.get("depends_on", {}).items():
            assert needed == {"condition": "service_healthy"}
            assert composed[other]["healthcheck"]["test"][0] == "CMD"
        assert service.get("pull_policy") == "never" or service["image"].partition(":")[2] not in ("", "latest")


def test_compose_asks_the_web_server_as_the_image_does(project: Project, composed: dict[str, dict[str, Any]]) -> None:
    """The image has the check for who runs it by itself, and compose.yaml has it too, for podman keeps none in it."""
    options, _, command = dict(instructions(project.read("Dockerfile")))["HEALTHCHECK"].partition("CMD ")
    said = dict(option.removeprefix("--").replace("-", "_").split("=") for option in options.split())
    assert composed["web"]["healthcheck"] == {"test": ["CMD", *json.loads(command)], **said}


def test_one_image_is_built_and_what_runs_in_it_may_do_little(
    project: Project, composed: dict[str, dict[str, Any]]
) -> None:
    """The web server's service builds it, and the worker's takes that very image. Neither is root, or can become it."""
    ours = {name: service for name, service in composed.items() if name in ("web", "worker")}
    assert [name for name, service in composed.items() if "build" in service] == ["web"]
    for service in ours.values():
        assert {key: service.get(key) for key in CONFINED} == CONFINED
        assert service["image"] == project.path.name
    assert dict(instructions(project.read("Dockerfile")))["USER"].isdigit()


def test_compose_gives_only_settings_that_there_are(project: Project, composed: dict[str, dict[str, Any]]) -> None:
    """Each by its name; an address leads to another service; and no time to stop is shorter than what it waits for, or
    much longer."""
    settings = settings_of(project)
    needed = seconds_to_stop(project)
    for name, service in composed.items():
        for key, value in service.get("environment", {}).items():
            assert key in settings
            passed_on = value == f"${{{key}:-}}"  # from the environment, which knows addresses elsewhere
            assert not key.endswith("_URL") or passed_on or urlsplit(value).hostname in composed
        if name in needed:
            period = service["stop_grace_period"]
            assert 1 < int(period[:-1]) * SECONDS[period[-1]] / needed[name] <= 1.3


def seconds_to_stop(project: Project) -> dict[str, float]:
    """What each process may take by the settings' defaults, as README.md says it of the web server."""
    settings = settings_of(project)
    said = re.search(r"Give the server (.*) between SIGTERM and SIGKILL", project.read("README.md"))
    assert said
    names = re.findall(r"`(\w+)`", said[1])
    assert names == [name for name in ("DRAIN_SECONDS", "ANSWER_DRAIN_SECONDS") if name in settings]
    (beyond,) = (NUMBERS[word] for word in said[1].split() if word in NUMBERS)
    # A job is ended at its limit, and what it does then has a few seconds too.
    return {
        "web": sum(float(settings[name]) for name in names) + beyond,
        "worker": float(settings["JOB_TIMEOUT_SECONDS"]) + NUMBERS["twelve"],
    }
