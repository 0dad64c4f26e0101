"""Finds the place of the model in a JSON document, and puts another name there. All other bytes stay the same. Pure."""

from collections import deque
from typing import Final

import orjson

from bbr.reading.base import Reading
from bbr.reading.decoding import DecodingReading
from bbr.reading.document import DocumentReading
from bbr.reading.json_body import STRING, model_value_offset
from bbr.reading.name import LONGEST_MODEL_BYTES
from bbr.reading.scan.scanner import Scanner


class ReplacedModel:
    """A document whose model is replaced, in pieces that are held.

    Attributes:
        pieces: the document with the other model.
        longer_bytes: by how much it is longer than it was; negative if it is shorter.
    """

    __slots__ = ("longer_bytes", "pieces")

    def __init__(self, pieces: deque[bytes | memoryview], longer_bytes: int) -> None:
        self.pieces = pieces
        self.longer_bytes = longer_bytes


# A place that has to be looked for in the whole document.
_UNKNOWN: Final = -1


def replace(octets: bytes, model: str) -> bytes:
    """Return a whole, valid document, which names a model, with another one in its place."""
    start = model_value_offset(octets)
    if start is None:  # of a few kilobytes: those that are not settled at once are held as long ones are
        scanner = Scanner(LONGEST_MODEL_BYTES)
        at = 0
        while at < len(octets):
            at = scanner.scan(octets, at)
        start = scanner.value_offset
    return b"".join((octets[:start], orjson.dumps(model), octets[_end(octets, start) :]))


def replace_in(pieces: deque[bytes | memoryview], reading: Reading, model: str) -> ReplacedModel | None:
    """Replace the model in a document of which all bytes up to behind it are held.

    Args:
        pieces: the document's first bytes, at least as far as its model reaches.
        reading: has read them, and knows the model.
        model: the other one.

    Returns:
        None if the body is no JSON document, or is forwarded as bytes that are none.
    """
    offset = _offset(reading)
    if offset is None:
        return None
    if offset == _UNKNOWN:
        whole = b"".join(pieces)
        changed = replace(whole, model)
        return ReplacedModel(deque([changed]), len(changed) - len(whole))
    rest = deque(pieces)
    before: deque[bytes | memoryview] = deque()
    at = 0
    while at + len(rest[0]) <= offset:
        at += len(rest[0])
        before.append(rest.popleft())
    start = offset - at
    # A name is short: of most documents all of it stands in one piece.
    around = bytes(rest.popleft())
    while not (end := _end(around, start)):
        around += rest.popleft()
    written = orjson.dumps(model)
    changed = b"".join((around[:start], written, around[end:]))
    return ReplacedModel(deque((*before, changed, *rest)), len(written) - (end - start))


def _offset(reading: Reading) -> int | None:
    """Return where the value of a document's model begins; _UNKNOWN if the reading has not noted it."""
    document = reading.inner if isinstance(reading, DecodingReading) else reading
    if not isinstance(document, DocumentReading):
        return None
    found = document.value_offset
    return _UNKNOWN if found is None else found


def _end(octets: bytes, start: int) -> int:
    """Return where the string ends that begins at an offset; 0 if that is beyond the bytes."""
    string = STRING.match(octets, start)
    return string.end() if string else 0
