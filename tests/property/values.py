"""Values of many types, as the text that PostgreSQL reads."""

from __future__ import annotations

import json
import string

from hypothesis import strategies as st

# Text as applications have it, and what COPY, arrays and rows have to quote.
_ODD = "\\\t\n\r\b'\",{}()[]NULLé漢😀 ."
_characters = st.sampled_from(string.ascii_letters + string.digits + _ODD)
texts = st.text(_characters, max_size=12) | st.sampled_from(
    ["", "NULL", "\\N", "\\.", "a\\", "  x "]
)
_short = st.text(string.ascii_letters + "é \\", max_size=6)
_int4 = st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 3)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | _short,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_short, inner, max_size=2),
    max_leaves=4,
).map(json.dumps)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _array(each: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.just("NULL") | each.map(_quoted), max_size=3).map(
        lambda items: "{" + ",".join(items) + "}"
    )


_ranges = st.tuples(
    st.integers(-9, 9), st.integers(0, 9), st.sampled_from("[("), st.sampled_from("])")
)
_dates = st.dates().map(str) | st.sampled_from(["infinity", "-infinity", "0044-03-15 BC"])

BY_TYPE: dict[str, st.SearchStrategy[str]] = {
    "smallint": st.integers(-(2**15), 2**15 - 1).map(str),
    "integer": _int4.map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str) | _int4.map(str),
    "numeric(10,2)": st.decimals(-99999999, 99999999, places=2, allow_nan=False).map(str),
    "numeric": st.decimals(allow_infinity=False).map(
        lambda n: str(n).lstrip("-s") if n.is_nan() else str(n)
    ),
    "real": st.floats(width=32, allow_subnormal=False).map(str),
    "double precision": st.floats(allow_subnormal=False).map(repr),
    "text": texts,
    "character varying(20)": texts,
    "character(6)": _short,
    "boolean": st.sampled_from(["true", "false"]),
    "date": _dates,
    "timestamp without time zone": st.datetimes().map(str),
    "timestamp with time zone": st.datetimes().map(lambda when: f"{when}+03"),
    "interval": st.tuples(*[st.integers(-99, 99)] * 3).map(
        lambda n: f"{n[0]} mons {n[1]} days {n[2]}.000001 secs"
    ),
    "uuid": st.uuids().map(str),
    "bytea": st.binary(max_size=9).map(lambda octets: "\\x" + octets.hex()),
    "json": _json,
    "jsonb": _json,
    "integer[]": st.lists(st.just("NULL") | _int4.map(str), max_size=3).map(
        lambda items: "{" + ",".join(items) + "}"
    ),
    "text[]": _array(texts),
    "int4range": st.just("empty") | _ranges.map(lambda r: f"{r[2]}{r[0]},{r[0] + r[1]}{r[3]}"),
    "inet": st.ip_addresses().map(str),
    "mood": st.sampled_from(["sad", "it's", "Ok, fine"]),
    "mood[]": _array(st.sampled_from(["sad", "it's", "Ok, fine"])),
    "positive": st.integers(1, 2**31 - 1).map(str),
    "pair": st.tuples(_int4, texts).map(lambda p: f"({p[0]},{_quoted(p[1])})"),
}
# What a column may become: every value of the old type is one of the new one.
WIDER = {
    "smallint": ["integer", "bigint", "numeric"],
    "integer": ["bigint", "numeric", "double precision"],
    "numeric(10,2)": ["numeric"],
    "character varying(20)": ["text"],
    "text": ["character varying"],
    "date": ["timestamp without time zone"],
    "json": ["jsonb"],
    "mood": ["text", "character varying(20)"],
    "uuid": ["text"],
    "boolean": ["text"],
    "jsonb": ["text"],
    "positive": ["bigint", "integer"],
}
# What needs a look at the values, or cannot be at all.
OTHER = {
    "bigint": ["integer", "smallint", "text"],
    "text": ["integer", "mood", "uuid", "character(6)", "jsonb", "integer[]", "pair", "bytea"],
    "character varying(20)": ["character varying(5)", "mood", "boolean"],
    "double precision": ["integer", "real", "numeric(10,2)"],
    "real": ["double precision"],
    "timestamp with time zone": ["timestamp without time zone", "date"],
    "timestamp without time zone": ["timestamp with time zone", "date"],
    "integer": ["positive", "smallint", "boolean", "text"],
    "numeric": ["numeric(10,2)", "bigint"],
    "bytea": ["text", "uuid"],
    "mood": ["boolean", "mood[]"],
    "integer[]": ["text[]", "integer"],
    "character(6)": ["text", "character(9)"],
}
