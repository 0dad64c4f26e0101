"""Readings in tests: drive one over a body in pieces."""

from collections.abc import Callable, Iterable, Iterator

from bbr.reading.base import Reading
from bbr.refusal import Refusal

# Of one body: what goes on for longer than this does not end.
MOST_WORK = 10_000


def work(reading: Reading) -> None:
    """Let it do all that is pending."""
    for _ in range(MOST_WORK):
        if not reading.pending:
            return
        reading.work()
    raise AssertionError("it does not end")


def read(reading: Reading, pieces: Iterable[bytes], seen: Callable[[int], None] = lambda passable: None) -> str | None:
    """Return the model of a body in pieces; `seen` is told what may pass after each piece, before the end is known."""
    for piece in pieces:
        reading.feed(piece)
        work(reading)
        seen(reading.passable_bytes)
    reading.close()
    work(reading)
    assert reading.unread_bytes == 0
    return reading.result()


def reason(reading: Reading, *pieces: bytes) -> str:
    """Return why a body is refused."""
    try:
        read(reading, pieces)
    except Refusal as refused:
        return refused.reason
    raise AssertionError("it is not refused")


def cuts(body: bytes) -> Iterator[list[bytes]]:
    """Give a body in two pieces, cut everywhere, and octet by octet."""
    for place in range(len(body) + 1):
        yield [body[:place], body[place:]]
    yield [body[place : place + 1] for place in range(len(body))]
