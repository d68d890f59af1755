"""Texts that an event stream could break on: what ends a line, begins a field, or is no valid UTF-8."""

NASTY = [
    "",
    "  a reader removes one space behind a colon, and no other ",
    "\t\u00a0\u3000spaces of other kinds",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\r\n\r\n",
    "a\nb\rc\r\nd\n\re",
    "ends a field\n\nevent: done\nid: 7\ndata: {}\n\n",
    ": a comment\n\n",
    "data: data: id: event: retry: 1",
    "\x00",
    "\x00\x01\x02\x1b\x7f\x80\x9f",
    "\ufeff",
    "\ufeffbehind a byte order mark",
    "before \u2028 and after",
    "before \u2029 and after",
    "before \x85 and after",
    "\x0b\x0c\x1c\x1d\x1e",  # what str.splitlines splits at, and the standard does not
    "\ud800",
    "\udfff\ud800",
    "half of one: \ud83d",
    "\ude00 the other half",
    "\ufffd\ufffe\uffff",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0010ffff",
    "e\u0301 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u202e\u65e5\u672c\u8a9e",
    '"quoted" \\ \\n \\u0041 \\ud800 </script> <!-- {"text": null}',
]
# A piece that goes through every buffer on the way many times, with something to break on everywhere in it.
MEGABYTE = "a line\u2028\r\n\U0001f600 \ud800".ljust(16, ".") * 2**16
