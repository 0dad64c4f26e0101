"""Fields of the body raise nothing but a refusal, and say the same however a document is cut and whoever reads it."""

from bbr.reading.document import DocumentReading
from bbr.reading.fields import BodyField, BodyFields
from bbr.refusal import Refusal
from tests.support.readings import read

FIELDS = BodyFields(
    [
        BodyField("user", "x-user", max_bytes=20),
        BodyField("user", "x-hash", hashed=True),
        BodyField("k.s", "x-s"),
        BodyField("k.m-1", "x-m"),
    ],
    1 << 20,
)


def check(octets: bytes) -> None:
    # The first octet says how long the pieces are.
    size, body = 1 + sum(octets[:1]), octets[1:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    found = told([body], 1 << 20)
    for cut in ([body], pieces, [body[at : at + 1] for at in range(len(body))]):
        assert told(cut, 0) == found
    assert told(pieces, 1 << 20) == found


def told(pieces: list[bytes], whole_bytes: int) -> tuple[str | None, object]:
    """Return the model and what headers get, or why the body is refused."""
    reading = DocumentReading(256, whole_bytes, FIELDS)
    try:
        model = read(reading, pieces)
    except Refusal as refused:
        return refused.reason, refused.message
    assert reading.fields is not None
    return model, reading.fields.values
