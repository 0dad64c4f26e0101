"""How many opcodes a byte of a client's request costs, at its dearest. Run: python -m bench.micro.per_byte

Each request is as its client sends it to the gateway, and as the gateway then shows it to the router: a message for
each DATA frame. Bytes are those of the client: 120 for an ordinary header section, 9 for each frame, and the body.
Opcodes are the interpreter's, of the whole connection, as in bench.micro.connection.
"""

import gzip
import random
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final, NamedTuple

from bbr.config import loading, policies
from bbr.exchange.policy import BodyMode
from bbr.pb.ext_proc_pb2 import HttpBody, HttpHeaders, ProcessingRequest, ProtocolConfiguration
from bbr.rpc.messages import frame
from bench.harness import h2_frames
from bench.harness.messages import header_map
from bench.micro.connection import COUNTED, FRAME_BYTES, READ_BYTES, WARM, Client, count

HEAD_BYTES: Final = 120
DATA_HEAD_BYTES: Final = 9

JSON: Final = ("content-type", "application/json")
FORM: Final = ("content-type", "application/x-www-form-urlencoded")
MULTIPART: Final = ("content-type", "multipart/form-data; boundary=B")
GZIP: Final = ("content-encoding", "gzip")


class Kind(NamedTuple):
    """A request.

    Attributes:
        fields: of its header section, beside the pseudo-headers.
        body: its bytes.
        piece_bytes: of a DATA frame.
        path: of its URL.
        settings: of the router, by the names of their flags.
    """

    fields: Sequence[tuple[str, str]]
    body: bytes
    piece_bytes: int = FRAME_BYTES
    path: str = "/v1/chat/completions"
    settings: Mapping[str, str] = {}

    @property
    def sent_bytes(self) -> int:
        """What its client sends."""
        fields = sum(len(name) + len(value) for name, value in self.fields[1:])
        frames = -(-len(self.body) // self.piece_bytes)
        return HEAD_BYTES + fields + len(self.path) + len(self.body) + DATA_HEAD_BYTES * frames


def _chat(size: int) -> bytes:
    return b'{"model":"qwen","x":"%s"}' % (b"a" * size)


def _brackets(count: int) -> bytes:
    return b'{"a":[%s[]],"model":"qwen"}' % (b"[]," * count)


_PART: Final = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
_LAST_PART: Final = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nqwen\r\n--B--\r\n'
_NOISE: Final = random.Random(1).randbytes(1_900).hex().encode()
_MEMBERS: Final = b"".join(gzip.compress(b"") for _ in range(1000)) + gzip.compress(b'{"model":"qwen"}')
_STRAYS: Final = [(f"x{a}gateway{b}model-name", "a") for a, b in product("!#$%&'*+._", "!#$%&")]
_TEMPLATES: Final = {"path_template": ",".join(f"/**/a{number}/{{model}}/b/c" for number in range(32))}
_PATTERNS: Final = {"include_path": ",".join(f"/**/a/**/a{number}*" for number in range(64))}

KINDS: Final[Mapping[str, Kind]] = {
    "plain JSON of 1 KB": Kind((JSON,), _chat(1_000)),
    "plain JSON of 100 KB": Kind((JSON,), _chat(100_000)),
    "JSON in DATA of 1 byte": Kind((JSON,), _chat(1_980), piece_bytes=1),
    "gzip in DATA of 1 byte": Kind((JSON, GZIP), gzip.compress(_chat(0)[:-2] + _NOISE + b'"}'), piece_bytes=1),
    "JSON in DATA of 100 bytes": Kind((JSON,), _chat(300_000), piece_bytes=100),
    "brackets, 180 KB": Kind((JSON,), _brackets(60_000)),
    "brackets, 240 KB in gzip": Kind((JSON, GZIP), gzip.compress(_brackets(80_000))),
    "brackets, 240 KB in gzip twice": Kind(
        (JSON, ("content-encoding", "gzip, gzip")), gzip.compress(gzip.compress(_brackets(80_000)))
    ),
    "gzip of 1,000 members": Kind((JSON, GZIP), _MEMBERS),
    "form of keys that could be model": Kind((FORM,), b"%6dodex=&" * 11_000 + b"model=qwen"),
    "multipart of 900 parts": Kind((MULTIPART,), _PART * 900 + _LAST_PART),
    "50 spellings of a routing header": Kind((JSON, *_STRAYS), _chat(100)),
    "odd path, 32 templates": Kind((JSON,), _chat(100), path="/" + "%2561/" * 150, settings=_TEMPLATES),
    "odd path, 64 patterns too": Kind(
        (JSON,), _chat(100), path="/" + "%2561/" * 150, settings={**_TEMPLATES, **_PATTERNS}
    ),
}


class Sender(Client):
    """What sends the requests of a kind."""

    def __init__(self, kind: Kind) -> None:
        super().__init__("1k")
        self.server._policy = policies.policy(loading.load(kind.settings, {}))
        pieces = [kind.body[at : at + kind.piece_bytes] for at in range(0, len(kind.body), kind.piece_bytes)]
        pseudo = [(":method", "POST"), (":path", kind.path), (":scheme", "http"), (":authority", "gateway.test")]
        mode = ProtocolConfiguration(request_body_mode=BodyMode.FULL_DUPLEX_STREAMED)
        headers = HttpHeaders(headers=header_map([*pseudo, *kind.fields]))
        messages = [ProcessingRequest(request_headers=headers, protocol_config=mode)]
        messages += [ProcessingRequest(request_body=HttpBody(body=piece)) for piece in pieces]
        messages[-1].request_body.end_of_stream = True
        self._sent = [frame([each.SerializeToString()]) for each in messages]

    def next(self) -> Sequence[bytes]:
        """Return the reads of the next request."""
        self._stream_id += 2
        block = self._blocks[0] if self._stream_id == 1 else self._blocks[1][0]
        octets = h2_frames.headers(self._stream_id, block, end=False)
        for message in self._sent:
            for start in range(0, len(message), FRAME_BYTES):
                last = message is self._sent[-1] and start + FRAME_BYTES >= len(message)
                octets += h2_frames.data(self._stream_id, message[start : start + FRAME_BYTES], end=last)
        return [octets[start : start + READ_BYTES] for start in range(0, len(octets), READ_BYTES)]


def main() -> None:
    """Count, and print."""
    print(f"{'request':<36}{'bytes':>9}{'opcodes':>12}{'a byte':>9}")
    for name, kind in KINDS.items():
        sender = Sender(kind)
        for _ in range(min(WARM, 3)):
            sender.send(sender.next())
        opcodes = sum(count(sender).values()) / COUNTED
        print(f"{name:<36}{kind.sent_bytes:>9,}{opcodes:>12,.0f}{opcodes / kind.sent_bytes:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
