"""Content-Encoding, decoded for reading only: the bytes that came are forwarded.

Pure. A `Decoder` is fed the encoded bytes as they come and gives the decoded ones in pieces, one small step of work at
a time, so that whoever drives it can do something else in between. A body that grows too far is refused while it grows:
what it costs is a few steps, not what it would have become.

Two readers that see different bodies are a security hole, and many model servers do not decode a request at all. gzip,
zlib and zstd begin with bytes that no JSON document can begin with; brotli and raw deflate have no such mark, so what
could be JSON that names a model before it is decoded is refused (bbr.reading.undecoded). docs/design/reading.md says
what must be watched in forms.

| coding | decoder | memory at most | further members or frames |
|---|---|---|---|
| gzip, x-gzip | zlib, of the standard library | 48 KiB | read on, as RFC 1952 section 2.2 says |
| deflate | zlib; raw without zlib's header (RFC 9110, section 8.4.1.2); none may be both | 48 KiB | refused |
| br | Brotli | 4 MiB window (the default of its encoders; larger ones are refused), 2 MiB | refused |
| zstd | backports.zstd, the standard library's from Python 3.14 on | 8 MiB window, 512 KiB | read on (RFC 8878) |
"""

import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import brotli

from bbr import refusal
from bbr.reading.undecoded import Undecoded
from bbr.reading.zstd import zstd

# What a 415 offers the client (RFC 9110, section 15.5.16).
ACCEPT_ENCODING: Final = "gzip, deflate, br, zstd"

# More are refused. Nobody is known to send more than one; CVE-2022-32206 is what happens without a limit.
MAX_LAYERS: Final = 3

# Of all Content-Encoding fields together.
MAX_FIELD_BYTES: Final = 256

# One step takes at most so many encoded bytes. What a dense one can cost: `python -m bench.micro.bodies`.
STEP_BYTES: Final = 4 << 10

# One step gives at most so many decoded bytes, and brotli, which fills whole blocks, up to 32 KiB more.
PIECE_BYTES: Final = 64 << 10

# RFC 7932, section 9.1: the first four bits of a stream with a window of 8 or 16 MiB. Brotli may decode a whole window
# before it puts anything out, so the window is what one step can cost: 7 ms for 4 MiB.
_BROTLI_WIDE: Final = (0x0D, 0x0F)

# RFC 9659: the largest window that a zstd encoder may use in HTTP, 8 MiB, as a power of two.
_ZSTD_WINDOW_LOG: Final = 23
_ZSTD_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_INFLATE_BYTES: Final = 48 * _KIB

# A decoder's tables are made by what it is fed: 8 bytes of brotli take 7 KiB, and more may come to 2 MiB. There a byte
# describes a table of at most 1 KiB, that of a prefix code with one symbol (RFC 7932, section 3.4).
_FIRST_STATE_BYTES: Final = 16 * _KIB
_STATE_BYTES_PER_OCTET: Final = _KIB

_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
_CM_DEFLATE: Final = 8
# What a stored block begins with (RFC 1951, section 3.2.4).
_STORED_BYTES: Final = 5


class Limits(NamedTuple):
    """What one body may grow to. Each layer is held to them by itself, against the bytes that came.

    Attributes:
        max_decoded_bytes: of a layer's output.
        max_ratio: decoded bytes for one encoded byte, beyond `free_bytes`. The encoded ones are rounded up to steps.
        free_bytes: decoded bytes that may come of anything.
        burst_bytes: decoded bytes that may come at once, however little has been made of all that came before; so a
            bomb behind much noise is stopped too: 12 MiB of zeros cost 32 ms in gzip.
        max_members: gzip members, or zstd frames, of a layer. 1,024 are 64 MiB in bgzip's blocks.
    """

    max_decoded_bytes: int = 64 * _MIB
    max_ratio: int = 200
    free_bytes: int = 256 * _KIB
    burst_bytes: int = 12 * _MIB
    max_members: int = 1024


class _Member(Protocol):
    """A decoder of one compressed stream: a gzip member, a zstd frame."""

    window_bytes: int  # the most that it may keep of its output
    block_bytes: int  # the most that it keeps besides of a block that it puts out
    state_bytes: int  # the most that it takes besides

    def decode(self, octets: bytes) -> bytes:
        """Return at most a piece of output. Raises an error of the library's own if the stream is broken."""

    @property
    def unread(self) -> int:
        """How many of the bytes given last were not taken and must be given again."""

    @property
    def full(self) -> bool:
        """Whether there may be more output without more bytes."""

    @property
    def ended(self) -> bool:
        """Whether the stream is complete."""


class _Inflater:
    window_bytes = 0
    block_bytes = 0
    state_bytes = _INFLATE_BYTES

    def __init__(self, bits: int) -> None:
        self._decoder = zlib.decompressobj(bits)
        self.full = False

    def decode(self, octets: bytes) -> bytes:
        piece = self._decoder.decompress(octets, PIECE_BYTES)
        self.full = len(piece) == PIECE_BYTES
        return piece

    @property
    def unread(self) -> int:
        return len(self._decoder.unused_data) if self.ended else len(self._decoder.unconsumed_tail)

    @property
    def ended(self) -> bool:
        return self._decoder.eof


class _Brotli:
    window_bytes = 4 * _MIB
    block_bytes = 0
    state_bytes = 2 * _MIB
    unread = 0

    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()
        self.full = False

    def decode(self, octets: bytes) -> bytes:
        piece: bytes = self._decoder.process(octets, output_buffer_limit=PIECE_BYTES)
        self.full = len(piece) >= PIECE_BYTES or not self._decoder.can_accept_more_data()
        return piece

    @property
    def ended(self) -> bool:
        return bool(self._decoder.is_finished())


class _Zstd:
    window_bytes = 1 << _ZSTD_WINDOW_LOG
    block_bytes = 80 * _KIB  # measured: a frame of ten bytes that puts 128 KiB out takes 232 KiB
    state_bytes = 512 * _KIB

    def __init__(self) -> None:
        self._decoder = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)

    def decode(self, octets: bytes) -> bytes:
        return self._decoder.decompress(octets, PIECE_BYTES)

    @property
    def unread(self) -> int:
        return len(self._decoder.unused_data)

    @property
    def full(self) -> bool:
        return not self._decoder.needs_input

    @property
    def ended(self) -> bool:
        return self._decoder.eof


_BROKEN: Final = (zlib.error, brotli.error, zstd.ZstdError)


def is_raw_deflate_too(octets: bytes) -> bool:
    """Tell whether a stream that begins as zlib's could go on for who takes it for raw deflate: Go's flate, Netty.

    The first byte of zlib's header begins a stored block there, whose length stands twice, the second time inverted.
    """
    return (
        len(octets) >= _STORED_BYTES
        and octets[0] & 0x0F == _CM_DEFLATE
        and octets[1] ^ octets[3] == 0xFF
        and octets[2] ^ octets[4] == 0xFF
    )


class _Layer:
    """One coding of a body: its input, which may wait, and its output so far.

    Attributes:
        consumed: bytes taken of its input.
        produced: bytes of output so far.
        credit: bytes of output that it may put out before more of the body has come.
    """

    def __init__(self, coding: str, limits: Limits) -> None:
        self._coding = coding
        self._limits = limits
        self._input = b""
        self._at = 0
        self._undecoded = Undecoded()
        self._first = b""  # of deflate: what a stored block begins with
        self._member: _Member | None = None
        self._members = 0
        self.consumed = 0
        self.produced = 0
        self.credit = limits.free_bytes

    @property
    def can_step(self) -> bool:
        return self._at < len(self._input) or (self._member is not None and self._member.full)

    @property
    def whole(self) -> bool:
        """Whether its input could end here."""
        return self._members > 0 and self._member is None

    @property
    def memory_bytes(self) -> int:
        member = self._member
        held = len(self._input)
        if member is None:
            return held
        state = min(member.state_bytes, _FIRST_STATE_BYTES + _STATE_BYTES_PER_OCTET * self.consumed)
        return held + min(member.window_bytes, self.produced) + min(member.block_bytes, self.produced) + state

    def feed(self, octets: bytes) -> None:
        if self._undecoded.names_model(octets):
            raise refusal.encoding_ambiguous()
        if self._coding == "deflate" and len(self._first) < _STORED_BYTES:
            self._first += octets[: _STORED_BYTES - len(self._first)]
            if is_raw_deflate_too(self._first):
                raise refusal.encoding_ambiguous()
        self._input = self._input[self._at :] + octets if self.can_step else octets
        self._at = 0

    def step(self) -> bytes:
        # To the next multiple of a step, so that where a gateway cuts a body does not change what is measured when.
        octets = self._input[self._at : self._at + STEP_BYTES - self.consumed % STEP_BYTES]
        member = self._member
        if member is None:
            member = self._member = self._begin(octets[0])
        elif member.full and not member.unread:
            octets = b""  # output that waits comes first
        try:
            piece = member.decode(octets)
        except _BROKEN:
            raise refusal.encoding_corrupt(self._coding) from None
        taken = len(octets) - member.unread
        self._at += taken
        self.consumed += taken
        self.produced += len(piece)
        if member.ended:
            self._member = None
        return piece

    def _begin(self, first: int) -> _Member:
        """Begin a member whose first byte is `first`."""
        self._members += 1
        if self._members > self._limits.max_members:
            raise refusal.encoding_members(self._coding, self._limits.max_members)
        match self._coding:
            case "gzip":
                return _Inflater(_GZIP_BITS)
            case "zstd":
                return _Zstd()
            case _ if self._members > 1:
                raise refusal.encoding_corrupt(self._coding)  # something follows the end
            case "br" if first & 0x0F in _BROTLI_WIDE:
                raise refusal.encoding_corrupt(self._coding)
            case "br":
                return _Brotli()
            case _:
                # As aiohttp tells them apart: a decoder of zlib streams alone fails on a raw one, and misreads none. A
                # decoder of raw ones alone fails on zlib's, but for what `feed` refuses.
                return _Inflater(zlib.MAX_WBITS if first & 0x0F == _CM_DEFLATE else -zlib.MAX_WBITS)


class Decoder:
    """The bytes of one body, decoded.

    Feed what has come, then read until nothing is pending; at the body's end call `end`. For every split of the same
    bytes the pieces join to the same body, or it is refused; of several faults another one may be named.

    Args:
        codings: as `parse` returns them; at least one.
        limits: see Limits.
    """

    def __init__(self, codings: Sequence[str], limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        # The coding that was applied last is undone first (RFC 9110, section 8.4).
        self._layers = [_Layer(coding, self._limits) for coding in reversed(codings)]
        self._steps = 0  # of the bytes that came, begun ones too

    def feed(self, octets: bytes) -> None:
        """Add the next encoded bytes. They are kept until they are read, and copied if others still wait.

        Raises:
            Refusal: 400; they could be JSON as they stand.
        """
        if octets:
            self._layers[0].feed(octets)

    @property
    def pending(self) -> bool:
        """Whether `read` has something to do."""
        return any(layer.can_step for layer in self._layers)

    @property
    def memory_bytes(self) -> int:
        """What the decoders hold at most, for a budget: windows fill only as output is made."""
        return sum(layer.memory_bytes for layer in self._layers)

    @property
    def decoded_bytes(self) -> int:
        """How many bytes `read` has given so far."""
        return self._layers[-1].produced

    def read(self) -> bytes:
        """Do one step of work and return what came of it, often nothing, and never more than 96 KiB.

        A step decodes at most STEP_BYTES in one layer.

        Raises:
            Refusal: 400, the body is not what Content-Encoding says; 413, it grows beyond the limits.
        """
        for index in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[index]
            if layer.can_step:
                piece = layer.step()
                self._check_growth(layer, len(piece))
                if index == len(self._layers) - 1:
                    return piece
                if piece:
                    self._layers[index + 1].feed(piece)
                break
        return b""

    def end(self) -> None:
        """Take note that no more bytes will come, and that nothing is pending.

        A body of no bytes at all is no body, and no error.

        Raises:
            Refusal: 400; the body was cut off.
        """
        if self._layers[0].consumed and not all(layer.whole for layer in self._layers):
            raise refusal.encoding_cut_off()

    def _check_growth(self, layer: _Layer, made: int) -> None:
        limits = self._limits
        steps = -(-self._layers[0].consumed // STEP_BYTES)
        if steps > self._steps:  # until now nothing waited in any layer, wherever the body was cut
            self._steps = steps
            for each in self._layers:
                each.credit = min(limits.burst_bytes, each.credit + limits.max_ratio * STEP_BYTES)
        layer.credit -= made
        if layer.produced > limits.max_decoded_bytes:
            raise refusal.decoded_too_large(limits.max_decoded_bytes)
        if layer.credit < 0:
            raise refusal.decoded_ratio(limits.max_ratio)


def parse(values: Sequence[bytes]) -> tuple[str, ...]:
    """Return the codings of a message by its Content-Encoding fields, in the order in which they were applied.

    `identity` is left out, `x-gzip` is gzip (RFC 9110, section 8.4.1.3). A charset in the wrong field, `utf-8`, is left
    out too: some clients send it, and nothing decodes it.

    Raises:
        Refusal: 415; a coding is not known, there are more than MAX_LAYERS, or the fields are too long.
    """
    if sum(map(len, values)) > MAX_FIELD_BYTES:
        raise refusal.encoding_unknown(values[0].decode("ascii", "replace"), ACCEPT_ENCODING)
    codings = []
    for value in values:
        for element in value.split(b","):
            name = element.strip(b" \t").lower()
            if name in (b"", b"identity", b"utf-8", b"utf8"):  # empty elements: RFC 9110, section 5.6.1.2
                continue
            coding = _CODINGS.get(name)
            if coding is None:
                raise refusal.encoding_unknown(name.decode("ascii", "replace"), ACCEPT_ENCODING)
            codings.append(coding)
    if len(codings) > MAX_LAYERS:
        raise refusal.encoding_layers(len(codings), MAX_LAYERS, ACCEPT_ENCODING)
    return tuple(codings)


_CODINGS: Final = {b"gzip": "gzip", b"x-gzip": "gzip", b"deflate": "deflate", b"br": "br", b"zstd": "zstd"}
