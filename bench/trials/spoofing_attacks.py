"""Requests that try to get a client's own routing header to a pool: seeded, malformed ones among them.

Every request carries a name of its own in `x-case`, by which a recording pool tells what reached it. What a request may
come to is known from its body alone (`truth`, by the standard library's parser) and from how it was made (`expected`);
nothing here shares a line with the router.
"""

import json
import random
import urllib.parse
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

ROUTING: Final = ("x-gateway-base-model-name", "x-gateway-model-name", "x-gateway-destination-endpoint")
CASE: Final = "x-case"
DEFAULT: Final = "default"
NOBODY: Final = "nobody"

# Larger JSON bodies are refused; small, so that a run of many requests has many of them.
MAX_BODY_BYTES: Final = 48_000

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Attack:
    """One request.

    Attributes:
        case: its name.
        kind: how it is counted.
        body: all that its body will be, if the client does not leave before.
        expected: the pool that must receive it unaltered, NOBODY if none may receive it whole, "" if it is uncertain.
        unfinished: its client leaves, or resets it, before its end.
        form: it says that its body is an urlencoded form.
    """

    case: str
    kind: str
    body: bytes = b""
    expected: str = ""
    unfinished: bool = False
    form: bool = False

    def cut_off(self) -> None:
        """Note that the request will never be whole."""
        self.kind += ", cut off"
        self.expected = NOBODY
        self.body = b""
        self.unfinished = True


@dataclass(slots=True)
class Frame:
    """One step on one stream of an HTTP/2 session: exactly one of `headers`, `data` and `reset` is meant."""

    stream: int
    headers: Headers | None = None
    data: bytes | None = None
    end: bool = False
    reset: bool = False


@dataclass(slots=True)
class Session:
    """What one client does on one connection.

    Attributes:
        writes: HTTP/1.1, octets in pieces; the session ends when the gateway has closed the connection.
        frames: HTTP/2; the session ends when every stream of `awaited` is over, or the connection.
        leaves: the client closes the connection once all is written.
        resets: it resets the connection instead.
        endless: an answer may never come: a gateway in BUFFERED waits for the end of a body that has none.
    """

    attacks: list[Attack] = field(default_factory=list)
    writes: list[bytes] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    awaited: set[int] = field(default_factory=set)
    leaves: bool = False
    resets: bool = False
    endless: bool = False


@dataclass(slots=True)
class _Draft:
    """A request before it is put on the wire; `odd` is set by whatever makes its fate the gateway's affair."""

    attack: Attack
    method: bytes
    target: bytes
    headers: Headers
    body: bytes | None
    odd: bool = False


def truth(body: bytes, models: dict[str, str], *, form: bool = False) -> tuple[str, str] | None:
    """Return the model that a body truly names and its base model; None if it names none, or not exactly one.

    Args:
        body: of the request.
        models: model -> base model, adapters among them.
        form: the request says that it is an urlencoded form; one that begins as an object is JSON all the same.
    """
    names: list[object] = []
    if form and not body.startswith(b"{"):
        fields = urllib.parse.parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        named = [value for key, value in fields if key == "model"]
        return (named[0], models[named[0]]) if len(named) == 1 and named[0] in models else None

    def keep(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names[:] = [value for key, value in pairs if key == "model"]  # the outermost object comes last
        return dict(pairs)

    try:
        document = json.loads(body.decode(), object_pairs_hook=keep)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or len(names) != 1 or not isinstance(names[0], str):
        return None
    base = models.get(names[0])
    return (names[0], base) if base else None


class Attacks:
    """A reproducible source of sessions: the same seed and number give the same session.

    Args:
        seed: of all that is random.
        models: model -> base model, the router's table.
        trap: `address:port` of a server that no request may reach.
    """

    def __init__(self, seed: str, models: dict[str, str], trap: str) -> None:
        self._seed = seed
        self._models = models
        self._trap = trap

    def session(self, number: int) -> Session:
        """Return session `number`."""
        self._rng = random.Random(f"{self._seed}/{number}")
        self._number = number
        self._count = 0
        session = self._http2() if self._rng.random() < 0.5 else self._http1()
        if session.leaves or session.endless:  # the client may be gone before the gateway has read it all
            for attack in session.attacks:
                attack.expected = NOBODY if attack.expected == NOBODY else ""
        return session

    def _attack(self, kind: str, body: bytes = b"", expected: str = "") -> Attack:
        self._count += 1
        return Attack(f"{self._number}-{self._count}", kind, body, expected)

    # What is in a request: its headers and its body.

    def _value(self, name: str) -> bytes:
        rng = self._rng
        if name.endswith("endpoint") and rng.random() < 0.7:
            return self._trap.encode()
        model = rng.choice(sorted(self._models)).encode()
        other = rng.choice(sorted(self._models)).encode()
        shapes = [
            model,
            model,
            model,
            b"  " + model + b" \t",
            model + b"," + other,
            model + b", " + model,
            b'"' + model + b'"',
            model.upper(),
            model.replace(b"/", b"%2F"),
            b"",
            b"\xe6\xa8\xa1" + model,
            b"\xff" + model,
            model + b"\t" + other,
            b"x" * rng.choice([300, 8_000, 20_000]),
            (model + b",") * 400,
        ]
        return rng.choice(shapes)

    def _routing_headers(self, *, http2: bool) -> tuple[Headers, bool]:
        """Return routing headers, and whether one of them breaks a rule of HTTP."""
        rng = self._rng
        headers: Headers = []
        lawful = rng.random() < 0.9
        odd = False
        for _ in range(rng.choice([1, 1, 2, 3, 6])):
            name = rng.choice(ROUTING)
            value = self._value(name)
            spelled = name.encode()
            if http2:
                value = value.strip(b" \t")
            else:
                spelled = rng.choice([spelled, spelled.title(), spelled.upper(), _random_case(rng, spelled)])
            if rng.random() < 0.1:
                spelled = spelled.replace(b"-", b"_", rng.choice([1, -1]))
            elif not lawful and rng.random() < 0.5:
                odd = True
                blank, control = (
                    rng.choice([b" ", b"\t", b"\x00", b":"]),
                    rng.choice([b"\x00", b"\x0b", b"\x7f", b"\r"]),
                )
                spelled, value = rng.choice(
                    [
                        (spelled + blank, value),
                        (spelled, value + control),
                        (spelled, value + b"\n" + name.encode() + b": " + value),
                        # HTTP/2 forbids capitals, and blanks around a value; HTTP/1.1 has folded lines.
                        (spelled.title(), b" " + value) if http2 else (b"x-other", b"a\r\n " + spelled + b": " + value),
                    ]
                )
            headers.append((spelled, value))
        if sum(len(name) + len(value) for name, value in headers) > 50_000:
            odd = True  # near the gateway's limit of 60 KiB
        return headers, odd

    def _content_types(self) -> tuple[list[bytes], str]:
        """Return Content-Type values, and whether such a body is "read", "passed" or the one or the other ("")."""
        return self._rng.choice(
            [
                ([b"application/json"], "read"),
                ([b"application/json"], "read"),
                ([b"application/json"], "read"),
                ([b"Application/JSON; charset=utf-8"], "read"),
                ([b"application/problem+json"], "read"),
                ([], "read"),
                ([b"text/html"], "passed"),
                ([b"text/plain"], ""),
                ([b"application/octet-stream"], "passed"),
                ([b"multipart/mixed; boundary=b"], "passed"),
                ([b"application/grpc"], "passed"),
                ([b"application/x-www-form-urlencoded"], "form"),
                ([b""], ""),
                ([b"application/json, text/plain"], ""),
                ([b"text/plain", b"application/json"], ""),
                ([b"application/jsonx"], ""),
            ]
        )

    def _body(self) -> tuple[str, bytes, str]:
        """Return a body: its kind, its octets, and what a JSON body of these octets must come to."""
        rng = self._rng
        model = rng.choice(sorted(self._models))
        base = self._models[model]
        name = json.dumps(model)
        text = "x" * rng.choice([0, 0, 10, 1_000, 20_000])
        other = json.dumps(rng.choice(sorted(self._models)))
        large = json.dumps({"model": model, "prompt": "x" * rng.choice([MAX_BODY_BYTES, 3 * MAX_BODY_BYTES])}).encode()
        if rng.random() < 0.35:
            return "a model", f'{{"prompt": "{text}",\n "model" : {name} }}\n'.encode(), base
        return rng.choice(
            [
                ("a model", json.dumps({"tools": [{"model": PHANTOM}], "model": model}).encode(), base),
                ("a model", f'{{"\\u006dodel": {name}, "prompt": "{text}"}}'.encode(), base),
                ("no model", f'{{"prompt": "{text}"}}'.encode(), DEFAULT),
                ("no model", f'{{"prompt": "{text}"}}'.encode(), DEFAULT),
                ("no model", b"{}", DEFAULT),
                ("no model", json.dumps({"model ": model}).encode(), DEFAULT),
                ("another spelling", json.dumps({"Model": model, "MODEL": model}).encode(), NOBODY),
                ("no model", json.dumps({"metadata": {"model": model}, "x": [{"model": model}]}).encode(), DEFAULT),
                ("no model", json.dumps([{"model": model}]).encode(), DEFAULT),
                ("no model", json.dumps(f'"model": {name}').encode(), DEFAULT),
                ("empty", b"", DEFAULT),
                ("an unknown model", json.dumps({"model": model + "x"}).encode(), NOBODY),
                ("an unknown model", json.dumps({"model": model.swapcase()}).encode(), NOBODY),
                ("no usable model", json.dumps({"model": rng.choice([None, 7, True, [model], ""])}).encode(), NOBODY),
                ("no usable model", json.dumps({"model": f" {model}"}).encode(), NOBODY),
                ("no usable model", json.dumps({"model": f"{model}\r\n{ROUTING[0]}: {model}"}).encode(), NOBODY),
                ("two models", f'{{"model": {name}, "model": {other}}}'.encode(), NOBODY),
                ("two models", f'{{"model": {name}, "m\\u006fdel": {other}}}'.encode(), NOBODY),
                ("broken JSON", f'{{"model": {name}'.encode(), NOBODY),
                ("broken JSON", f'{{"model": {name}}}{{"model": {other}}}'.encode(), NOBODY),
                ("broken JSON", b"\xef\xbb\xbf" + json.dumps({"model": model}).encode(), NOBODY),
                ("broken JSON", f'{{"model": {name}, "n": NaN}}'.encode(), NOBODY),
                ("broken JSON", b'{"a":' * 2_000 + name.encode() + b"}" * 2_000, NOBODY),
                ("binary", json.dumps({"model": model}).encode("utf-16"), NOBODY),
                ("binary", zlib.compress(json.dumps({"model": model}).encode()), NOBODY),
                ("binary", bytes(rng.randbytes(200)), NOBODY),
                ("too large", large, NOBODY),
                ("a form", f"model={model}&prompt=x".encode(), NOBODY),
                ("a form", b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\n', NOBODY),
                ("a request in it", self._inner(), NOBODY),
            ]
        )

    def _inner(self) -> bytes:
        spoofed, _ = self._routing_headers(http2=False)
        head = (b"POST /inner HTTP/1.1", b"host: inner", *(b": ".join(pair) for pair in spoofed))
        return b"\r\n".join([*head, b"content-length: 0", b"", b""])

    def _draft(self, *, http2: bool) -> _Draft:
        rng = self._rng
        spoofed, odd = self._routing_headers(http2=http2)
        method = rng.choice([b"POST"] * 12 + [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"PATCH", b"BREW"])
        target = rng.choice([b"/v1/chat/completions", b"/v1/messages", b"/v1/models", b"/"])
        types, read = self._content_types()
        kind, body, expected = self._body()
        if method not in (b"POST", b"PUT", b"PATCH", b"BREW") and rng.random() < 0.8:
            attack = self._attack(f"{method.decode()}, no body", expected=DEFAULT)
            content: bytes | None = None
        else:
            form = read == "form"
            named = truth(body, self._models, form=True) if form else None
            if form:
                read = "read" if named or body.startswith(b"{") else "passed"
            if form and not body.isascii():
                expected = ""  # a form in no encoding, or with a byte order mark, is refused; some of these are neither
            elif body == b"" or read == "passed":
                expected = DEFAULT
            elif read != "read":
                expected = ""
            elif form and named and not body.startswith(b"{"):
                expected = named[1]
            attack = self._attack(kind if read == "read" else f"{kind}, of another type", body, expected)
            attack.form = form
            content = body
        if method == b"HEAD" and content:
            odd = True
        headers = [(CASE.encode(), attack.case.encode()), *((b"content-type", value) for value in types), *spoofed]
        if not http2 and rng.random() < 0.2:  # python-hyper/h2 takes no 100 on a stream that it has reset
            headers.append((b"expect", b"100-continue"))
            odd = odd or content is None
        rng.shuffle(headers)
        return _Draft(attack, method, target, headers, content, odd)

    # HTTP/1.1

    def _http1(self) -> Session:
        rng = self._rng
        session = Session()
        octets = b""
        healthy = True  # whether the gateway will read on after the requests so far
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            draft = self._draft(http2=False)
            draft.odd |= draft.method == b"BREW"  # Envoy knows no such method in HTTP/1.1
            session.attacks.append(draft.attack)
            octets += self._http1_request(session, draft)
            if draft.attack.unfinished:
                break
            if draft.odd or not healthy:
                draft.attack.expected = ""
            healthy = healthy and draft.attack.expected not in ("", NOBODY)
        if not session.leaves and healthy and rng.random() < 0.1:
            octets += self._upgrade(session)
        elif not session.leaves:
            last = self._attack("GET, no body", expected=DEFAULT if healthy else "")
            session.attacks.append(last)
            octets += _head(b"GET", b"/end", [(CASE.encode(), last.case.encode()), (b"connection", b"close")])
        session.writes = _cut(rng, octets)
        return session

    def _http1_request(self, session: Session, draft: _Draft) -> bytes:
        rng = self._rng
        headers, body = draft.headers, draft.body
        if rng.random() < 0.1:  # ask the gateway to drop what its router sets
            headers.append((b"connection", rng.choice(ROUTING).encode() + b", keep-alive"))
        if rng.random() < 0.05:
            draft.target = b"http://gateway.test" + draft.target
        if body is None:
            return _head(draft.method, draft.target, headers)
        length = (b"content-length", str(len(body)).encode())
        chunked = (b"transfer-encoding", b"chunked")
        shape = rng.random()
        if shape < 0.4:
            return _head(draft.method, draft.target, [*headers, length]) + body
        if shape < 0.65:
            return _head(draft.method, draft.target, [*headers, chunked]) + _chunks(rng, body)
        if shape < 0.8:
            trailers, odd = self._routing_headers(http2=False)
            draft.odd |= odd
            draft.attack.kind += ", trailers"
            return _head(draft.method, draft.target, [*headers, chunked]) + _chunks(rng, body, trailers)
        if shape < 0.9 and body:
            session.leaves = True
            whole = _head(draft.method, draft.target, [*headers, length]) + body
            draft.attack.cut_off()
            session.resets = rng.random() < 0.5
            return whole[: len(whole) - rng.randrange(1, len(body) + 1)]
        draft.odd = True
        draft.attack.kind = "framing that two servers read differently"
        smuggled = self._attack("a smuggled request")
        session.attacks.append(smuggled)
        inner = _head(b"POST", b"/inner", [(CASE.encode(), smuggled.case.encode()), *draft.headers[-1:]])
        draft.attack.body = body + inner  # whichever length the gateway goes by
        return rng.choice(
            [
                _head(draft.method, draft.target, [*headers, length, chunked]) + b"0\r\n\r\n" + inner,
                _head(draft.method, draft.target, [*headers, length, (b"content-length", b"0")]) + body + inner,
                _head(draft.method, draft.target, [*headers, (b"transfer-encoding", b"xchunked"), length])
                + body
                + inner,
                _head(draft.method, draft.target, [*headers, (b"content-length", b"+1")]) + body + inner,
                _head(draft.method, draft.target, [*headers, chunked]) + b"FFFFFFFFFFFFFFFFF\r\n" + inner,
                _head(draft.method, draft.target, headers).replace(b" HTTP/1.1", b" HTTP/1.0") + inner,
            ]
        )

    def _upgrade(self, session: Session) -> bytes:
        rng = self._rng
        spoofed, _ = self._routing_headers(http2=False)
        attack = self._attack("an upgrade")
        session.attacks.append(attack)
        session.endless = True
        headers = [(CASE.encode(), attack.case.encode()), *spoofed]
        if rng.random() < 0.3:
            attack.kind = "CONNECT"
            return _head(b"CONNECT", b"pool.test:443", headers)
        protocol = rng.choice([b"websocket", b"WebSocket", b"h2c", b"x-gateway-base-model-name"])
        headers += [(b"connection", b"Upgrade"), (b"upgrade", protocol)]
        headers += [(b"sec-websocket-version", b"13"), (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA==")]
        return _head(rng.choice([b"GET", b"GET", b"POST"]), b"/v1/realtime", headers) + b"\x81\x80\0\0\0\0"

    # HTTP/2

    def _http2(self) -> Session:
        rng = self._rng
        session = Session()
        streams: list[list[Frame]] = []
        for _ in range(rng.choice([1, 2, 4, 8])):
            stream = 2 * len(streams) + 1
            draft = self._draft(http2=True)
            frames, awaited = self._http2_request(session, draft, stream)
            if draft.odd and streams:
                continue  # what makes the gateway close the connection stands alone
            session.attacks.append(draft.attack)
            streams.append(frames)
            if awaited:
                session.awaited.add(stream)
            if draft.odd:
                draft.attack.expected = NOBODY if draft.attack.expected == NOBODY else ""
                break
        # In the order of their streams' ids, otherwise as it comes.
        opened = 0
        while any(streams):
            choices = [frames for index, frames in enumerate(streams) if frames and index <= opened]
            frames = rng.choice(choices)
            frame = frames.pop(0)
            opened = max(opened, (frame.stream + 1) // 2)
            session.frames.append(frame)
        return session

    def _http2_request(self, session: Session, draft: _Draft, stream: int) -> tuple[list[Frame], bool]:
        """Return a request's frames, and whether it has an end to await."""
        rng = self._rng
        body = draft.body
        pseudo = [(b":method", draft.method), (b":scheme", b"http"), (b":authority", b"gateway.test")]
        head: Headers = [*pseudo, (b":path", draft.target), *draft.headers]
        shape = rng.random()
        if shape < 0.03:
            return [self._connect(session, draft, stream)], True
        if shape < 0.06:
            draft.odd = True
            draft.attack.kind = "a field that HTTP/2 forbids"
            head.append(
                rng.choice([(b"connection", b"x-gateway-model-name"), (b"content-length", b"3"), (b":path", b"/")])
            )
        if body is None:
            return [Frame(stream, headers=head, end=True)], True
        frames = [Frame(stream, headers=head), *(Frame(stream, data=piece) for piece in _cut(rng, body))]
        if shape < 0.5:
            if not body and rng.random() < 0.5:
                return [Frame(stream, headers=head, end=True)], True
            if not body:
                frames.append(Frame(stream, data=b""))
            frames[-1].end = True
        elif shape < 0.8:
            trailers, odd = self._routing_headers(http2=True)
            draft.odd |= odd
            draft.attack.kind += ", trailers"
            frames.append(Frame(stream, headers=trailers, end=True))
        else:
            draft.attack.cut_off()
            frames = frames[: rng.randrange(1, len(frames) + 1)]
            if rng.random() < 0.7:
                frames.append(Frame(stream, reset=True))
            return frames, False
        return frames, True

    def _connect(self, session: Session, draft: _Draft, stream: int) -> Frame:
        """Return a CONNECT, or an extended one; its tunnel stays open until one side leaves."""
        draft.attack.kind = "CONNECT"
        draft.attack.expected = ""
        draft.attack.body = b""
        session.endless = True
        head: Headers = [(b":method", b"CONNECT"), (b":authority", b"pool.test:443")]
        if self._rng.random() < 0.6:
            head += [(b":protocol", b"websocket"), (b":scheme", b"http"), (b":path", b"/v1/realtime")]
            head += [(b"sec-websocket-version", b"13")]
        return Frame(stream, headers=[*head, *draft.headers])


PHANTOM: Final = "another-model"


def _head(method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    lines = [method + b" " + target + b" HTTP/1.1", b"host: gateway.test", *(b": ".join(pair) for pair in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _chunks(rng: random.Random, body: bytes, trailers: Headers | None = None) -> bytes:
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in _cut(rng, body))
    return pieces + b"0\r\n" + b"".join(b"%s: %s\r\n" % pair for pair in trailers or []) + b"\r\n"


def _cut(rng: random.Random, octets: bytes) -> list[bytes]:
    """Cut octets into a few pieces, of which none is empty."""
    count = min(len(octets), rng.choice([1, 1, 2, 3, 10]))
    ends = sorted({*(rng.randrange(len(octets)) for _ in range(count - 1)), len(octets)} - {0}) if octets else []
    return [octets[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _random_case(rng: random.Random, name: bytes) -> bytes:
    return bytes(octet & ~0x20 if 0x61 <= octet <= 0x7A and rng.random() < 0.5 else octet for octet in name)
