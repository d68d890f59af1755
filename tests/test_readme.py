"""README.md and ARCHITECTURE.md of each render: what they say is there, is there; what they say to do, works."""

import hashlib
import json
import re
import shlex
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rendering import MADE_BY_TOOLS, Answers, Project, run, varied
from running import (
    Process,
    Server,
    finds_nothing,
    mypy_cache,
    posix_only,
    python_of,
    recipe,
    request,
    running,
    services,
    settings_of,
)
from subjects import Subject, subjects

NOT_SETTINGS = {"ENV_FILE", "TEST_BROKER_URL", "TEST_REDIS_URL"}  # the tests'
MADE_LATER = {".env", "uv.lock"}
METHODS = "DELETE|GET|PATCH|POST|PUT"


@pytest.fixture
def project(variant: Answers, render: Callable[..., Project]) -> Project:
    project = render(**variant)
    project.sync()
    return project


def documents(project: Project) -> str:
    return project.read("README.md") + project.read("ARCHITECTURE.md")


def spans(text: str) -> list[str]:
    """What stands in backticks within a line."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def shell_blocks(text: str) -> list[str]:
    return re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def without_jobs(project: Project) -> str:
    """The commands that README.md gives to whoever wants no jobs, if it does."""
    found = re.search(r"No jobs wanted.*?^```sh\n(.*?)^```", project.read("README.md"), re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def commands(project: Project) -> Iterator[list[str]]:
    """The words of each command that the documents name, but those that another test carries out."""
    named = [span for span in spans(documents(project)) if re.match(r"(make|uvx?|curl|docker|sudo|brew) ", span)]
    blocks = [block for block in shell_blocks(documents(project)) if block != without_jobs(project)]
    for line in [*named, *"".join(blocks).splitlines()]:
        for part in line.removeprefix("$ ").split("&&"):
            yield shlex.split(part)


def without_names(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


ROUTES: dict[Path, set[str]] = {}


def routes(project: Project) -> set[str]:
    """Such as `GET /jobs/{}`: what the application says it serves."""
    if project.path not in ROUTES:
        ROUTES[project.path] = _routes(project)
    return ROUTES[project.path]


def _routes(project: Project) -> set[str]:
    told = "import json; from app.main import app; print(json.dumps(app.openapi()['paths']))"
    paths = json.loads(project.run("uv", "run", "python", "-c", told, env={"MODEL_PROVIDER": "echo"}).stdout)
    return {f"{method.upper()} {without_names(path)}" for path, methods in paths.items() for method in methods}


def is_there(project: Project, name: str) -> bool:
    return (project.path / name).exists() or (project.path / "app" / name).exists()


def test_every_command_that_is_named_can_be_run(project: Project) -> None:
    """Its program, its module, its target and the files that it is given are there."""
    targets = re.findall(r"^([a-z]+):", project.read("Makefile"), re.MULTILINE)
    paths = {route.partition(" ")[2] for route in routes(project)} | {"/"}
    for words in commands(project):
        match words:
            case ["make", target, *rest]:
                assert target in targets
            case ["uv", "run", "python", "-m", module, *rest] | ["uv", "run", "uvicorn", module, *rest]:
                assert is_there(project, module.partition(":")[0].replace(".", "/") + ".py"), module
            case ["uv", "run", "python", *rest]:
                assert rest, "no file is given"
            case ["uv", "run", "--with", "flower", "celery", "-A", module, "flower", *rest]:
                assert is_there(project, module.replace(".", "/") + ".py"), module
            case ["uv", "run", "celery", "-A", module, *rest]:
                assert is_there(project, module.replace(".", "/") + ".py"), module
            case ["uv", "run", program, *rest]:
                assert (project.path / ".venv" / "bin" / program).exists(), program
            case ["uv", "sync" | "lock" | "add", *rest]:
                pass
            case ["curl", *rest]:
                (url,) = (urlsplit(word) for word in rest if word.startswith("http"))
                assert url.path.replace("$ID", "{}") in paths
                rest = []
            case ["echo", *_]:
                rest = []
            case ["docker", "compose", "up", *rest]:
                assert is_there(project, "compose.yaml")
            case ["docker", "run", *_, "grafana/otel-lgtm"]:
                rest = []  # it takes OTLP, and is no service that is needed
            case ["docker", "run", *_, image]:
                assert f"image: {image}\n" in project.read("compose.yaml")
                rest = []
            case ["uvx" | "brew", *rest] | ["sudo", "apt" | "rabbitmqctl", *rest]:
                pass  # it comes from elsewhere
            case _:
                pytest.fail(f"nobody knows whether this can be run: {shlex.join(words)}")
        files = [word for word in rest if "/" in word and "://" not in word]
        assert [name for name in files if not is_there(project, name)] == [], words


def test_each_make_target_is_described_and_stands_beside_its_plain_command(project: Project) -> None:
    """Windows and many images have no make."""
    rows = re.findall(r"^\| `make ([a-z]+)` \| (.*?) \|", project.read("README.md"), re.MULTILINE)
    assert sorted(target for target, _ in rows) == sorted(
        target for target in re.findall(r"^([a-z]+):", project.read("Makefile"), re.MULTILINE) if target != "help"
    )
    for target, cell in rows:
        if cell.startswith("`"):
            lines = [[word for word in words if "=" not in word] for words in recipe(project, target)]
            assert cell.strip("`") == " && ".join(map(shlex.join, lines))


def test_every_file_that_is_named_is_there(project: Project) -> None:
    """What stands in backticks and looks like a path is one, from the project's folder or from app/."""
    tops = "|".join(re.escape(path.name) for path in project.path.iterdir())
    like_a_path = re.compile(rf"(({tops})/)?[\w./-]*(/|\.(py|md|toml|yaml|yml|html|lock|example))|({tops})(/[\w./-]+)?")
    text = documents(project)
    drawn = re.findall(r"^(\w+/[\w./-]+) ", text, re.MULTILINE)
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)
    named = [span for span in spans(text) if like_a_path.fullmatch(span) and not span.startswith("/")]
    assert drawn
    assert [name for name in {*named, *drawn, *links} - MADE_LATER if not is_there(project, name)] == []


def test_the_routes_that_are_named_are_those_that_are_served(project: Project) -> None:
    """README.md leaves none out, and neither document tells of one that is not there."""
    named = re.compile(rf"({METHODS}) /[^ ?]*")
    in_readme, in_both = (
        {without_names(found[0]) for span in spans(text) if (found := named.match(span))}
        for text in (project.read("README.md"), documents(project))
    )
    assert in_readme == in_both == routes(project)


def test_every_setting_that_is_named_can_be_set(project: Project) -> None:
    """.env.example has each."""
    named = {span for span in spans(documents(project)) if re.fullmatch("[A-Z]+(_[A-Z]+)+", span)}
    assert named - NOT_SETTINGS <= settings_of(project).keys()


@pytest.mark.slow
@posix_only
@pytest.mark.parametrize("model", ["echo", "pydantic-ai"])
def test_jobs_can_be_taken_out_as_the_readme_says(
    model: str, render: Callable[..., Project], shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands under "No jobs wanted", word for word, leaves a project that passes its own checks and tests, also
    where an agent has tools for them. Those tests run whose subjects are others then: tests/test_suites.py runs all of
    the whole project's. Whoever has chosen a queue wants jobs."""
    project = render(queue_backend="none", model_provider=model)
    project.sync()
    commands = without_jobs(project)
    made_by_tools = shutil.ignore_patterns(*(MADE_BY_TOOLS - {"uv.lock", "__pycache__"}))
    reduced = Project(shutil.copytree(project.path, tmp_path / "my-chat", ignore=made_by_tools), project.answers)
    reduced.run("bash", "-c", commands)  # as when it is pasted
    monkeypatch.setenv("UV_PROJECT_ENVIRONMENT", str(project.path / ".venv"))  # the same libraries, compiled
    monkeypatch.setenv("UV_NO_SYNC", "1")
    for command in recipe(reduced, "check"):
        finds_nothing(*command, cwd=reduced.path, cache=mypy_cache(shared, model))
    ((*command,),) = recipe(reduced, "test")
    shown = set[Subject]().union(*subjects(project).values())
    reduced.run(*command, *sorted(test for test, each in subjects(reduced).items() if not each <= shown))
    assert [route for route in routes(reduced) if re.search("documents|jobs", route)] == []
    assert {route for route in routes(project) if not re.search("documents|jobs", route)} == routes(reduced)
    page = [name for name in reduced.files() if name.startswith("app/web/")]
    assert [name for name in page if re.search("documents|jobs", name + reduced.read(name), re.IGNORECASE)] == []
    assert [name for name in reduced.files() if re.match("(app|tests)/jobs/|.*bak$", name)] == []


@posix_only
def test_callers_come_from_a_table_of_users_as_the_readme_says(project: Project, shared: Path, tmp_path: Path) -> None:
    """Word for word. The READMEs say the same, so the first one is enough."""
    if project.answers != varied()[0]:
        return
    (block,) = re.findall(
        r"^```python\n(# app/users\.py\n.*?)^```", project.read("README.md"), re.MULTILINE | re.DOTALL
    )
    (made,) = (span for span in spans(project.read("README.md")) if span.startswith("app = create_app("))
    made_by_tools = shutil.ignore_patterns(*MADE_BY_TOOLS)
    copy = Project(shutil.copytree(project.path, tmp_path / "my-chat", ignore=made_by_tools), project.answers)
    (copy.path / "app" / "users.py").write_text(block, "utf-8")
    last = "from app.streams.response import StreamLimits\n"
    main = copy.read("app/main.py").replace(last, f"{last}from app.users import Users\n")
    main = main.replace("app = create_app()", made)
    (copy.path / "app" / "main.py").write_text(main, "utf-8")
    for command in recipe(copy, "check"):
        finds_nothing(sys.executable, "-m", *command[2:], cwd=copy.path, cache=shared / "mypy")
    with closing(sqlite3.connect(copy.path / "users.db")) as users, users:
        users.execute("CREATE TABLE users (name TEXT, token_sha256 TEXT)")
        users.execute("INSERT INTO users VALUES ('carol', ?)", [hashlib.sha256(b"t-1").hexdigest()])
    env = {"MODEL_PROVIDER": "echo", "ENVIRONMENT": "production"}
    with running(python_of(project), "-m", "uvicorn", "app.main:app", "--port", "0", cwd=copy.path, env=env) as process:
        server = Server(process)
        tokens = [None, "t-2", "t-1"]
        headers = [{"Authorization": f"Bearer {token}"} if token else {} for token in tokens]
        assert [request(server.port, "GET", "/jobs", headers=each).status for each in headers] == [401, 401, 200]


class Ollama(BaseHTTPRequestHandler):
    """Answers as Ollama does, which thinks first."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        for message in ({"content": "", "thinking": "A greeting."}, {"content": "Hel"}, {"content": "lo"}):
            self.wfile.write(json.dumps({"message": {"role": "assistant", **message}}).encode() + b"\n")

    def log_message(self, *_: object) -> None:
        pass


@posix_only
def test_a_model_of_ones_own_answers_as_the_readme_says(
    render: Callable[..., Project], shared: Path, tmp_path: Path
) -> None:
    """Word for word, but for the address of its service."""
    project = render(model_provider="echo")
    project.sync()
    text = project.read("README.md")
    (block,) = re.findall(r"^```python\n(# app/chat/providers/ollama\.py\n.*?)^```", text, re.MULTILINE | re.DOTALL)
    (made,) = (span for span in spans(text) if span.startswith("Ollama("))
    copy = Project(
        shutil.copytree(project.path, tmp_path / "my-chat", ignore=shutil.ignore_patterns(*MADE_BY_TOOLS)),
        project.answers,
    )
    providers = copy.path / "app" / "chat" / "providers"
    (providers / "ollama.py").write_text(block, "utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), Ollama) as service:
        address = f"127.0.0.1:{service.server_address[1]}"
        case = made.replace("127.0.0.1:11434", address)
        opens = (providers / "__init__.py").read_text("utf-8")
        opens = opens.replace("import Echo\n", "import Echo\nfrom app.chat.providers.ollama import Ollama\n")
        opens += f'        case "ollama":\n            yield {case}\n'
        (providers / "__init__.py").write_text(opens, "utf-8")
        settings = (providers / "settings.py").read_text("utf-8").replace('["echo"]', '["echo", "ollama"]')
        (providers / "settings.py").write_text(settings, "utf-8")
        for command in recipe(copy, "check"):
            finds_nothing(sys.executable, "-m", *command[2:], cwd=copy.path, cache=shared / "mypy")
        threading.Thread(target=service.serve_forever, daemon=True).start()
        env = {"MODEL_PROVIDER": "ollama"}
        python = python_of(project)
        with running(python, "-m", "uvicorn", "app.main:app", "--port", "0", cwd=copy.path, env=env) as process:
            body = json.dumps({"question": "Hi"})
            answer = Server(process).request("POST", "/chat/stream", body).read().decode()
        service.shutdown()
    told = [(name, json.loads(data)) for name, data in re.findall(r"event: (\w+)\nid: \d+\ndata: (.*)\n", answer)]
    assert told[1:] == [
        ("reasoning", {"text": "A greeting."}),
        ("token", {"text": "Hel"}),
        ("token", {"text": "lo"}),
        ("done", {"reason": "end"}),
    ]


def periodic(project: Project) -> re.Match[str] | None:
    """What stands in the README as a file of app/ that makes periodic jobs."""
    block = r"^```python\n(# app/(nightly)\.py\n.*?)^```"
    return re.search(block, project.read("README.md"), re.MULTILINE | re.DOTALL)


UNTIL_ENDED = """
import asyncio
from app.jobs.settings import JobSettings
from app.jobs.store import Store


async def look() -> None:
    async with Store.open(JobSettings.read()) as store:
        jobs = await store.latest(None, 10)
        while not all(job.ended for job in jobs):
            await asyncio.sleep(0.1)
            jobs = await store.latest(None, 10)
    print(*(f"{job.status} {job.attempts}" for job in jobs))


asyncio.run(look())
"""


@posix_only
def test_periodic_jobs_run_as_the_readme_says(
    project: Project, emitted: Callable[[Answers], Project], shared: Path, tmp_path: Path
) -> None:
    """Word for word, it makes one job of two occasions. Of the queues whose READMEs say the
    same, the first runs it: each other's worker does what is posted in tests/test_served.py."""
    found = periodic(project)
    if project.answers["queue_backend"] == "none":
        assert not found
        return
    assert found
    before = [answers for answers in varied() if answers != project.answers][: varied().index(project.answers)]
    if any((other := periodic(emitted(answers))) and other[0] == found[0] for answers in before):
        return
    made_by_tools = shutil.ignore_patterns(*MADE_BY_TOOLS)
    copy = Project(shutil.copytree(project.path, tmp_path / "my-chat", ignore=made_by_tools), project.answers)
    (copy.path / "app" / f"{found[2]}.py").write_text(found[1], "utf-8")
    for command in recipe(copy, "check")[:2]:
        finds_nothing(sys.executable, "-m", *command[2:], cwd=copy.path, cache=shared / "mypy")
    python = python_of(project)
    with services(project) as env, ExitStack() as stack:

        def start(*command: str) -> Process:
            return stack.enter_context(running(python, *command, cwd=copy.path, env=env))

        server = Server(start("-m", "uvicorn", "app.main:app", "--port", "0"))
        worker = start("-m", "app.worker")
        for _ in range(2):
            done = run(python, "-m", "app.nightly", cwd=copy.path, env=env)
            assert done.returncode == 0, done.stderr
        looked = run(python, "-c", UNTIL_ENDED, cwd=copy.path, env=env)
        assert looked.stdout.split() == ["succeeded", "1"], looked.stderr
        assert json.load(server.request("GET", "/jobs")) == []  # it is no job of whoever asks there
        worker.stop()
