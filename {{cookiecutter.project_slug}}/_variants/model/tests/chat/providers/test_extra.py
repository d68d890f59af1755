import pytest

from app.chat.providers.settings import ProviderSettings


@pytest.fixture(autouse=True)
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_PROVIDER", "echo")


def test_extra_is_a_json_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_EXTRA", '{"top_p": 0.9, "stop": ["a", "b"]}')
    assert ProviderSettings.read().extra == {"top_p": 0.9, "stop": ["a", "b"]}
    monkeypatch.setenv("MODEL_EXTRA", "")
    assert ProviderSettings.read().extra == {}


@pytest.mark.parametrize("value", ["top_p=0.9", "[1]", "null", '{"messages": []}', '{"stream": false}', "[" * 100_000])
def test_anything_else_is_refused_by_name(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_EXTRA", value)
    with pytest.raises(SystemExit, match=r"(?m)^MODEL_EXTRA: must be "):
        ProviderSettings.read()
