import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

import app.main  # noqa: F401 - so that all of them are known
from app.settings import EnvSettings, Settings, misspelt

EXAMPLE = Path(__file__).parent.parent / ".env.example"
ALL = EnvSettings.__subclasses__()
NUMBERS = [
    pytest.param(cls, name, field, id=name)
    for cls in ALL
    for name, field in cls.model_fields.items()
    if {int, float} & {field.annotation, *get_args(field.annotation)}
]


@pytest.fixture(autouse=True)
def no_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_LEVEL", "LOUD"),
        ("ENVIRONMENT", "prod"),
        ("HEARTBEAT_SECONDS", "0"),
        ("HEARTBEAT_SECONDS", "nan"),
        ("SEND_TIMEOUT_SECONDS", "inf"),
        ("DRAIN_SECONDS", "-1"),
        ("MAX_BODY_BYTES", "1 MB"),
        ("ALLOWED_HOSTS", "https://a.example"),
        ("ALLOWED_HOSTS", "a.example:8000"),
        ("ALLOWED_HOSTS", "A.example"),
        ("ALLOWED_HOSTS", "*"),
        ("CORS_ORIGINS", "https://a.example, b.example"),
        ("CORS_ORIGINS", "https://a.example/"),
        ("CORS_ORIGINS", "https://A.example"),
        ("CORS_ORIGINS", "https://*.example"),
        ("CORS_ORIGINS", "https://a.example:443"),
    ],
)
def test_a_bad_value_stops_the_start_with_the_settings_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"(?m)^{name}: "):
        Settings.read()


@pytest.mark.parametrize(("cls", "name", "field"), NUMBERS)
def test_every_number_has_a_smallest_and_a_largest_value(
    cls: type[EnvSettings], name: str, field: FieldInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallest = [getattr(each, "ge", getattr(each, "gt", None)) for each in field.metadata]
    largest = [each.le for each in field.metadata if hasattr(each, "le")]
    assert any(value is not None for value in smallest)
    assert len(largest) == 1
    for secret in (name for cls in ALL for name, field in cls.model_fields.items() if field.annotation is SecretStr):
        monkeypatch.setenv(secret, "k")  # some must be set
    monkeypatch.setenv("MODEL_PROVIDER", "echo")  # for another, some must fit to each other
    monkeypatch.setenv(name, str(largest[0]))
    assert getattr(cls.read(), name) == largest[0]
    monkeypatch.setenv(name, "3000000000")
    with pytest.raises(SystemExit, match=f"(?m)^{name.upper()}: Input should be less than or equal to "):
        cls.read()


def test_a_text_loses_the_white_space_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is mounted as a file often ends in a line break."""
    monkeypatch.setenv("APP_NAME", " My chat \n")
    assert Settings.read().app_name == "My chat"


def test_every_wrong_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAIN_SECONDS", "soon")
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    with pytest.raises(SystemExit, match=r"(?s)LOG_LEVEL: .*DRAIN_SECONDS: "):
        Settings.read()


def test_a_misspelt_name_in_the_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env").write_text("DRAIN_SECOND=1\nLOG_LEVEL=INFO\nCOMPOSE_PROJECT_NAME=chat\n")
    monkeypatch.setitem(EnvSettings.model_config, "env_file", tmp_path / "env")
    assert misspelt() == {"DRAIN_SECOND": "DRAIN_SECONDS"}


@pytest.mark.parametrize(
    "text", ["APP_NAME=k\n".encode("utf-16"), b"LOG_LEVEL=INFO\n" + "APP_NAME=k".encode("utf-16-le"), b"\xff"]
)
def test_a_file_that_can_not_be_read_stops_the_start(
    text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key may be in it."""
    (tmp_path / "env").write_bytes(text)
    monkeypatch.setitem(Settings.model_config, "env_file", str(tmp_path / "env"))
    with pytest.raises(SystemExit, match=r"env is no UTF-8 text"):
        Settings.read()


def test_a_file_that_is_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Settings.model_config, "env_file", str(tmp_path / "env"))
    monkeypatch.setenv("ENV_FILE", "")
    Settings.read()
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "env"))
    with pytest.raises(SystemExit, match="ENV_FILE: there is no file"):
        Settings.read()


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example, http://localhost:3000")
    assert Settings.read().cors_origins == ["https://a.example", "http://localhost:3000"]


def test_the_example_names_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = re.findall(r"^#? ?([A-Z_]+)=(.*)$", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(name for name, _ in lines) == sorted({name for cls in ALL for name in cls.names()})
    (tmp_path / ".env").write_text("\n".join(f"{name}={value}" for name, value in lines), encoding="utf-8")
    for secret in (name for cls in ALL for name, field in cls.model_fields.items() if field.annotation is SecretStr):
        assert dict(lines)[secret.upper()] == ""
        monkeypatch.setenv(secret, "k")  # some must be set
    for cls in ALL:
        assert cls(_env_file=".env") == cls(_env_file=None)
