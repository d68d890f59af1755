import importlib.util
from pathlib import Path

import pytest

from app.chat.providers.known_models import key_of, known_model
from app.chat.providers.settings import ProviderSettings
from app.settings import EnvSettings

KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "OLLAMA_BASE_URL")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put there goes with the test."""
    monkeypatch.delenv("MODEL_PROVIDER", raising=False)
    for name in KEYS:
        monkeypatch.setenv(name, "")  # so that it is as it was behind the test, whatever that puts there


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("openai:gpt-5.4-mini", "OPENAI_API_KEY"),
        ("openai-chat:Qwen/Qwen3-8B", "OPENAI_API_KEY"),
        ("anthropic:claude-haiku-4-5", "ANTHROPIC_API_KEY"),
        ("ollama:llama3.2", "OLLAMA_BASE_URL"),
    ],
)
def test_without_its_key_the_start_is_refused_by_the_keys_name(
    name: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_NAME", name)
    with pytest.raises(SystemExit, match=rf"(?m)^{key}: must be set; MODEL_PROVIDER=echo runs without one$"):
        ProviderSettings.read()
    monkeypatch.setenv("MODEL_PROVIDER", "echo")
    ProviderSettings.read()
    monkeypatch.setenv("MODEL_PROVIDER", "pydantic-ai")
    monkeypatch.setenv(key, "http://127.0.0.1:1/v1")
    assert ProviderSettings.read().model_name == name


@pytest.mark.parametrize("name", ["gpt", "nobody:model", ":", "openai"])
def test_a_model_that_pydantic_ai_does_not_know_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_NAME", name)
    with pytest.raises(SystemExit, match=r"(?m)^MODEL_NAME: Unknown model: "):
        ProviderSettings.read()


@pytest.mark.skipif(importlib.util.find_spec("groq") is not None, reason="it is installed")
def test_a_service_that_needs_a_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_NAME", "groq:llama")
    says = r"(?m)^MODEL_NAME: its service needs a package: uv add 'pydantic-ai-slim\[groq\]'$"
    with pytest.raises(SystemExit, match=says):
        ProviderSettings.read()


def test_an_example_of_a_key_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-...")
    with pytest.raises(SystemExit, match=r"(?m)^OPENAI_API_KEY: is an example still"):
        ProviderSettings.read()


def test_lines_of_the_settings_file_are_what_pydantic_ai_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the environment wins."""
    file = tmp_path / "settings"
    file.write_text("ANTHROPIC_API_KEY=sk-of-the-file\nOPENAI_API_KEY=sk-of-the-file\nOPENAI_BASE_URL=\n", "utf-8")
    monkeypatch.setitem(EnvSettings.model_config, "env_file", str(file))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    assert key_of(known_model("anthropic:claude-haiku-4-5")) == "sk-of-the-file"
    model = known_model("openai:gpt-5.4-mini")
    assert key_of(model) == "sk-of-the-environment"
    assert model.base_url == "https://api.openai.com/v1/"
