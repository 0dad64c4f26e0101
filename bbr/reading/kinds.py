"""Which Reading a request's body gets."""

from collections.abc import Sequence

from bbr import encodings, multipart, parameters
from bbr.encodings import Limits
from bbr.head import Head
from bbr.model import BodyKind
from bbr.multipart import BoundaryWatch
from bbr.policy import Policy
from bbr.reading.base import Reading
from bbr.reading.document import DocumentReading
from bbr.reading.encoded import EncodedReading, FormWatch, Watch
from bbr.reading.forms import FormReading, MultipartReading


def open_reading(head: Head, policy: Policy) -> Reading:
    """Return what reads the body that a header section announces; its kind is not OTHER.

    Raises:
        Refusal: 400 or 415; the header section says what can't be read: an unknown Content-Encoding or charset, no
            usable boundary.
    """
    codings = encodings.parse(head.content_encodings)
    reading: Reading
    watch: Watch | None = None
    members = Limits().max_members
    if head.kind is BodyKind.JSON:
        reading = DocumentReading(policy.max_model_bytes, policy.stream_threshold_bytes)
    elif head.kind is BodyKind.MULTIPART:
        boundary = multipart.boundary(head.content_types)
        reading = MultipartReading(boundary, policy.max_model_bytes)
        watch = BoundaryWatch(boundary)
    else:
        _check_charsets(head.content_types)
        reading = FormReading(policy.max_model_bytes, policy.stream_threshold_bytes)
        watch = FormWatch(policy.max_model_bytes)
        members = 1  # of several gzip members or zstd frames aiohttp reads the first, Go all
    if not codings:
        return reading
    limits = Limits(max_decoded_bytes=policy.max_body_bytes, max_members=members)
    return EncodedReading(codings, limits, reading, watch)


def _check_charsets(content_types: Sequence[bytes]) -> None:
    for value in content_types:
        parameters.check_charset(value)
