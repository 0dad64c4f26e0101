"""Bodies that servers could read as several types. Read as each of them, they must name the same model, or none."""

import re
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from bbr import refusal
from bbr.pieces import add_piece
from bbr.reading import spelling
from bbr.reading.base import Pieces, Reading
from bbr.reading.beginning import Beginning
from bbr.reading.fields import FieldValues
from bbr.refusal import Refusal

_NAME: Final = re.compile(
    rb"name[ \t]*+(?:\*[0-9*]*+)?+[ \t]*+=[ \t]*+(?:[A-Za-z0-9_-]*+'[^'\r\n]*+')?+\"?+", re.IGNORECASE
)
_NAME_END: Final = re.compile(rb"[\";\r\n]")
# The longest that is looked at: `name=` with blanks, and a name.
_NAME_BYTES: Final = 64 + spelling.MAX_BYTES

# What a Watch looks at at once: half a millisecond of nothing but names with escapes.
_WATCHED_BYTES: Final = 768


class Watch(Protocol):
    """Looks at bytes for what some server would find there."""

    def feed(self, octets: bytes) -> None:
        """Look at the next ones.

        Raises:
            Refusal: 400; it would find something.
        """

    def end(self) -> None:
        """Take note that no more will come.

        Raises:
            Refusal: as `feed`.
        """


class DashWatch:
    """A Watch for what could be a multipart boundary, in a body that is JSON."""

    def __init__(self) -> None:
        self._last = b""

    def feed(self, octets: bytes) -> None:
        """See Watch."""
        if b"--" in self._last + octets[:1] or b"--" in octets:
            raise refusal.content_type_ambiguous("it is JSON, and could hold a multipart body")
        self._last = octets[-1:] or self._last

    def end(self) -> None:
        """See Watch."""


class NameWatch:
    """A Watch for a part called `model`, in a multipart body that is no form: some servers read each as one."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, octets: bytes) -> None:
        """See Watch."""
        text = self._tail + octets
        for found in _NAME.finditer(text):
            start = found.end()
            end = _NAME_END.search(text, start, start + spelling.MAX_BYTES)
            if not end and len(text) - start < spelling.MAX_BYTES:
                continue  # the rest of it may come
            if spelling.is_alike(text[start : end.start() if end else len(text)]):
                raise refusal.multipart_model("a part of a body that is no form is called `model`")
        self._tail = text[-_NAME_BYTES:]

    def end(self) -> None:
        """See Watch."""


class Watches:
    """Several Watches over the same bytes."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches

    def feed(self, octets: bytes) -> None:
        """See Watch."""
        for watch in self._watches:
            watch.feed(octets)

    def end(self) -> None:
        """See Watch."""
        for watch in self._watches:
            watch.end()


class WatchReading:
    """A Reading that finds no model, and has a Watch look at the body (see bbr.reading.base.Reading)."""

    settled: Final = False
    serde_differs: Final = False
    memory_bytes: Final = 0
    model: Final = None
    fields: Final = None

    def __init__(self, watch: Watch) -> None:
        self.pending = False
        self.passable_bytes = 0
        self._watch = watch
        self._pieces = Pieces()

    @property
    def unread_bytes(self) -> int:
        """See Reading."""
        return self._pieces.size

    def feed(self, octets: bytes) -> None:
        """See Reading."""
        self._pieces.add(octets)
        self.pending = self._pieces.size > 0

    def close(self) -> None:
        """See Reading."""
        self.pending = True

    def work(self) -> None:
        """See Reading."""
        if self._pieces.size:
            piece = self._pieces.next(_WATCHED_BYTES)
            self._watch.feed(piece)
            self._pieces.skip(len(piece))
            self.passable_bytes += len(piece)
        self.pending = self._pieces.size > 0

    def result(self) -> None:
        """See Reading."""


class Unread:
    """A Reading of a body that names no model, whatever stands in it (see bbr.reading.base.Reading)."""

    settled: Final = True
    serde_differs: Final = False
    model: Final = None
    fields: Final = None
    unread_bytes: Final = 0
    memory_bytes: Final = 0

    def __init__(self) -> None:
        self.pending = False
        self.passable_bytes = 0

    def feed(self, octets: bytes) -> None:
        """See Reading."""
        self.passable_bytes += len(octets)
        self.pending = True

    def close(self) -> None:
        """See Reading."""
        self.pending = True

    def work(self) -> None:
        """See Reading."""
        self.pending = False

    def result(self) -> None:
        """See Reading."""


class Together:
    """A Reading of one body as several types, of which each is read to the end (see bbr.reading.base.Reading).

    Its model is known at the end, when all have one result.
    """

    settled: Final = False
    model: Final = None

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings

    @property
    def serde_differs(self) -> bool:
        """See Reading."""
        return any(reading.serde_differs for reading in self._readings)

    @property
    def fields(self) -> FieldValues | None:
        """See Reading: those of the one that reads JSON."""
        return next((reading.fields for reading in self._readings if reading.fields is not None), None)

    @property
    def pending(self) -> bool:
        """See Reading."""
        return any(reading.pending for reading in self._readings)

    @property
    def passable_bytes(self) -> int:
        """See Reading."""
        return min(reading.passable_bytes for reading in self._readings)

    @property
    def unread_bytes(self) -> int:
        """See Reading."""
        return max(reading.unread_bytes for reading in self._readings)

    @property
    def memory_bytes(self) -> int:
        """See Reading."""
        return sum(reading.memory_bytes for reading in self._readings)

    def feed(self, octets: bytes) -> None:
        """See Reading."""
        for reading in self._readings:
            reading.feed(octets)

    def close(self) -> None:
        """See Reading."""
        for reading in self._readings:
            reading.close()

    def work(self) -> None:
        """See Reading."""
        next(reading for reading in self._readings if reading.pending).work()

    def result(self) -> str | None:
        """See Reading."""
        names: set[str | None] = set()
        unnamed: Refusal | None = None
        for reading in self._readings:
            try:
                names.add(reading.result())
            except Refusal as refused:
                unnamed = refused.kept()
        names.discard(None)
        if len(names) > 1 or (names and unnamed):
            raise refusal.content_type_ambiguous("read as one type it names another model than read as the other")
        if unnamed:
            raise unnamed
        return next(iter(names), None)


class ByBeginning:
    """A Reading that is chosen by what a body begins with (see bbr.reading.base.Reading).

    Args:
        as_object: makes what reads a body that begins as a JSON object or list does.
        otherwise: makes what reads any other.
    """

    def __init__(self, as_object: Callable[[], Reading], otherwise: Callable[[], Reading]) -> None:
        self._as_object = as_object
        self._otherwise = otherwise
        self._chosen: Reading | None = None
        self._beginning = Beginning()
        self._held: list[bytes] = []  # until it is chosen
        self._held_bytes = 0

    @property
    def pending(self) -> bool:
        """See Reading."""
        return self._chosen is not None and self._chosen.pending

    @property
    def settled(self) -> bool:
        """See Reading."""
        return self._chosen is not None and self._chosen.settled

    @property
    def serde_differs(self) -> bool:
        """See Reading."""
        return self._chosen is not None and self._chosen.serde_differs

    @property
    def model(self) -> str | Refusal | None:
        """See Reading."""
        return self._chosen.model if self._chosen is not None else None

    @property
    def fields(self) -> FieldValues | None:
        """See Reading."""
        return self._chosen.fields if self._chosen is not None else None

    @property
    def passable_bytes(self) -> int:
        """See Reading."""
        return self._chosen.passable_bytes if self._chosen is not None else 0

    @property
    def unread_bytes(self) -> int:
        """See Reading."""
        return self._chosen.unread_bytes if self._chosen is not None else self._held_bytes

    @property
    def memory_bytes(self) -> int:
        """See Reading."""
        return self._chosen.memory_bytes if self._chosen is not None else 0

    def feed(self, octets: bytes) -> None:
        """See Reading."""
        if self._chosen is not None:
            self._chosen.feed(octets)
            return
        add_piece(self._held, octets)
        self._held_bytes += len(octets)
        octet = self._beginning.feed(octets)
        if octet is not None:
            self._choose(self._as_object if octet else self._otherwise)

    def _choose(self, make: Callable[[], Reading]) -> Reading:
        chosen = self._chosen = make()
        for octets in self._held:
            chosen.feed(octets)
        self._held.clear()
        return chosen

    def close(self) -> None:
        """See Reading."""
        (self._chosen or self._choose(self._otherwise)).close()

    def work(self) -> None:
        """See Reading."""
        if self._chosen is not None:
            self._chosen.work()

    def result(self) -> str | None:
        """See Reading."""
        return self._chosen.result() if self._chosen is not None else None
