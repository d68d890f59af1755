from pathlib import Path

import pytest

from app.callers.settings import CallerSettings

SECRET = "s3cret"
NO_PAIR = "must be alice:KEY or alice:sha256:DIGEST; a name must match [a-z0-9][a-z0-9._-]{0,63}"
NO_KEY = "must be one word of ASCII, without quotes and backslashes, of 4096 characters at most"


@pytest.fixture(autouse=True)
def no_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (SECRET, f"number 1 {NO_PAIR}"),
        (f"alice:k,{SECRET}", f"number 2 {NO_PAIR}"),
        (f"alice:k,:{SECRET}", f"number 2 {NO_PAIR}"),
        (f"alice: ,bob:{SECRET}", f"number 1 {NO_PAIR}"),
        (f"alice:{SECRET},", f"number 2 {NO_PAIR}"),
        (f"alice:{SECRET},,bob:k", f"number 2 {NO_PAIR}"),
        (",", f"number 1 {NO_PAIR}"),
        (f"{SECRET.upper()}:k", f"number 1 {NO_PAIR}"),
        (f"-{SECRET}:k", f"number 1 {NO_PAIR}"),
        (f"a:k,{SECRET} b:l", f"number 2 {NO_PAIR}"),
        (f"{SECRET * 20}:k", f"number 1 {NO_PAIR}"),
        (f"alice:{SECRET} two", f"the key of number 1 {NO_KEY}"),
        (f"a:k,alice:{SECRET}\xe9", f"the key of number 2 {NO_KEY}"),
        (f'alice:"{SECRET}"', f"the key of number 1 {NO_KEY}"),
        (f"alice:{SECRET}...", "the key of number 1 is an example still: put your key there"),
        (f"alice:sha256:{SECRET}", "the key of number 1 must have 64 hexadecimal digits behind sha256:"),
        (f"alice:k,bob:sha256:{'5e' * 31}", "the key of number 2 must have 64 hexadecimal digits behind sha256:"),
        (f"alice:{SECRET},bob:k,carol:{SECRET}", "number 3 has the key of another before it"),
        (f"alice:{SECRET},alice:{SECRET}", "number 2 has the key of another before it"),
    ],
)
def test_what_is_wrong_with_the_keys_is_told_by_its_place_without_a_part_of_them(
    keys: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEYS", keys)
    with pytest.raises(SystemExit) as stopped:
        CallerSettings.read()
    assert str(stopped.value).splitlines()[1:] == [f"API_KEYS: {what}"]
    assert SECRET not in str(stopped.value).lower()


@pytest.mark.parametrize("key", ["two words", "k\u00e9y", "quo'ted", "sk-...", "k" * 5000, "sha256:abc"])
def test_a_bad_single_key_stops_the_start_too(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", key)
    with pytest.raises(SystemExit, match=r"(?m)^API_KEY: ") as stopped:
        CallerSettings.read()
    assert key not in str(stopped.value)


def test_keys_may_have_white_space_around_them_and_colons_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is mounted as a file often ends in a line break."""
    monkeypatch.setenv("API_KEYS", " alice: k:1 ,\n bob:k=2\n")
    monkeypatch.setenv("API_KEY", "k3\n")
    plain = CallerSettings(_env_file=None, api_keys="alice:k:1,bob:k=2", api_key="k3")
    assert CallerSettings.read() == plain
    assert [*plain.api_keys.values(), *plain.api_key.values()] == ["alice", "bob", "default"]


def test_no_key_shows() -> None:
    settings = CallerSettings(_env_file=None, api_keys=f"alice:{SECRET}", api_key=f"k{SECRET}")
    assert repr(settings) == "CallerSettings()"
