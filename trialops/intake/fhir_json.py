"""JSON as a door keeper reads it: nothing is guessed, and nothing can exhaust the machine.

RFC 8259 leaves open what a repeated key, an endless number or a lone surrogate means; two readers would see two
patients. Each is a fault here. A fault names its kind and never quotes the text.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, BinaryIO

MAX_DEPTH = 64
"""Levels of nesting; the deepest R4 resources of real exports stay below 20."""
MAX_RESOURCE_CHARS = 32 * 1024 * 1024
"""Longest text of one resource (a Binary or an attachment can be large)."""
MAX_NUMBER_CHARS = 64
CHUNK = 256 * 1024
LONGEST_TOKEN = 12
"""Characters of the longest token that is not a string or number: an escaped surrogate pair."""

REASONS = {
    "WRONG_ENCODING": "the text is not UTF-8",
    "NOT_JSON": "the text is not JSON",
    "CUT_OFF": "the text ends before the JSON does",
    "DUPLICATE_KEY": "an object has the same key twice",
    "NOT_A_NUMBER": "NaN and Infinity are not JSON",
    "HUGE_NUMBER": "a number has more digits or a larger exponent than FHIR allows",
    "TOO_DEEP": f"objects are nested more than {MAX_DEPTH} deep",
    "TOO_LARGE": f"one resource has more than {MAX_RESOURCE_CHARS:,} characters",
    "BAD_CHARACTER": "a text holds NUL or half of a surrogate pair",
}


class JsonFault(ValueError):
    """Why a text cannot be used: `reason` is a key of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(REASONS[reason])
        self.reason = reason


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise JsonFault("DUPLICATE_KEY")
    return made


def _float(text: str) -> Decimal:
    if len(text) > MAX_NUMBER_CHARS:
        raise JsonFault("HUGE_NUMBER")
    number = Decimal(text)
    # An exponent a double cannot hold would be infinite, or zero, for every later reader.
    if number and not -308 <= number.adjusted() <= 307:
        raise JsonFault("HUGE_NUMBER")
    return number


def _int(text: str) -> int:
    if len(text) > 20:
        raise JsonFault("HUGE_NUMBER")
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise JsonFault("HUGE_NUMBER")
    return number


def _constant(text: str) -> Any:
    raise JsonFault("NOT_A_NUMBER")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_float, parse_int=_int, parse_constant=_constant, strict=True
)


def parse_strict(data: bytes) -> Any:
    """One JSON value that fills the text.

    Args:
        data: UTF-8; a byte order mark in front is passed over.

    Returns:
        Python values, fractions as Decimal.

    Raises:
        JsonFault: With the kind of fault.
    """
    if len(data) > MAX_RESOURCE_CHARS:
        raise JsonFault("TOO_LARGE")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise JsonFault("WRONG_ENCODING") from None
    text = text.strip(" \t\r\n")
    if not text:
        raise JsonFault("CUT_OFF")
    value, end = _decode(text, 0)
    if end != len(text):
        raise JsonFault("NOT_JSON")
    check_value(value)
    return value


def _decode(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise JsonFault("CUT_OFF" if _at_end(error, text) else "NOT_JSON") from None
    except RecursionError:
        raise JsonFault("TOO_DEEP") from None


def _at_end(error: json.JSONDecodeError, text: str) -> bool:
    """Whether more text could have mended it."""
    if error.pos >= len(text.rstrip(" \t\r\n")) or error.msg.startswith("Unterminated string"):
        return True
    rest = text[error.pos : error.pos + LONGEST_TOKEN]
    return any(word.startswith(rest) for word in ("true", "false", "null", "-"))


def check_value(value: Any) -> None:
    """Depth and characters of a parsed value; walks without recursion.

    Raises:
        JsonFault: TOO_DEEP or BAD_CHARACTER.
    """
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                for key in node:
                    _characters(key)
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
            elif isinstance(node, str):
                _characters(node)
        if not below:
            return
        level = below
    raise JsonFault("TOO_DEEP")


def _characters(text: str) -> None:
    if text.isascii():
        if "\0" in text:
            raise JsonFault("BAD_CHARACTER")
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise JsonFault("BAD_CHARACTER") from None
    if "\0" in text:
        raise JsonFault("BAD_CHARACTER")


class JsonStream:
    """Reads JSON values one after the other from bytes, holding one value and one chunk in memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self._ended = False

    def _fill(self) -> bool:
        """Read on; False at the end."""
        if self._ended:
            return False
        # Twice what is waiting: a value larger than a chunk is decoded anew a logarithmic number of times.
        wanted = max(CHUNK, len(self._text) - self._at)
        data = self._stream.read(wanted)
        self._ended = not data
        try:
            more = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError:
            raise JsonFault("WRONG_ENCODING") from None
        self._text = self._text[self._at :] + more
        self._at = 0
        return True

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if not self._fill():
                return ""

    def take(self, wanted: str) -> None:
        """Pass over one character.

        Raises:
            JsonFault: Another character stands there, or none.
        """
        found = self.peek()
        if found != wanted:
            raise JsonFault("NOT_JSON" if found else "CUT_OFF")
        self._at += 1

    def value(self) -> Any:
        """The next value, whole.

        Raises:
            JsonFault: It is no JSON, is cut off, or passes a limit.
        """
        if not self.peek():
            raise JsonFault("CUT_OFF")
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # Only a fault at the end of the text read so far can be mended by more of it.
                near = error.pos >= len(self._text) - LONGEST_TOKEN or _at_end(error, self._text)
                if near and not self._ended:
                    self._read_on()
                    continue
                raise JsonFault("CUT_OFF" if _at_end(error, self._text) else "NOT_JSON") from None
            except RecursionError:
                raise JsonFault("TOO_DEEP") from None
            if end >= len(self._text) - LONGEST_TOKEN and not self._ended:
                self._read_on()  # a number may go on in the next chunk
                continue
            if end - self._at > MAX_RESOURCE_CHARS:
                raise JsonFault("TOO_LARGE")
            self._at = end
            check_value(value)
            return value

    def _read_on(self) -> None:
        if len(self._text) - self._at > MAX_RESOURCE_CHARS:
            raise JsonFault("TOO_LARGE")
        self._fill()

    def elements(self) -> Iterator[Any]:
        """The elements of the array that comes next."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.peek() != ",":
                self.take("]")
                return
            self.take(",")

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next; the caller reads each value before the next key.

        Raises:
            JsonFault: Also when a key comes twice.
        """
        self.take("{")
        seen: set[str] = set()
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                self.take('"')
            key = self.value()
            if key in seen:
                raise JsonFault("DUPLICATE_KEY")
            seen.add(key)
            self.take(":")
            yield key
            if self.peek() != ",":
                self.take("}")
                return
            self.take(",")

    def end(self) -> None:
        """Nothing but white space may follow.

        Raises:
            JsonFault: Something does.
        """
        if self.peek():
            raise JsonFault("NOT_JSON")
