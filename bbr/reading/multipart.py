"""The `model` field of a multipart/form-data body (RFC 7578), read as it comes.

Pure. Files of any size are passed over and never kept. Parsers of multipart differ far more than those of JSON, and two
that read different models out of one body are a security hole; so the reader takes what RFC 7578 clients send, and
refuses what any of python-multipart, Go's mime/multipart, busboy, werkzeug, Tornado or Sanic might read in another way:

| in the body | how it is read elsewhere |
|---|---|
| `--boundary` anywhere but in a delimiter: behind a bare LF | a delimiter for werkzeug |
| the same in mid-line | Tornado and Sanic split there |
| the same in a part's header section | a delimiter for busboy |
| the same with more behind it: blanks, letters of a longer boundary | a delimiter for Go if blanks |
| a comma in the boundary | Rack and Perl's CGI end it there |
| the word `boundary` in another parameter, or in small letters behind `Boundary` | PHP takes the first one |
| a parameter such as `boundaryx` | Netty takes it for `boundary` |
| `boundary="a=b"`, and `--b"` in the body | cpp-httplib takes what follows the last `=` |
| the method is not POST, and a form reader finds `model` in the body | Perl's CGI reads an urlencoded form |
| something before the first boundary but CRLFs, behind the last but blanks | python-multipart fails, Go goes on |
| no closing boundary | Starlette takes what there is |
| a delimiter right behind the header section, without a CRLF of its own | an empty part for Go, content for others |
| bare CR or LF, folding, control characters in a header section; a blank before the colon | more fields for some |
| Content-Disposition missing, not `form-data`, without `name`; any header field twice | skipped; first or last |
| more than 4 KiB of header section | PHP reads 5 KiB at once, and takes the rest of a longer line for another line |
| `content-disposition:`, `content-type:` or `content-id:` but at a line's start | Rack looks for them anywhere |
| an empty parameter (`;;`, `;` at the end) | Go and busboy see no name |
| a parameter twice; `name*`, `name*0`; a value that holds `name=` | Go and Python's email decode RFC 2231 |
| a parameter such as `x-name` or `x.name` | formidable looks for `name=` behind any character that is not of a word |
| Content-Type multipart/... or message/... on a part | nested parts, which old parsers enter |
| a part called `_charset_` | RFC 7578, section 4.6: it changes how others are decoded |

The part called `model` must be there once, its value as model.check_model wants it, and besides:

| on a part whose name is or might be `model` | why it is refused |
|---|---|
| another spelling: `Model`, `mo\\del`, `%6dodel`, `model[]`, U+FEFF before it | see `bbr.reading.spelling` |
| `;model`, `model:`, `mo"del` | Netty makes blanks of `:`, `,`, `=` and `;`, trims, and drops quotes |
| `x=model;y` | cpp-httplib ends it at the semicolon, and takes what follows the last `=` |
| an empty name, and `model` as its filename or type | Rack calls it so |
| a Content-Type with the parameter `name=model` | Netty calls it so, whatever its Content-Disposition says |
| `filename`, `filename*`, any parameter with a `*` | a file, and no field; nothing at all for busboy |
| Content-Transfer-Encoding, but for 7bit, 8bit and binary; Content-Encoding | Go decodes quoted-printable |
| Content-Type, but for text/plain | a file for busboy, JSON for Spring |
| a charset, but for UTF-8; others that extend US-ASCII if the name is in ASCII | werkzeug decodes by it |
| the word `charset` in another parameter | aiohttp ends parameters at semicolons within quotes |
"""

import enum
import re
from collections.abc import Callable, Sequence
from typing import Final

from bbr import refusal
from bbr.reading import content_type, parameters, spelling
from bbr.reading import name as model
from bbr.reading.base import named
from bbr.refusal import Refusal

# Starlette takes 1,000 fields and 1,000 files, Go 1,000 parts.
MAX_PARTS: Final = 1000
# Of one part. curl and browsers send three fields at most. The longest name of a file, escaped, has 765 bytes.
MAX_PART_FIELDS: Final = 8
MAX_PART_HEADER_BYTES: Final = 4 << 10
# Of a part's name. Longer ones are refused before they are unescaped in every way.
MAX_PART_NAME_BYTES: Final = 1 << 10
# One call of `feed` begins at most so many parts, or reads so much of their header sections: about 0.5 ms.
PARTS_PER_CALL: Final = 32
HEADER_BYTES_PER_CALL: Final = 4 << 10
# Bytes around the parts: CRLFs before them, blanks behind them.
MAX_BLANKS: Final = 64

# RFC 2046, section 5.1.1, but for the comma: Rack and Perl's CGI end a boundary there.
_BOUNDARY: Final = re.compile(rb"(?! )[0-9A-Za-z'()+_./:=? -]{0,69}[0-9A-Za-z'()+_./:=?-]")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)")
_WORD: Final = b"boundary"
_NAMES_BOUNDARY: Final = re.compile(rb"boundary[ \t]*+=", re.IGNORECASE)
_EMBEDDED_FIELD: Final = re.compile(rb"(?<=[^\n])content-(?:disposition|type|id)[ \t]*+:", re.IGNORECASE)
# Behind what is no character of a word, as formidable looks for it.
_ENDS_AS_NAME: Final = re.compile(rb"[^0-9A-Za-z_]name\Z")
_HOLDS_NAME: Final = re.compile(rb"(?<![0-9A-Za-z_])name[ \t]*+(?:\*[0-9*]*+)?+[ \t]*+=", re.IGNORECASE)
_ASCII_SUPERSETS: Final = (b"iso-8859-1", b"windows-1252", b"latin1", b"iso-8859-15")
_CRLF: Final = b"\r\n"
# Netty makes blanks of these, and drops double quotes.
_AS_NETTY: Final = bytes.maketrans(b":,=;", b"    ")


def boundary(content_types: Sequence[bytes]) -> bytes:
    """Return the boundary of a multipart/form-data body by its Content-Type fields.

    Raises:
        Refusal: 400; it is missing, illegal (RFC 2046, section 5.1.1: 1 to 70 characters of a few kinds), or could be
            read in several ways.
    """
    if len(content_types) != 1:
        raise refusal.multipart_boundary(f"there are {len(content_types)} of it")
    if len(content_types[0]) > content_type.MAX_BYTES:
        raise refusal.content_type_too_long(content_type.MAX_BYTES)
    try:
        main, found = parameters.parse(content_types[0])
    except ValueError as error:
        raise refusal.multipart_boundary(str(error)) from None
    if main != b"multipart/form-data":
        raise refusal.multipart_boundary("it is not multipart/form-data")
    if any(name.startswith(b"boundary*") for name in found):
        raise refusal.multipart_boundary("it has a parameter `boundary*`")
    if b"boundary" not in found:
        raise refusal.multipart_boundary("it has no parameter `boundary`")
    # aiohttp drops a blank at the beginning as well.
    if not _BOUNDARY.fullmatch(found[b"boundary"]):
        rule = "1 to 70 of the characters that RFC 2046 allows, no comma, and no blank at its beginning or end"
        raise refusal.multipart_boundary(f"its boundary is not {rule}")
    if _is_elsewhere(content_types[0], found):
        raise refusal.multipart_boundary("it has the word `boundary` in other places, too")
    return found[b"boundary"]


def _is_elsewhere(value: bytes, found: dict[bytes, bytes]) -> bool:
    """Tell whether a Content-Type has the word where a server could take it for the parameter."""
    # aiohttp ends parameters at semicolons within quotes; formidable takes what follows `boundary=` anywhere. PHP takes
    # the first word in small letters, wherever it stands, and what follows the next `=`.
    boundary = found[_WORD]
    if _NAMES_BOUNDARY.search(boundary) or (_WORD in boundary and _WORD + b"=" not in value):
        return True
    return any(_WORD in name or _WORD in other.lower() for name, other in found.items() if name != _WORD)


def _is_called(name: bytes) -> bool:
    """Tell whether some server reads a part's name as `model`."""
    cleaned = name.translate(_AS_NETTY, b'"')
    if spelling.is_alike(name) or (cleaned != name and spelling.is_alike(cleaned)):
        return True
    before, mark, _ = name.partition(b";")
    return bool(mark) and spelling.is_alike(_cut(before))


def _cut(quoted: bytes) -> bytes:
    """Return what cpp-httplib takes of a text within quotes: what follows the last `=`; all if there is none."""
    return quoted.rpartition(b"=")[2]


def other_boundary(boundary: bytes) -> bytes | None:
    """Return what cpp-httplib takes for a boundary, with the quote behind it; None if that is the boundary."""
    return _cut(boundary) + b'"' if b"=" in boundary else None


class _State(enum.Enum):
    START = enum.auto()  # before the first delimiter
    DELIMITER = enum.auto()  # right behind `--boundary`
    HEADER = enum.auto()  # in a part's header section
    CONTENT = enum.auto()  # in the content of a part that is passed over
    MODEL = enum.auto()  # in the content of the model's part
    END = enum.auto()  # behind the closing delimiter


class MultipartReader:
    """The `model` of one multipart/form-data body.

    Feed it the bytes, in pieces of any size, then call `end`. Every split gives the same result. It keeps what can't
    be read yet: a header section, and of a file the boundary and three bytes, of the model its longest name more.

    Args:
        boundary: as `boundary` returns it.
        max_model_bytes: a longer name is refused.

    Attributes:
        model: the model's name once its part is complete; the refusal of an empty one. A fault, or a second model, may
            follow.
    """

    __slots__ = (
        "_at",
        "_base",
        "_buffer",
        "_content",
        "_dashes",
        "_delimiter",
        "_end",
        "_header_bytes",
        "_max_model_bytes",
        "_parts",
        "_state",
        "_wide",
        "model",
    )

    def __init__(self, boundary: bytes, max_model_bytes: int = model.MAX_MODEL_BYTES) -> None:
        self._dashes = b"--" + boundary
        self._max_model_bytes = max_model_bytes
        self._state = _State.START
        self._buffer = b""  # what is being read; between calls what could not be read yet
        self._at = 0  # how far it is read
        self._base = 0  # where in the body it begins
        self._content = 0  # bytes of a part's content before `_at`
        self._delimiter = 0  # where in the body the last delimiter begins
        self._end = 0  # where in the body the closing delimiter ends
        self._parts = 0
        self._header_bytes = 0  # of header sections, read by the call
        self._wide = True  # whether the model may have other characters than ASCII's
        self.model: str | Refusal | None = None

    @property
    def passable_bytes(self) -> int:
        """How many bytes, from the body's start, do not complete it: what a server may get before its end is known."""
        if self._state in (_State.START, _State.DELIMITER, _State.END):
            return self._delimiter
        return self._base + (len(self._buffer) if self._state is _State.HEADER else 0)

    def feed(self, octets: bytes, start: int = 0) -> int:
        """Add bytes from `start` on, and return up to where they are read.

        That is their length, unless they begin more than PARTS_PER_CALL parts, or these have long header sections: then
        call again with what is returned.

        Raises:
            Refusal: 400; see the tables above.
        """
        self._buffer += octets[start:]
        enough = self._parts + PARTS_PER_CALL
        self._header_bytes = 0
        while self._parts < enough and self._header_bytes < HEADER_BYTES_PER_CALL and _STEPS[self._state](self):
            pass
        stopped = self._parts >= enough or self._header_bytes >= HEADER_BYTES_PER_CALL
        unread = len(self._buffer) - self._at if stopped else 0
        self._buffer = self._buffer[self._at : len(self._buffer) - unread]
        self._base += self._at
        self._at = 0
        return len(octets) - unread

    def end(self) -> str | None:
        """Return the model, or None if no part is called so, when no more bytes will come.

        A body of no bytes at all is no body, and no error.

        Raises:
            Refusal: 400; the body was cut off, or its model is empty.
        """
        self.finish()
        return named(self.model)

    def finish(self) -> None:
        """Take note that no more bytes will come: `model` is all that is to be known.

        Raises:
            Refusal: 400; the body was cut off.
        """
        if self._state is not _State.END and (self._base or self._buffer):
            raise refusal.multipart_cut_off()

    # Each step reads what it can, and returns whether the next one can follow.

    def _start(self) -> bool:
        while self._base + self._at < MAX_BLANKS and self._buffer.startswith(_CRLF, self._at):
            self._at += len(_CRLF)
        rest = self._buffer[self._at : self._at + len(self._dashes)]
        if not (self._dashes.startswith(rest) or rest == b"\r"):
            raise self._invalid("it does not begin with its boundary")
        if rest != self._dashes:
            return False
        self._delimiter = self._base + self._at
        self._at += len(rest)
        self._state = _State.DELIMITER
        return True

    def _after_delimiter(self) -> bool:
        two = self._buffer[self._at : self._at + 2]
        if len(two) < 2:
            return False
        if two == b"--":
            self._state = _State.END
            self._end = self._base + self._at + 2
        elif two == _CRLF:
            self._parts += 1
            if self._parts > MAX_PARTS:
                raise refusal.multipart_too_many("parts", MAX_PARTS)
            self._state = _State.HEADER
        else:
            raise self._invalid("its boundary is followed by something else than a line end")
        self._at += 2
        return True

    def _header(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", self._at, self._at + MAX_PART_HEADER_BYTES + 4)
        if end < 0:
            if len(self._buffer) - self._at >= MAX_PART_HEADER_BYTES + 4:
                raise self._invalid(f"a part's header section is longer than {MAX_PART_HEADER_BYTES} bytes")
            return False
        is_model = self._read_header(self._buffer[self._at : end])
        self._header_bytes += end + 4 - self._at
        self._at = end + 4
        self._content = 0
        self._state = _State.MODEL if is_model else _State.CONTENT
        return True

    def _pass_over(self) -> bool:
        found = self._buffer.find(self._dashes, self._at)
        if found < 0:
            # Enough for a delimiter that has begun, and two bytes before it.
            keep = max(self._at, len(self._buffer) - len(self._dashes) - 1)
            self._content += keep - self._at
            self._at = keep
            return False
        self._close_part(found)
        return True

    def _read_model(self) -> bool:
        longest = self._max_model_bytes + len(_CRLF) + len(self._dashes)
        found = self._buffer.find(self._dashes, self._at, self._at + longest)
        if found < 0:
            if len(self._buffer) - self._at >= longest:
                raise refusal.model_too_long(None, self._max_model_bytes)
            return False
        begin = self._at
        self._close_part(found)
        value = self._buffer[begin : found - len(_CRLF)]
        try:
            name = value.decode() if self._wide else value.decode("ascii")
        except UnicodeDecodeError:
            why = "UTF-8" if self._wide else "ASCII, and its part has a charset of its own"
            raise refusal.multipart_model(f"its value is not {why}").at(self._base + begin) from None
        try:
            self.model = model.check_model(name, self._max_model_bytes)
        except Refusal as refused:
            located = refused.at(self._base + begin)
            if not located.unnamed:
                raise located from None
            self.model = located
        return True

    def _close_part(self, found: int) -> None:
        if self._content + found - self._at < len(_CRLF) or self._buffer[found - 2 : found] != _CRLF:
            self._at = found
            raise self._invalid("its boundary occurs elsewhere than at the start of a line")
        self._delimiter = self._base + found - len(_CRLF)
        self._at = found + len(self._dashes)
        self._state = _State.DELIMITER

    def _after_end(self) -> bool:
        rest = self._buffer[self._at :].lstrip(b" \t\r\n")
        self._at = min(len(self._buffer) - len(rest), self._end + MAX_BLANKS - self._base)
        if self._at < len(self._buffer):
            raise self._invalid("something follows its closing boundary")
        return False

    def _read_header(self, section: bytes) -> bool:
        """Read a part's header section, and tell whether the part is the model."""
        fields = self._fields(section)
        disposition = self._disposition(fields.get(b"content-disposition"))
        part_type = fields.get(b"content-type", b"")
        if part_type.lower().startswith((b"multipart/", b"message/")):
            raise self._invalid("a part is a multipart body or a message itself")
        if not disposition[b"name"] and any(map(spelling.is_alike, (disposition.get(b"filename", b""), part_type))):
            raise self._unsure("a part without a name could be called `model` by its filename or type")
        named = _HOLDS_NAME.split(part_type, 2)
        if len(named) > 2 or (len(named) > 1 and _is_called(named[1])):
            raise self._unsure("a part could be called `model` by its Content-Type")
        if not self._is_model(disposition[b"name"]):
            return False
        if b"content-encoding" in fields:
            raise self._unsure("its part has a Content-Encoding")
        self._check_model_part(disposition, part_type, fields.get(b"content-transfer-encoding", b""))
        if self.model is not None:
            raise refusal.model_duplicate("multipart body").at(self._base + self._at)
        return True

    def _fields(self, section: bytes) -> dict[bytes, bytes]:
        """Return a part's header fields, with their names in small letters."""
        fields: dict[bytes, bytes] = {}
        if self._dashes in section:
            raise self._invalid("its boundary stands in a part's header section")
        lines = section.split(_CRLF)
        if len(lines) > MAX_PART_FIELDS:
            raise refusal.multipart_too_many("header fields in a part", MAX_PART_FIELDS)
        for line in lines:
            match = _FIELD.fullmatch(line)
            if not match:
                raise self._invalid("a part's header field is not `name: value`")
            name = match[1].lower()
            if name in fields:
                raise self._invalid("a part has a header field twice")
            fields[name] = match[2]
        if _EMBEDDED_FIELD.search(section):
            raise self._invalid("a part's header field holds the name of another one")
        return fields

    def _disposition(self, value: bytes | None) -> dict[bytes, bytes]:
        if value is None:
            raise self._invalid("a part has no Content-Disposition")
        try:
            main, found = parameters.parse(value, allow_empty=False)
        except ValueError as error:
            raise self._invalid(f"a part's Content-Disposition cannot be read: {error}") from None
        if main != b"form-data" or b"name" not in found:
            raise self._invalid("a part's Content-Disposition is not `form-data` with a name")
        if len(found[b"name"]) > MAX_PART_NAME_BYTES:
            raise self._invalid(f"a part's name is longer than {MAX_PART_NAME_BYTES} bytes")
        if any(name.startswith(b"name*") for name in found):
            raise self._invalid("a part's Content-Disposition has a parameter `name*`")
        if any(map(_HOLDS_NAME.search, found.values())):
            raise self._invalid("a parameter of a part's Content-Disposition holds `name=`")
        if any(map(_ENDS_AS_NAME.search, found)):
            raise self._invalid("a parameter of a part's Content-Disposition ends as `name`")
        return found

    def _is_model(self, name: bytes) -> bool:
        if name == b"model":
            return True
        if name == b"_charset_":
            raise self._invalid("a part is called `_charset_`")
        if _is_called(name) or b"=?" in name:
            raise self._unsure("only some servers read a part's name as `model`")
        return False

    def _check_model_part(self, disposition: dict[bytes, bytes], part_type: bytes, encoding: bytes) -> None:
        if any(name.startswith(b"filename") or b"*" in name for name in disposition):
            raise self._unsure("its part has a filename, or a parameter with a *")
        if encoding.strip().lower() not in (b"", b"7bit", b"8bit", b"binary"):
            raise self._unsure("its part has a Content-Transfer-Encoding")
        self._wide = True
        if not part_type:
            return
        try:
            main, found = parameters.parse(part_type, allow_empty=False)
        except ValueError as error:
            raise self._unsure(f"its part's Content-Type cannot be read: {error}") from None
        charset = found.get(b"charset", b"utf-8").lower()
        self._wide = charset in parameters.UTF8
        # aiohttp ends parameters at semicolons within quotes. With a star a charset is in pieces, which werkzeug joins.
        elsewhere = part_type.lower().count(b"charset") > (b"charset" in found)
        if elsewhere or main != b"text/plain" or not (self._wide or charset in _ASCII_SUPERSETS):
            raise self._unsure("its part's Content-Type is not text/plain in UTF-8")

    def _invalid(self, why: str) -> Refusal:
        return refusal.multipart_invalid(why).at(self._base + self._at)

    def _unsure(self, why: str) -> Refusal:
        return refusal.multipart_model(why).at(self._base + self._at)


class BoundaryWatch:
    """Watches over the bytes of a multipart body for a boundary that only some servers find there.

    One is an encoded body as it came, before it is decoded. A server that does not decode bodies, and skips what stands
    before the first boundary as Go and busboy do, could find another body in one that only stores what it encodes, or
    carries it in a comment.
    """

    __slots__ = ("_dashes", "_found", "_tail")

    def __init__(self, boundary: bytes, found: Callable[[], Refusal] = refusal.encoding_ambiguous) -> None:
        self._dashes = b"--" + boundary
        self._found = found
        self._tail = b""

    def feed(self, octets: bytes) -> None:
        """Look at the next bytes.

        Raises:
            Refusal: 400; the boundary stands in them.
        """
        text = self._tail + octets
        if self._dashes in text:
            raise self._found()
        self._tail = text[-len(self._dashes) + 1 :]

    def end(self) -> None:
        """See bbr.reading.several.Watch: what was not found before is not there."""


_STEPS: Final = {
    _State.START: MultipartReader._start,
    _State.DELIMITER: MultipartReader._after_delimiter,
    _State.HEADER: MultipartReader._header,
    _State.CONTENT: MultipartReader._pass_over,
    _State.MODEL: MultipartReader._read_model,
    _State.END: MultipartReader._after_end,
}
