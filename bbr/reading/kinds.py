"""Which Reading a request's body gets."""

from dataclasses import dataclass
from typing import Final

from bbr import refusal
from bbr.reading import content_type, encodings, multipart, parameters
from bbr.reading.base import Reading
from bbr.reading.decoding import DecodingReading
from bbr.reading.document import DocumentReading
from bbr.reading.encoded import EncodedReading, FormWatch
from bbr.reading.encodings import Limits
from bbr.reading.fields import BodyFields
from bbr.reading.forms import FormReading, MultipartReading
from bbr.reading.head import Head
from bbr.reading.multipart import BoundaryWatch
from bbr.reading.name import BodyKind
from bbr.reading.several import ByBeginning, DashWatch, NameWatch, Together, Unread, Watch, Watches, WatchReading
from bbr.refusal import Refusal

_FORMS: Final = frozenset((BodyKind.FORM, BodyKind.MULTIPART))


def open_reading(
    head: Head,
    *,
    max_model_bytes: int,
    whole_bytes: int,
    max_decoded_bytes: int,
    forward_decoded: bool = False,
    fields: BodyFields | None = None,
) -> Reading:
    """Return what reads the body that a header section announces.

    A body of the kind OTHER is only looked at, for a model that a server could read in spite of its type.

    Args:
        head: of the request.
        max_model_bytes: a longer model name is refused.
        whole_bytes: JSON of up to this is read in one piece, at its end.
        max_decoded_bytes: an encoded body that decodes to more is refused.
        forward_decoded: it is forwarded decoded, unless it is only looked at.
        fields: that are read as well, of JSON; None for none.

    Raises:
        Refusal: 400 or 415; the header section says what can't be read: an unknown Content-Encoding or charset, no
            usable boundary, a Content-Type that is too long.
    """
    codings = encodings.parse(head.content_encodings)
    if content_type.is_too_long(head.content_types):
        raise refusal.content_type_too_long(content_type.MAX_BYTES)
    if head.kind is not BodyKind.OTHER:
        for value in head.content_types:
            parameters.check_charset(value)
    opener = _Opener(head, max_model_bytes, whole_bytes, fields)
    reading = opener.reading()
    if not codings:
        return reading
    watch = opener.watch()
    # It looks at the bytes that came. A server that undoes one of two codings, as many do that look at one field of
    # two, would read what stands between them: a comment in a gzip header, for one.
    if watch is not None and len(codings) > 1:
        raise refusal.encoding_layers(len(codings), 1, encodings.ACCEPT_ENCODING)
    # Of several gzip members or zstd frames aiohttp reads the first, Go all. No part of a JSON object is one itself.
    members = Limits().max_members if head.kind in (BodyKind.JSON, BodyKind.UNTYPED) else 1
    limits = Limits(max_decoded_bytes=max_decoded_bytes, max_members=members)
    # What is only looked at may be of any size, and is forwarded as it came.
    encoded = DecodingReading if forward_decoded and head.kind is not BodyKind.OTHER else EncodedReading
    return encoded(codings, limits, reading, watch)


@dataclass(frozen=True, slots=True)
class _Opener:
    head: Head
    max_model_bytes: int
    whole_bytes: int
    fields: BodyFields | None

    def reading(self) -> Reading:
        match self.head.kind:
            case BodyKind.JSON:
                return self._document()
            case BodyKind.FORM:
                return self._form()
            case BodyKind.MULTIPART:
                return self._multipart()
            case BodyKind.OTHER:
                if not self.head.text and content_type.has_fields(self.head.content_types):
                    raise refusal.content_type_ambiguous("its URL names one, and fields of this type are not read")
                return ByBeginning(self._object, self._other)
            case BodyKind.UNTYPED:  # what is no JSON is refused
                return ByBeginning(self._object, self._document)
        if self.head.content_encodings:
            raise refusal.content_type_ambiguous("it has a Content-Encoding as well")
        return ByBeginning(self._object, self._no_object)

    def watch(self) -> Watch | None:
        """Return what looks at the bytes before they are decoded: a server may not decode them."""
        if self.head.kind is BodyKind.JSON:  # a Decoder sees to that
            return None
        if self.head.kind is BodyKind.MULTIPART:
            boundary = BoundaryWatch(multipart.boundary(self.head.content_types))
            # As below, of what is not decoded.
            return boundary if self.head.method == b"POST" else Watches((boundary, FormWatch(self.max_model_bytes)))
        if not self._could_be_form:
            return None
        form = FormWatch(self.max_model_bytes)
        return Watches((form, NameWatch())) if BodyKind.MULTIPART in self._kinds else form

    def _document(self) -> Reading:
        return DocumentReading(self.max_model_bytes, self.whole_bytes, self.fields)

    def _form(self) -> Reading:
        return FormReading(self.max_model_bytes, self.whole_bytes, self.fields)

    def _multipart(self) -> Reading:
        reading = MultipartReading(multipart.boundary(self.head.content_types), self.max_model_bytes)
        if self.head.method == b"POST":
            return reading
        # Perl's CGI reads multipart of a POST alone, and that of a PUT or PATCH as an urlencoded form.
        return Together((reading, WatchReading(FormWatch(self.max_model_bytes, _form_in_parts))))

    def _object(self) -> Reading:
        """Return what reads a JSON object that a server could also read as something else."""
        reading = self._form() if self._could_be_form else self._document()
        return Together((reading, WatchReading(DashWatch()))) if BodyKind.MULTIPART in self._kinds else reading

    def _no_object(self) -> Reading:
        if BodyKind.MULTIPART not in self._kinds:
            return self._form()
        return Together((self._multipart(), self._form())) if BodyKind.FORM in self._kinds else self._multipart()

    def _other(self) -> Reading:
        """Return what looks at a body of another type that is no JSON object."""
        if not self._could_be_form:
            return Unread()
        form = self._form()
        return Together((form, WatchReading(NameWatch()))) if BodyKind.MULTIPART in self._kinds else form

    @property
    def _could_be_form(self) -> bool:
        """Whether some server reads it as an urlencoded form: Rack does that with any multipart without a boundary."""
        return not self._kinds.isdisjoint(_FORMS)

    @property
    def _kinds(self) -> frozenset[BodyKind]:
        return content_type.kinds(self.head.content_types)


def _form_in_parts() -> Refusal:
    return refusal.content_type_ambiguous("some servers read it as an urlencoded form, since its method is not POST")
