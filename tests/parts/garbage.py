"""What no process of ours would ever say: lines that break whoever believes them, and a search for more of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

UNREADABLE: Mapping[str, bytes] = {
    "deep list": b"[" * 300_000 + b"\n",
    "deep object": b'{"a":' * 300_000 + b"\n",
    "deep and closed": b'{"confirm":' + b"[" * 5_000 + b"]" * 5_000 + b"}\n",
    "deep behind strings": b'{"hello":{"a":"]]]]","b":' + b'["]",' * 2_000 + b"1" + b"]" * 2_000 + b"}}\n",
    "deep behind quotes": b'{"a":"\\"",' + b'"b":[' * 100_000 + b"\n",
    "a quote without an end": b'{"a":"' + b'\\"' * 100_000 + b"\n",
    "five thousand digits": b'{"confirm":' + b"9" * 5_000 + b"}\n",
    "not UTF-8": b'{"hello":"\xff\xfe"}\n',
    "UTF-16": '{"hello":1}'.encode("utf-16") + b"\n",
    "half a character": b'{"log":"info","event":"\\ud800"}\n',
    "NaN": b'{"kind":"meters","counters":{"lag_s":NaN}}\n',
    "infinity": b'{"retire":-Infinity}\n',
    "no object": b"[1]\n",
    "null": b"null\n",
    "no JSON": b"GET / HTTP/1.1\r\n",
    "zeros": b"\x00" * 1_000 + b"\n",
}
"""Lines that nobody reads, whichever channel they come on."""

ENDLESS = b'{"event":"' + b"x" * 1_000_000
"""Sent again and again without a newline."""

HUGE = 10**4000
_KEYS = (
    "hello", "worker", "version", "first", "drained", "confirm", "behind", "table", "kind", "app", "upstream",
    "counters", "requests", "events", "active", "bounds", "buckets", "count", "seconds", "connections", "lag_s",
    "release", "class", "bytes_in", "held", "what", "why", "required", "apps", "format", "base", "sticky_key",
    "certificates", "welcome", "send", "roster", "pids", "inspectors", "ready", "kill", "inspect", "log", "event",
    "accepting", "alive", "retire", "born", "pid", "stillborn", "died", "status", "failed", "fork", "captured",
    "entry", "response", "content", "encoding", "text", "refused", "began", "full", "trouble", "error", "exhausted",
    "addons", "capture", "filter", "size", "end", "number",
)  # fmt: skip
_WORDS = (
    "", "shop", "debug", "info", "unbind", "bind", "__class__", "_context", "drained", "refused", "limit", "meters",
    "table", "inspector", "base64", "1", "../../etc", "a" * 5_000, "\x00", "\x1b[2J", "é",
)  # fmt: skip
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 20)
    | st.sampled_from((2**53 + 1, -(2**70), HUGE, 1e300, 0.5, 1e999))
    | st.sampled_from(_WORDS)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=12,
)
messages = st.dictionaries(st.sampled_from(_KEYS), _values, max_size=4)
"""Messages with the fields that we know, and anything in them."""


def _render(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


streams = st.lists(
    messages.map(_render) | st.sampled_from(sorted(UNREADABLE.values())) | st.binary(max_size=50),
    min_size=1,
    max_size=4,
).map(b"".join)
"""Bytes as they might arrive: known fields with odd values, garbage, and both after another."""
