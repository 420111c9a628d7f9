"""Numbers for people: rates, times, bytes and hosts, written alike on every screen."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 1000 * 365.25 * 86_400
"""Seconds that anything may take: 1,000 years."""


def number(value: float, digits: int = 3) -> str:
    """Return a number with so many digits, whole where it has more: never as a power of ten above one.

    >>> number(334.7), number(2400), number(47.31), number(2.5), number(-2400), number(2400, 2), number(2400.5, 6)
    ('335', '2,400', '47.3', '2.5', '-2,400', '2,400', '2,400.5')
    """
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:,.{digits}g}"


def short_of(rate: float, target: float) -> str:
    """Return a rate with as many digits as tell it from a target that it misses.

    >>> short_of(99.97, 100), short_of(2377.6, 2378), short_of(80, 100), short_of(120, 100)
    ('99.97', '2,377.6', '80', '120')
    """
    digits = 3
    while rate < target and digits < 15 and number(rate, digits) == number(target, digits):
        digits += 1
    return number(rate, digits)


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds, where several are to be compared.

    >>> milliseconds(0.005788), milliseconds(2.6e-5), milliseconds(1.5)
    ('5.79 ms', '0.026 ms', '1,500 ms')
    """
    return f"{number(seconds * 1e3)} ms"


def span(seconds: float) -> str:
    """Return a time in the unit that people would take.

    >>> span(0.00064), span(0.0034), span(0.677), span(2.7), span(2364), span(9000)
    ('0.64 ms', '3.4 ms', '677 ms', '2.7 s', '39 min', '2.5 h')
    """
    if seconds < 1:
        return f"{number(seconds * 1e3, 2)} ms"
    for unit, length in (("s", 1.0), ("min", 60.0), ("h", 3600.0)):
        if seconds < 120 * length or unit == "h":
            value = seconds / length
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    raise AssertionError


def duration(seconds: float) -> str:
    """Return how long something takes, to the second that people wait.

    >>> duration(0.4), duration(4.2), duration(180), duration(200), duration(7300), duration(float("inf"))
    ('under 1 s', '4 s', '3 min', '3 min 20 s', '2 h 1 min', 'more than 1,000 years')
    """
    if seconds < 1:
        return "under 1 s"
    if seconds > LONGEST:
        return "more than 1,000 years"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Return bytes, in powers of 1,000.

    >>> size(640), size(25_100), size(999_600), size(18_825_000_000), size(4.34e12)
    ('640 B', '25.1 kB', '1 MB', '18.8 GB', '4.34 TB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 999.5:
            return f"{number(count)} {unit}"
        count /= 1000
    return f"{number(count)} PB"


def many(count: float, one: str, plural: str | None = None, digits: int = 9) -> str:
    """Return how many there are of something, one or more.

    >>> many(1, "CPU"), many(2_000_000, "CPU"), many(1, "process"), many(64, "process"), many(2, "index", "indexes")
    ('1 CPU', '2,000,000 CPUs', '1 process', '64 processes', '2 indexes')
    """
    shown = number(count, digits)
    usual = f"{one}es" if one.endswith("s") else f"{one}s"
    return f"{shown} {one if shown == '1' else plural or usual}"


def each_of(host: str, hosts: int) -> str:
    """Return whose a figure is.

    >>> each_of("frontend", 1), each_of("frontend", 3)
    ('the one frontend', 'each of 3 frontends')
    """
    return f"the one {host}" if hosts == 1 else f"each of {hosts:,} {host}s"


def statement(query: str) -> str:
    """Return a statement by its table where it is an INSERT, else as much of it as a line has room for.

    >>> statement("INSERT INTO executions_visibility (namespace_id, run_id) VALUES ($1, $2)"), statement("COMMIT")
    ('INSERT INTO executions_visibility', 'COMMIT')
    """
    words = " ".join(query.split())
    if words.upper().startswith("INSERT INTO "):
        return " ".join(words.partition("(")[0].split()[:3])
    return words if len(words) <= 40 else f"{words[:37]}..."
