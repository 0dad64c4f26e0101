"""What a source publishes: objects that declare models, or an error that says why an object cannot be used."""

from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol

from bbr.models.entries import Declaration
from bbr.models.steps import Steps
from bbr.system.worker import Job

Key = tuple[str, str]  # source, key

# Begins to parse an object; the result is all that it declares. It may raise SourceError.
Parse = Callable[[], Steps[tuple[Declaration, ...]]]


class SourceError(Exception):
    """An object can't be used; the message names the rule that it breaks and, where it has lines, the line."""


class SourceObject(NamedTuple):
    """One object that a source sees.

    Attributes:
        key: unique within its source, and what people are shown: `default/qwen-adapters`, a file's path.
        version: equal versions of one key have equal content and are not parsed again: a resourceVersion, a digest.
        parse: begins to parse; each step takes less than a millisecond, the result is all that the object declares.
            The table calls it later, once more if that fails without a SourceError, and drops it. An object that is
            there and can't be read is one whose `parse` raises SourceError: what it declared last stays in use.
        long: how another process parses it, if it is too long for that.
    """

    key: str
    version: Hashable
    parse: Parse
    long: "LongDocument | None" = None


class LongDocument(NamedTuple):
    """How another process parses an object.

    Attributes:
        job: what it does there.
        pieces: what it works on.
        received: makes what takes its frames.
    """

    job: Job
    pieces: tuple[bytes, ...]
    received: "Callable[[], Received]"


class Received(Protocol):
    """What comes back from the other process."""

    def take(self, frame: bytes) -> None:
        """Take a frame."""

    def parse(self) -> Steps[tuple[Declaration, ...]]:
        """Return what the document declares, all frames having been taken; may raise SourceError."""


def refusing(why: str) -> Parse:
    """Return what parses an object that can't be used: it raises SourceError."""

    def parse() -> Steps[tuple[Declaration, ...]]:
        yield
        raise SourceError(why)

    return parse
