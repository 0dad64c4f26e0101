"""Bodies cut into pieces and read by the readers of bodies, and what came of it."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from bbr.reading.encodings import Decoder, Limits
from bbr.reading.form import FormReader
from bbr.reading.multipart import PARTS_PER_CALL, MultipartReader
from bbr.refusal import Refusal

Result = tuple[str, object]


def pieces(octets: bytes, size: int) -> list[bytes]:
    """Cut octets into pieces of one size."""
    return [octets[at : at + size] for at in range(0, len(octets), size)]


def cut(octets: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut octets at these places."""
    edges = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    return [octets[start:end] for start, end in itertools.pairwise(edges)]


def decoded(given: Sequence[bytes], codings: Sequence[str], limits: Limits | None = None) -> Iterator[bytes]:
    """Give the pieces that a Decoder gives; it never holds more than it says, nor gives more than it may at once."""
    decoder = Decoder(codings, limits)
    total = 0
    for octets in given:
        decoder.feed(octets)
        while decoder.pending:
            piece = decoder.read()
            assert len(piece) <= 96 << 10
            total += len(piece)
            yield piece
    decoder.end()
    assert decoder.decoded_bytes == total


def read_multipart(given: Sequence[bytes], boundary: bytes, max_model_bytes: int = 256) -> str | None:
    """Return what a MultipartReader reads; what it lets pass only grows, and never completes the body."""
    reader = MultipartReader(boundary, max_model_bytes)
    fed = passable = 0
    for octets in given:
        at = calls = 0
        while at < len(octets) or not calls:
            at = reader.feed(octets, at)
            calls += 1
            assert passable <= reader.passable_bytes <= fed + at
            passable = reader.passable_bytes
        assert calls <= len(octets) / PARTS_PER_CALL + 1
        fed += len(octets)
    return reader.end()


def read_form(given: Sequence[bytes], max_model_bytes: int = 256) -> str | None:
    """Return what a FormReader reads."""
    reader = FormReader(max_model_bytes)
    fed = 0
    for octets in given:
        at = 0
        while at < len(octets):
            at = reader.feed(octets, at)
            assert reader.passable_bytes == max(0, fed + at - 1)
        fed += len(octets)
    return reader.end()


def decode(given: Sequence[bytes], codings: Sequence[str], limits: Limits | None = None) -> bytes:
    """Return what a Decoder gives, joined."""
    return b"".join(decoded(given, codings, limits))


def outcome(read: Callable[..., object], *arguments: object) -> Result:
    """Call and return ("model", what it returned) or ("refused", (reason, message))."""
    try:
        return "model", read(*arguments)
    except Refusal as refused:
        return "refused", (refused.reason, refused.message)
