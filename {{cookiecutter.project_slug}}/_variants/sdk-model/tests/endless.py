"""What a provider may not keep: a service sends without end."""

from gzip import compress

from tests.upstream import Answer

LONG = 16  # MiB
LINE = b"x" * 64 * 1024
ENDLESS = {
    "a line": Answer([b"data: ", *[LINE] * 16 * LONG]),
    "an event": Answer([b"data: " + LINE + b"\n"] * 16 * LONG),
    "an error": Answer([LINE + b"\n\n"] * 16 * LONG, 400),
    "a few bytes, decoded": Answer([compress(LINE * 16 * LONG)], headers={"Content-Encoding": "gzip"}),
    "an error, decoded": Answer([compress(LINE * 16 * LONG)], 400, {"Content-Encoding": "gzip"}),
}
