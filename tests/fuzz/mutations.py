"""Inputs that nobody wrote: noise, and valid files with something wrong; and the one thing claimed of readers."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from capacity.errors import CapacityError

LONGEST = 2200
"""Characters of an error's line."""


def fuzzed(examples: int = 30) -> settings:
    """So many examples without a deadline; the file or variable of a test is written anew for each of them."""
    ignored = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=examples, suppress_health_check=ignored)


@contextlib.contextmanager
def only_ours(secret: str = "\n") -> Iterator[None]:
    """Within the block nothing comes out but an error of ours: one line of a length to be read, without a secret."""
    try:
        yield
    except CapacityError as error:
        line = str(error)
        assert line.strip()
        assert len(line.splitlines()) == 1
        assert len(line) <= LONGEST
        assert secret not in line


def refused() -> contextlib.AbstractContextManager[Any]:
    """What is in the block is refused by an error of ours."""
    return pytest.raises(CapacityError, match=r"\A[^\n]+\Z")


TOKENS = (
    *("null", "true", "false", "0", "-1", "1", "1.5", '""', '"text"', "[]", "{}", "[1, 2]", '{"a": 1}', "[[]]"),
    *("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e308", "5e-324", "-0.0", "1e15", "0.5", "[null]"),
    *("9" * 5000, "1" + "0" * 400, str(2**63), str(-(2**63) - 1), str(2**63 - 1), "1000000000000"),
    *("[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, "[" * 300 + "]" * 300, '{"a":' * 90 + "1" + "}" * 90),
    *(r'"\ud800"', r'{"\udfff": 1}', r'"\u0000"', r'"a\nb"', '"\u2028"', '"' + "x" * 70_000 + '"', "1,", "01", "'"),
)
"""Values as JSON has them, and as it has not."""
_RAW = "@raw@"


@st.composite
def json_texts(draw: st.DrawFn, *valid: Any) -> str:
    """The JSON of one of some valid values with one to three things wrong in it."""
    value = copy.deepcopy(draw(st.sampled_from(valid)))
    tokens: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        value = _changed(draw, value, tokens)
    text = json.dumps(value)
    for number, token in enumerate(tokens):
        text = text.replace(f'"{_RAW}{number}"', token)
    return text


def _token(draw: st.DrawFn, tokens: list[str]) -> str:
    tokens.append(draw(st.sampled_from(TOKENS)))
    return f"{_RAW}{len(tokens) - 1}"


def _changed(draw: st.DrawFn, value: Any, tokens: list[str]) -> Any:
    """Return a value with one place of it changed."""
    named = isinstance(value, dict)
    if not (named or isinstance(value, list)) or not value:
        if type(value) in (int, float) and draw(st.booleans()):
            return draw(st.sampled_from([-value, value * 10**9, value / 10**9, value + 1, 0, -1]))
        return _token(draw, tokens)
    places: list[Any] = sorted(value) if named else list(range(len(value)))
    place = draw(st.sampled_from(places))
    what = draw(st.sampled_from(["within", "within", "replace", "drop", "add", "whole", "twice"]))
    if what == "within":
        value[place] = _changed(draw, value[place], tokens)
    elif what == "replace":
        value[place] = _token(draw, tokens)
    elif what == "drop":
        del value[place]
    elif what == "whole" and draw(st.integers(0, 3)) == 0:
        return _token(draw, tokens)
    elif named:
        value[draw(st.sampled_from(["x", "schema_version", place + " ", "", "\ud800", "points"]))] = _token(
            draw, tokens
        )
    elif what == "twice":
        value.extend(value)
    else:
        value.insert(place, _token(draw, tokens))
    return value


@st.composite
def bytes_of(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> bytes:
    """A text as a file may hold it: mostly in UTF-8, now and then in another encoding, cut, flipped or run over."""
    text = draw(texts)
    how = draw(
        st.sampled_from(
            ["utf-8"] * 5 + ["utf-8-sig", "utf-16", "utf-32", "latin-1", "crlf", "cut", "flip", "nul", "more"]
        )
    )
    if how == "crlf":
        return text.replace("\n", "\r\n").encode("utf-8", "surrogatepass")
    if how in ("utf-16", "utf-32", "utf-8-sig", "utf-8"):
        return text.encode(how, "surrogatepass")
    if how == "latin-1":
        return ("é" + text).encode("latin-1", "replace")
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    if how == "cut":
        return bytes(content[:at])
    if how == "flip" and content:
        content[at] ^= draw(st.integers(1, 255))
    elif how == "nul":
        content[at:at] = b"\0"
    elif how == "more":
        content += draw(st.binary(max_size=20))
    return bytes(content)


def json_files(*valid: Any) -> st.SearchStrategy[bytes]:
    """Files of JSON: noise, and valid ones with something wrong."""
    return st.one_of(
        bytes_of(json_texts(*valid)),
        bytes_of(json_texts(*valid)),
        bytes_of(json_texts(*valid)),
        st.binary(max_size=40),
        bytes_of(st.sampled_from(TOKENS)),
    )


WORDS = (
    *("nan", "inf", "-inf", "0x" + "f" * 6000, "0o" + "7" * 6000, "9" * 5000, "9223372036854775807", "1e400", "1_000"),
    *("1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", "true", "false", "-1", "0", "0.5", '""', '"x"', "[]", "{}"),
    *(
        "[" * 2000 + "]" * 2000,
        "{a=" * 200 + "1" + "}" * 200,
        "[1, 'a']",
        "'''a\nb'''",
        '"\\ud800"',
        "{x = 1}",
        "[[1]]",
    ),
    *(
        '"' + "x" * 70_000 + '"',
        '"\\u0000"',
        "1e15",
        "1e-300",
        "1000000",
        "[0.5, 0.6]",
        "",
        '"a/b.json"',
        '"/dev/null"',
    ),
)
"""Values as TOML has them, and as it has not."""


@st.composite
def toml_texts(draw: st.DrawFn, *valid: str) -> str:
    """One of some TOML files with one to three lines wrong in it."""
    lines = draw(st.sampled_from(valid)).splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines)))
        line = lines[at] if at < len(lines) else ""
        key = (
            line.partition("=")[0] if "=" in line else draw(st.sampled_from(["x", "a.b", '"limits"', "name", "limits"]))
        )
        match draw(st.sampled_from(["value", "value", "value", "drop", "twice", "table", "key", "deep"])):
            case "value":
                lines[at : at + 1] = [f"{key} = {draw(st.sampled_from(WORDS))}"]
            case "drop":
                lines[at : at + 1] = []
            case "twice":
                lines[at:at] = [line]
            case "table":
                lines[at:at] = [
                    draw(st.sampled_from(["[x]", "[[x]]", "[limits]", "[limits.frontend]", "[a.b.c]", "["]))
                ]
            case "key":
                lines[at : at + 1] = [draw(st.sampled_from(["x", "", "x.y", "X" * 70_000, "\0", '""', "é"])) + " = 1"]
            case _:
                lines[at:at] = [".".join("a" * 3000) + " = 1"]
    return "\n".join(lines) + draw(st.sampled_from(["\n", ""]))


def toml_files(*valid: str) -> st.SearchStrategy[bytes]:
    """Files of TOML: noise, and valid ones with something wrong."""
    wrong = bytes_of(toml_texts(*valid))
    return st.one_of(wrong, wrong, wrong, st.binary(max_size=40), bytes_of(st.text(max_size=40)))


_ODD = (
    *("", " ", "4x", "0x", "x", "auto", "AUTO", "128", "-1", "+5", "1e3", "nan", "inf", "1e999", "9" * 5000, "1,2"),
    *("9" * 5000 + "x", "٣", "²", "٣x", "1_0", "0x10", "\0", "\udcff", "\ud800", "a=b", "=", "a=", "a" * 70_000),
    *("[" * 5000, "\n", "\x85", "true", "1", "0", "1.5", "rate=", "rate=1e999", "rate=nan", "processes=2"),
    *("shards=99999", "shards=²", "a.b=[1,", "a.b=NaN", "a.b=" + "[" * 5000, "64,rate=3", "processes=9" + "9" * 5000),
)
ODD_WORDS = st.one_of(
    st.text(max_size=12), st.text(alphabet="0123456789xX.,=+-eE :[]\"'aut", max_size=14), st.sampled_from(_ODD)
)
"""Words of a command line or a variable."""


def unreadable(folder: Path) -> list[Path]:
    """Paths of no file: a folder, nothing, names that cannot be, a link to itself, and one without an end."""
    loop = folder / "loop"
    loop.symlink_to(loop)
    return [
        folder,
        folder / "none",
        folder / "none" / "deeper",
        folder / ("x" * 300),
        folder / "\0",
        folder / "\udcff",
        loop,
        Path("/dev/zero"),
        Path("/proc/self/mem"),
    ]
