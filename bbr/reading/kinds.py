"""Which Reading a request's body gets."""

from collections.abc import Sequence

from bbr.reading import encodings, multipart, parameters
from bbr.reading.base import Reading
from bbr.reading.document import DocumentReading
from bbr.reading.encoded import EncodedReading, FormWatch, Watch
from bbr.reading.encodings import Limits
from bbr.reading.forms import FormReading, MultipartReading
from bbr.reading.head import Head
from bbr.reading.multipart import BoundaryWatch
from bbr.reading.name import BodyKind


def open_reading(head: Head, *, max_model_bytes: int, whole_bytes: int, max_decoded_bytes: int) -> Reading:
    """Return what reads the body that a header section announces; its kind is not OTHER.

    Args:
        head: of the request.
        max_model_bytes: a longer model name is refused.
        whole_bytes: JSON of up to this is read in one piece, at its end.
        max_decoded_bytes: an encoded body that decodes to more is refused.

    Raises:
        Refusal: 400 or 415; the header section says what can't be read: an unknown Content-Encoding or charset, no
            usable boundary.
    """
    codings = encodings.parse(head.content_encodings)
    reading: Reading
    watch: Watch | None = None
    members = Limits().max_members
    if head.kind is BodyKind.JSON:
        reading = DocumentReading(max_model_bytes, whole_bytes)
    elif head.kind is BodyKind.MULTIPART:
        boundary = multipart.boundary(head.content_types)
        reading = MultipartReading(boundary, max_model_bytes)
        watch = BoundaryWatch(boundary)
    else:
        _check_charsets(head.content_types)
        reading = FormReading(max_model_bytes, whole_bytes)
        watch = FormWatch(max_model_bytes)
        members = 1  # of several gzip members or zstd frames aiohttp reads the first, Go all
    if not codings:
        return reading
    limits = Limits(max_decoded_bytes=max_decoded_bytes, max_members=members)
    return EncodedReading(codings, limits, reading, watch)


def _check_charsets(content_types: Sequence[bytes]) -> None:
    for value in content_types:
        parameters.check_charset(value)
