"""What we write is what readers read that we have not written: a Python and a JavaScript library, and a browser."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import httpx_sse
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nasty import MEGABYTE, NASTY
from needs import NEEDS
from playwright.sync_api import sync_playwright
from rendering import environment, run
from running import BASE, serving_base

sys.path.append(str(BASE))
from app.streams.events import Done, Error, KeepAlive, Status, Token, encode  # type: ignore[import-not-found]

SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")  # Debian's
READERS = Path(__file__).parent / "readers"
PARSER = "eventsource-parser@3.1.1"  # the last that a Debian stable's Node can run


class Received(NamedTuple):
    """`last_id` is the stream's at this event: one without an id of its own leaves it as it was."""

    name: str
    data: Any
    last_id: str


Read = Callable[[Sequence[bytes]], list[Received]]


def python_reader(chunks: Sequence[bytes]) -> list[Received]:
    """httpx-sse. At a comment frame it gives an event without data, which the standard says is none."""
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=iter(chunks))
    events = httpx_sse.EventSource(response).iter_sse()
    return [Received(event.event, json.loads(event.data), event.id) for event in events if event.data]


@pytest.fixture(scope="session")
def javascript_reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    """eventsource-parser, in one process of Node for all examples."""
    folder = tmp_path_factory.mktemp("readers")
    script = shutil.copy(READERS / "eventsource_parser.mjs", folder)
    # A company's own certificate authority is known to the system, and not to the list that Node carries.
    trusts = "NODE_EXTRA_CA_CERTS" in os.environ or not SYSTEM_CERTIFICATES.exists()
    npm = ("npm", "install", "--prefix", str(folder), "--ignore-scripts", PARSER)
    install = run(*npm, cwd=folder, env=None if trusts else {"NODE_EXTRA_CA_CERTS": str(SYSTEM_CERTIFICATES)})
    assert install.returncode == 0, install.stdout + install.stderr
    node = NEEDS["node"].path()
    assert node
    with subprocess.Popen(
        [node, script], cwd=folder, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        written, printed = process.stdin, process.stdout

        def read(chunks: Sequence[bytes]) -> list[Received]:
            written.write(json.dumps([base64.b64encode(chunk).decode() for chunk in chunks]).encode() + b"\n")
            written.flush()
            answer = json.loads(printed.readline())
            assert answer["complaints"] == []
            return [Received(*event) for event in answer["events"]]

        yield read
        written.close()


@pytest.fixture(scope="session", params=["python", pytest.param("javascript", marks=pytest.mark.needs("node", "npm"))])
def read(request: pytest.FixtureRequest) -> Read:
    """Each reader that is a library."""
    return python_reader if request.param == "python" else request.getfixturevalue("javascript_reader")


def normal(value: Any) -> Any:
    """As JSON has it: two surrogates that stand beside each other by chance are one character to every reader."""
    return json.loads(json.dumps(value))


def written(events: Sequence[Any], last_words: bool) -> tuple[bytes, list[Received]]:
    """The bytes of a stream with these events, and what is to be read there.

    With `last_words` it ends in what the connection itself adds at a shutdown, which has no ids; else in a `done`.
    """
    stream, expected, last_id = b"", [], 0
    ends = [Error("server_shutdown", "-", True, "-"), Done("shutdown")] if last_words else [Done()]
    for event in [*events, *ends]:
        numbered = not isinstance(event, KeepAlive) and not (last_words and event in ends)
        last_id += numbered
        stream += encode(event, last_id if numbered else None)
        if not isinstance(event, KeepAlive):
            expected.append(Received(event.event_type, normal(event.data()), str(last_id or "")))
    return stream, expected


def cut(stream: bytes, sizes: Sequence[int]) -> list[bytes]:
    """In pieces of these sizes, over and over."""
    ends = itertools.takewhile(lambda end: end < len(stream), itertools.accumulate(itertools.cycle(sizes)))
    return [stream[start:end] for start, end in itertools.pairwise([0, *ends, len(stream)])]


def examples(test: Callable[..., None]) -> Callable[..., None]:
    """Each nasty text, byte by byte; all of them at once; and a text of a megabyte."""
    for text in NASTY:
        test = example(events=[Token(text)], last_words=False, sizes=[1])(test)
    everything = [event for text in NASTY for event in (Token(text), KeepAlive())]
    test = example(events=everything, last_words=True, sizes=[7, 1, 100])(test)
    return example(events=[Token(MEGABYTE), Token("after it")], last_words=False, sizes=[1, 65536, 4097])(test)


texts = st.text(st.sampled_from("".join(NASTY)) | st.characters())
events = st.builds(Token, texts) | st.builds(Status, texts, texts) | st.builds(KeepAlive)


@settings(max_examples=200, deadline=None, database=None)
@given(events=st.lists(events), last_words=st.booleans(), sizes=st.lists(st.integers(1, 200), min_size=1))
@examples
def test_a_reader_reads_what_was_written(read: Read, events: list[Any], last_words: bool, sizes: list[int]) -> None:
    """Names, data and ids, whatever the texts hold and wherever the network cuts; of keep-alives, nothing."""
    stream, expected = written(events, last_words)
    assert read(cut(stream, sizes)) == expected


@pytest.mark.needs("chromium")
def test_a_browser_reads_what_was_sent() -> None:
    """Every event until the server ends the response, with one `done`; a page that closes there sees no error."""
    with (
        serving_base("streaming_app:app", HEARTBEAT_SECONDS="0.05") as server,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=NEEDS["chromium"].path(), args=["--no-sandbox"]) as browser,
    ):
        assert b"\n: keep-alive\n" in server.request("GET", "/nasty").read()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.port}/blank")
        script = (READERS / "event_source.js").read_text("utf-8")
        stayed, left = (
            [Received(*event) for event in json.loads(page.evaluate(script, {"path": "/nasty", "leave": leave}))]
            for leave in (False, True)
        )
    sent = [Status("thinking", NASTY[0]), *map(Token, [*NASTY, MEGABYTE])]
    sent += [Error("model_error", "\n\n".join(NASTY), True, "-"), Done("error")]
    assert left == [
        Received(event.event_type, normal(event.data()), str(number)) for number, event in enumerate(sent, start=1)
    ]
    assert stayed == [*left, ("error", None, None)]
