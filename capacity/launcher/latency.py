"""Latencies in bulk: HdrHistogram's buckets filled by numpy, ten times a second instead of once a start.

Range 1 µs to 1 hour, three significant digits: 23 buckets of 1024 counts above the first 1024, the layout of
``HdrHistogram(1, 3_600_000_000, 3)``, so that the counts encode to its V2 format.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

from capacity.files import UnreadableError

LOWEST: Final = 1
HIGHEST: Final = 3_600_000_000
DIGITS: Final = 3
_HALF: Final = 1024
BUCKETS: Final = 23 * _HALF
_OUTER_COOKIE: Final = 0x1C849304 | 0x10
_INNER_COOKIE: Final = 0x1C849303 | 0x10
_INNER: Final = struct.Struct(">iiiiqqd")  # cookie, length, offset, digits, lowest, highest, ratio
MOST_COUNT: Final = 2**48


def _index(micros: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    bucket: npt.NDArray[np.int64] = np.maximum(np.frexp(micros.astype(np.float64))[1] - 11, 0)
    index: npt.NDArray[np.int64] = (bucket + 1) * _HALF + (micros >> bucket) - _HALF
    return index


def _highest_values() -> npt.NDArray[np.float64]:
    index = np.arange(BUCKETS)
    bucket = np.maximum(index // _HALF - 1, 0)
    sub = np.where(index < _HALF, index, index % _HALF + _HALF)
    return ((sub + 1.0) * 2.0**bucket - 1) * 1e-6


_HIGHEST_VALUES: Final = _highest_values()


class Latencies:
    """A histogram of latencies [s].

    Examples
    --------
    >>> latencies = Latencies()
    >>> latencies.add(np.array([0.010, 0.020, 0.030]))
    >>> round(latencies.quantile(0.5), 3), latencies.count
    (0.02, 3)
    """

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(BUCKETS, np.int64)
        self.total = 0.0
        self.maximum = 0.0

    @property
    def count(self) -> int:
        """How many latencies were added."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Their mean [s]; nan when there are none."""
        count = self.count
        return self.total / count if count else float("nan")

    def add(self, seconds: npt.NDArray[np.float64]) -> None:
        """Add latencies, shape (n,) [s]; those outside 1 µs to 1 hour count at the end they exceed."""
        if not seconds.size:
            return
        micros = np.clip(np.rint(seconds * 1e6), LOWEST, HIGHEST).astype(np.int64)
        self.counts += np.bincount(_index(micros), minlength=BUCKETS)
        self.total += float(seconds.sum())
        self.maximum = max(self.maximum, float(seconds.max()))

    def merge(self, other: Latencies) -> None:
        """Add all of another histogram."""
        self.counts += other.counts
        self.total += other.total
        self.maximum = max(self.maximum, other.maximum)

    def quantile(self, fraction: float) -> float:
        """Return the latency that this fraction of all does not exceed [s], to three digits; nan when empty."""
        counts = np.maximum(self.counts, 0)  # of a fleet's second in which a launcher was lost with what it had told
        count = int(counts.sum())
        if not count:
            return float("nan")
        rank = max(1, int(np.ceil(fraction * count)))
        index = int(np.searchsorted(np.cumsum(counts), rank))
        return min(float(_HIGHEST_VALUES[index]), self.maximum)

    def at_most(self, seconds: float) -> int:
        """Return how many latencies do not exceed a bound [s], to three digits."""
        return int(self.counts[: int(np.searchsorted(_HIGHEST_VALUES, seconds * (1 + 1e-9), side="right"))].sum())

    def encode(self) -> str:
        """Return the histogram in HdrHistogram's V2 format [µs], compressed, base64."""
        from hdrh.histogram import HdrHistogram

        histogram = HdrHistogram(LOWEST, HIGHEST, DIGITS)
        for index in np.nonzero(self.counts)[0]:
            histogram.record_value(round(_HIGHEST_VALUES[index] * 1e6), int(self.counts[index]))
        encoded: bytes = histogram.encode()
        return encoded.decode()

    @classmethod
    def decode(cls, text: str) -> Latencies:
        """Return the histogram of an encoded one; its total and maximum are then exact to three digits.

        Raises
        ------
        UnreadableError
            If it is none, or one of another range.
        """
        latencies = cls()
        latencies.counts[:] = _counts(_payload(text))
        values = _HIGHEST_VALUES
        latencies.total = float(latencies.counts @ values)
        used = np.nonzero(latencies.counts)[0]
        latencies.maximum = float(values[used[-1]]) if used.size else 0.0
        return latencies


# Read here and not by the package that wrote it: that one takes range and length from the text, whatever they are.


def _payload(text: str) -> bytes:
    """Return the counts in HdrHistogram's V2 encoding: a header around compressed bytes, in these another header."""
    try:
        packed = base64.b64decode(text, validate=True)
        cookie, length = struct.unpack_from(">ii", packed)
        unpacking = zlib.decompressobj()
        unpacked = unpacking.decompress(packed[8:], _INNER.size + 9 * BUCKETS)
        inner, size, offset, digits, lowest, highest, ratio = _INNER.unpack_from(unpacked)
    except (ValueError, struct.error, zlib.error) as error:
        raise UnreadableError("is no latency histogram") from error
    if (cookie, length, inner) != (_OUTER_COOKIE, len(packed) - 8, _INNER_COOKIE) or not unpacking.eof:
        raise UnreadableError("is no latency histogram")
    if (offset, digits, lowest, highest, ratio) != (0, DIGITS, LOWEST, HIGHEST, 1.0):
        raise UnreadableError("is a latency histogram of another range than 1 µs to 1 h to three digits")
    payload = unpacked[_INNER.size :]
    if size != len(payload):
        raise UnreadableError("is no latency histogram: its length is not what it says")
    return payload


def _counts(payload: bytes) -> list[int]:
    """Return the counts: ZigZag numbers of 7 bits a byte, the ninth of 8; a negative one stands for so many zeros."""
    counts: list[int] = []
    at = 0
    while at < len(payload):
        number = shift = 0
        for byte in payload[at : at + 9]:
            at += 1
            last = shift == 56 or byte < 128
            number |= (byte if last else byte & 127) << shift
            shift += 7
            if last:
                break
        else:
            raise UnreadableError("is no latency histogram: it is cut off")
        value = number >> 1 ^ -(number & 1)
        if value < -(BUCKETS - len(counts)) or value > MOST_COUNT or len(counts) >= BUCKETS:
            raise UnreadableError("is no latency histogram: its counts are out of range")
        counts += [value] if value >= 0 else [0] * -value
    return counts + [0] * (BUCKETS - len(counts))
