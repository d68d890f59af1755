"""What is emitted, file by file, for each choice."""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from rendering import Answers, Project, choices, first_or_slow, in_order, named, varied
from variants import OVERLAYS, brought, chosen, folders, part

BASE = "{{cookiecutter.project_slug}}"
COMMON = {
    "": "ARCHITECTURE.md Dockerfile Makefile Procfile README.md compose.yaml pyproject.toml",
    "./": ".dockerignore .env.example .gitattributes .gitignore",
    ".github/workflows/": "ci.yml",
    "deploy/": "kubernetes.yaml",
    "app/": "__init__.py admission.py application.py background.py client_limits.py connections.py contain.py "
    "dependencies.py descriptors.py digest.py error_handlers.py errors.py feedback.py health.py json_logs.json logs.py "
    "main.py middleware.py page.py printable.py rooms.py settings.py shutdown.py telemetry.py",
    "app/callers/": "__init__.py caller.py guard.py known.py settings.py",
    "app/chat/": "__init__.py answer.py answer_settings.py answer_store.py answer_stream.py answers.py asides.py "
    "dependencies.py front_ends.py generation.py known_answer.py room.py routes.py usage.py well_formed.py",
    "app/chat/providers/": "__init__.py base.py echo.py settings.py",
    "app/jobs/": "__init__.py backend.py definition.py dependencies.py events.py job.py lease.py queue.py records.py "
    "relay.py result.py room.py routes.py runner.py settings.py status.py store.py tasks.py unfit.py watchers.py",
    "app/limits/": "__init__.py counting.py rate.py room.py settings.py",
    "app/streams/": "__init__.py client.py docs.py events.py heartbeat.py log.py places.py response.py source.py",
    "app/web/": "answer.js api.js chat.js conversations.js copy.js documents.js icon.svg index.html list.js "
    "markdown.js page.css page.js parts.js prose.js",
    "tests/": "__init__.py apps.py asgi.py conftest.py providers.py server.py sse.py test_background.py "
    "test_client_limits.py test_connections.py test_descriptors.py test_errors.py test_feedback.py test_health.py "
    "test_logs.py test_main.py test_middleware.py test_page.py test_served.py test_settings.py test_shutdown.py "
    "test_stream_limits.py test_telemetry.py two_callers.py",
    "tests/callers/": "__init__.py knowing.py test_guard.py test_known.py test_settings.py",
    "tests/chat/": "__init__.py asking.py backing.py conftest.py test_answer_store.py test_answers.py "
    "test_coming_back.py test_generation.py test_routes.py test_usage.py",
    "tests/chat/providers/": "__init__.py test_echo.py",
    "tests/jobs/": "__init__.py backing.py conftest.py fakes.py test_backend.py test_backlog.py test_definition.py "
    "test_events.py test_job.py test_queue.py test_relay.py test_result.py test_routes.py test_runner.py "
    "test_settings.py test_store.py test_tasks.py test_untold.py",
    "tests/limits/": "__init__.py backing.py conftest.py test_rate.py test_room.py",
    "tests/streams/": "__init__.py dialects.py test_client.py test_events.py test_faults.py test_heartbeat.py "
    "test_in_fastapi.py test_log.py test_places.py test_readers.py test_response.py test_source.py",
}
# Of the common files, those that one durable queue may have different from another. What any of them adds lies in
# app/jobs/, tests/jobs/, where a worker and its tests are, and where answers are kept.
OF_THE_LIBRARY = {"app/jobs/backend.py", "app/jobs/settings.py", "tests/jobs/backing.py", "tests/jobs/test_backend.py"}
# The same of app/ in all queues: none keeps jobs and answers in its memory.
OF_THE_QUEUE = OF_THE_LIBRARY | {
    f"app/{name}.py"
    for name in (
        "jobs/records",
        "jobs/store",
        "chat/answer_settings",
        "chat/answer_store",
        "limits/counting",
        "limits/settings",
    )
}
ADDED_BY_QUEUES = re.compile(
    r"(app|tests)/jobs/\w+\.py|app/worker\.py|scripts/dev\.py|\.github/workflows/ci\.yml"
    r"|(app|tests)/limits/\w+\.py|app/redis_client\.py|app/chat/answers?_\w+\.py"
    r"|tests/chat/(backing|replicas|test_answer_(places|store))\.py"
    r"|tests/test_redis_client\.py"
)
MOST_LINES = 150
MOST_LINES_OF_CALLERS = 250
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
COPIED_AS_THEY_ARE = re.compile(r"\.github/|app/web/|deploy/(grafana\.json|prometheus-rules\.yaml)")


@pytest.fixture(scope="session", params=first_or_slow(len(varied()), in_order()), ids=named)
def answers(request: pytest.FixtureRequest) -> Answers:
    """Each two choices together.

    More would show nothing else. A file comes from one folder, and a text is put together of parts: each of them is
    there or not by one answer, and asks for those of another at most (tests/test_sources.py). None ends in an empty
    line, so that wherever a part is missing, its neighbours leave no gap.
    """
    answers: Answers = request.param
    return answers


def listed(files: dict[str, str]) -> set[str]:
    return {f"{folder.removeprefix('./')}{name}" for folder, names in files.items() for name in names.split()}


def test_these_files_are_emitted_and_no_others(answers: Answers, emitted: Callable[[Answers], Project]) -> None:
    """The tree of each choice, exactly."""
    added = set[str]().union(*map(brought, chosen(answers)))
    assert emitted(answers).files() == sorted(listed(COMMON) | added)


def test_a_project_names_each_dependency_once(answers: Answers, emitted: Callable[[Answers], Project]) -> None:
    """Several of its parts may need the same one."""
    named = tomllib.loads(emitted(answers).read("pyproject.toml"))["project"]["dependencies"]
    assert len(named) == len(set(named))


def products(folders: Iterable[str]) -> set[str]:
    """The products that these folders are about; a project in which none of them was chosen says no such name."""
    files = [part(folder, "products") for folder in folders]
    return {line for file in files if file.exists() for line in file.read_text("utf-8").splitlines()}


def test_no_template_syntax_is_left(answers: Answers, emitted: Callable[[Answers], Project]) -> None:
    """In what is copied as it is, GitHub's own `${{ }}` may stand, and what Grafana and Prometheus put in there."""
    project = emitted(answers)
    for name in project.files():
        text = project.read(name)
        if COPIED_AS_THEY_ARE.match(name):
            text = re.sub(r"\$\{\{[^{}]*\}\}|\{\{ ?\$?[a-z_.]+( \| \w+)? ?\}\}", "", text)
        assert not re.findall(r"\{\{|\{%|\{#|cookiecutter", text), name


def test_no_product_that_was_not_chosen_is_named(answers: Answers, emitted: Callable[[Answers], Project]) -> None:
    """Whoever reads the project has never seen this template, and what else it could have given."""
    project = emitted(answers)
    foreign = "|".join(sorted(products(folders()) - products(chosen(answers))))
    product = re.compile(rf"(?<![a-z0-9])({foreign})(?![a-z0-9])", re.IGNORECASE)
    found = {name: product.findall(name + "\n" + project.read(name)) for name in project.files()}
    assert {name: names for name, names in found.items() if names} == {}


def test_no_file_is_empty_but_those_that_mark_a_package(
    answers: Answers, emitted: Callable[[Answers], Project]
) -> None:
    project = emitted(answers)
    empty = {Path(name).name for name in project.files() if not project.read(name).strip()}
    assert empty <= {"__init__.py", "py.typed"}


def test_text_is_tidy(answers: Answers, emitted: Callable[[Answers], Project]) -> None:
    """No trailing spaces, one newline at the end, and no gaps where a condition stood."""
    project = emitted(answers)
    for name in project.files():
        text = (project.path / name).read_bytes().decode()
        assert "\r" not in text, name
        assert not text or text.endswith("\n"), name
        assert not re.search(r"[ \t]\n|\A\n|\n\n\Z", text), name
        assert name.endswith((".md", ".py")) or "\n\n\n" not in text, name


def test_python_is_emitted_as_it_lies_in_the_template(
    answers: Answers, emitted: Callable[[Answers], Project], template: Path
) -> None:
    """Byte for byte, from the last overlay that has the file: the slug in app/settings.py is the one expression."""
    project = emitted(answers)
    base = template / BASE
    trees = [base, *(base / "_variants" / folder for folder in chosen(answers))]
    for name in project.files():
        if name.endswith(".py"):
            source = next(tree / name for tree in reversed(trees) if (tree / name).exists()).read_bytes()
            if name == "app/settings.py":
                source = source.replace(b"{{ cookiecutter.project_slug }}", project.path.name.encode())
            assert (project.path / name).read_bytes() == source, name


def test_a_module_of_the_application_can_be_read_in_one_go(template: Path) -> None:
    """It has not more lines than that, in the base tree and in each variant."""
    base = template / BASE
    lines = {
        path.relative_to(base).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in base.rglob("app/**/*.py")
    }
    assert {"app/main.py", "_variants/redis/app/jobs/store.py"} <= lines.keys()
    assert {name: number for name, number in lines.items() if number > MOST_LINES} == {}


def test_how_callers_are_known_can_be_read_in_one_go(template: Path) -> None:
    """That many lines has each project, and that many of code all ways to know them together."""
    base = template / BASE
    every = set[Path]()
    for auth in choices("auth"):
        trees = base, base / "_variants" / auth  # of a file that both have, the overlay's is emitted
        files = {path.name: path for tree in trees for path in tree.glob("app/callers/*.py")}
        assert {"guard.py", "known.py", "settings.py"} <= files.keys()
        lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in files.items()}
        assert sum(lines.values()) <= MOST_LINES_OF_CALLERS, (auth, lines)
        every |= set(files.values())
    code = {path.relative_to(base).as_posix(): lines_of_code(path.read_text("utf-8")) for path in every}
    assert sum(code.values()) <= MOST_LINES_OF_CALLERS, code


def lines_of_code(text: str) -> int:
    """Without those that are blank, comments or docstrings."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {line for token in tokens if token.type not in NO_CODE for line in range(token.start[0], token.end[0] + 1)}
    texts = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr)]
    told = [node for node in texts if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)]
    return len(lines.difference(*(range(node.lineno, (node.end_lineno or 0) + 1) for node in told)))


def of_other_questions() -> set[str]:
    """What answers bring that are not about the queue: as it lies in their folders, whatever the queue is."""
    others = [chain for question, of_it in OVERLAYS.items() if question != "queue_backend" for chain in of_it.values()]
    return {name for chain in others for folder in chain for name in brought(folder)}


def test_only_the_queues_own_files_differ_from_choice_to_choice(emitted: Callable[[Answers], Project]) -> None:
    """All of app/ but what opens the store and hands ids to a worker is the same bytes in every project, and but for
    what the answers to other questions bring."""
    projects = [emitted(answers) for answers in varied()]
    names = {name for project in projects for name in project.files() if name.startswith("app/")}
    for name in names & listed(COMMON) - OF_THE_QUEUE - of_other_questions():
        assert len({(project.path / name).read_bytes() for project in projects}) == 1, name


def test_what_a_queue_brings_lies_where_jobs_and_workers_do() -> None:
    """Whatever it is: so that nothing else of a project depends on the queue."""
    queues = {folder for chain in OVERLAYS["queue_backend"].values() for folder in chain}
    assert [name for folder in queues for name in brought(folder) if not ADDED_BY_QUEUES.fullmatch(name)] == []


def test_only_the_librarys_own_files_differ_from_one_durable_queue_to_another(
    emitted: Callable[[Answers], Project],
) -> None:
    """Accepting, relaying, leases, attempts, results and events, and their tests, are the same bytes in each."""
    projects = [emitted(answers) for answers in varied() if answers["queue_backend"] != "none"]
    contents = [
        {name: (project.path / name).read_bytes() for name in project.files() if name.startswith(("app/", "tests/"))}
        for project in projects
    ]
    names = set[str]().union(*contents) - of_other_questions()
    differing = {name for name in names if len({content.get(name) for content in contents}) > 1}
    assert differing & listed(COMMON) == OF_THE_LIBRARY
    shared = set.intersection(*(set(chain) for queue, chain in OVERLAYS["queue_backend"].items() if queue != "none"))
    assert {name for folder in shared for name in brought(folder)} & differing == set()
