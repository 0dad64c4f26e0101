"""`bbr probe`: what a health check and one real exchange with an ext_proc server bring back.

Fit for a container's health check and for a test of a fresh installation: it sends what Envoy sends, and holds what
comes back against what a gateway needs. The servers need not be bbr's.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError

from bbr.commands.probe.client import Call, CallEndedError, Client
from bbr.commands.probe.wire import Address, Deadline, Handshake, ProbeError, Tls, Wire
from bbr.headers import listed
from bbr.pb.ext_proc_pb2 import (
    CommonResponse,
    HeaderMap,
    HeaderMutation,
    HeaderValue,
    HttpBody,
    HttpHeaders,
    ImmediateResponse,
    ProcessingMode,
    ProcessingRequest,
    ProcessingResponse,
    ProtocolConfiguration,
)
from bbr.pb.health_pb2 import HealthCheckRequest, HealthCheckResponse
from bbr.rpc.health import EXT_PROC_SERVICE, SERVICE
from bbr.text import brief

MODES: Final = {"full-duplex": ProcessingMode.FULL_DUPLEX_STREAMED, "buffered": ProcessingMode.BUFFERED}

# Asked for if no model is given: a name that no table has, so that the answer is a 404 or an identity.
UNLIKELY_MODEL: Final = "bbr-probe"
_NAME: Final = "x-gateway-model-name"
_BASE: Final = "x-gateway-base-model-name"
_NOT_FOUND: Final = 404
_UNIMPLEMENTED: Final = 12
# How much more than was sent may come back; a body that never ends is not read until the deadline.
_BODY_SLACK: Final = 64 << 10

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """What to probe.

    Attributes:
        address: of ext_proc; None asks for nothing but health, at `health_address`.
        tls: how to speak TLS there; None for plaintext.
        health_address: ask for health there, in plaintext; None asks at `address`.
        model: must be routed; None asks for one that is hardly there, and takes a 404 for a healthy answer.
        mode: a key of MODES.
        timeout_seconds: for everything together.
    """

    address: Address | None = None
    tls: Tls | None = None
    health_address: Address | None = None
    model: str | None = None
    mode: str = "full-duplex"
    timeout_seconds: float = 5.0


@dataclass(slots=True)
class Exchange:
    """What one exchange brought back."""

    sent: bytes
    sets: list[tuple[str, bytes]] = field(default_factory=list)
    removes: list[str] = field(default_factory=list)
    clears: bool = False
    returned: bytes = b""
    immediate: ImmediateResponse | None = None
    milliseconds: float = 0.0

    @property
    def intact(self) -> bool:
        """Whether the body that came back is the one that was sent."""
        return self.returned == self.sent

    def routes(self, model: str) -> bool:
        """Tell whether the answer routes a request for a model."""
        found = {name.lower(): value for name, value in self.sets}
        if _NAME in found or _BASE in found:
            return all(found.get(name, b"?") for name in (_NAME, _BASE))
        return model.encode() in found.values()  # under names of an operator's choice


@dataclass(slots=True)
class Report:
    """All that a probe found; what it never came to is None.

    Attributes:
        problems: why the router is not healthy, one sentence each; empty if it is.
    """

    options: ProbeOptions
    handshake: Handshake | None = None
    connect_milliseconds: float | None = None
    health: str | None = None
    health_milliseconds: float = 0.0
    exchange: Exchange | None = None
    problems: list[str] = field(default_factory=list)


def probe(options: ProbeOptions) -> Report:
    """Do a health check and an exchange, as far as they come.

    Raises:
        OSError: a file of `options.tls` can't be used.
    """
    report = Report(options)
    deadline = Deadline(options.timeout_seconds)
    if options.health_address is not None:
        _at(report, options.health_address, lambda address: _probe_health(report, address, deadline))
    if options.address is not None:
        _at(report, options.address, lambda address: _probe_ext_proc(report, address, deadline))
    return report


def _at(report: Report, address: Address, ask: Callable[[Address], None]) -> None:
    """Ask at an address; what goes wrong is a problem of the report."""
    try:
        ask(address)
    except ProbeError as error:
        report.problems.append(f"{address}: {error}")


def _probe_health(report: Report, address: Address, deadline: Deadline) -> None:
    with Client(Wire(address, None, deadline)) as client:
        _ask_health(report, client)


def _probe_ext_proc(report: Report, address: Address, deadline: Deadline) -> None:
    options = report.options
    client, report.connect_milliseconds = _timed(lambda: _connected(report, address, deadline))
    with client:
        if options.health_address is None:
            _ask_health(report, client)
        model = options.model or UNLIKELY_MODEL
        exchange = Exchange(_chat(model))
        _, exchange.milliseconds = _timed(lambda: _converse(exchange, client, options.mode))
        report.exchange = exchange
        _judge(report, exchange, model)


def _connected(report: Report, address: Address, deadline: Deadline) -> Client:
    wire = Wire(address, report.options.tls, deadline)
    report.handshake = wire.handshake
    return Client(wire)


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    begun = time.perf_counter()
    value = call()
    return value, (time.perf_counter() - begun) * 1000


def _ask_health(report: Report, client: Client) -> None:
    options = report.options
    address = options.health_address or options.address
    try:
        answer, report.health_milliseconds = _timed(lambda: _check(client))
    except CallEndedError as error:
        # The Go routers offer health on a port of its own only; the exchange shows more than it would anyway.
        report.health = "not offered" if error.code == _UNIMPLEMENTED else "failed"
        if error.code != _UNIMPLEMENTED or options.health_address is not None:
            report.problems.append(f"{address}: the health check failed: {error}")
        return
    try:
        status = HealthCheckResponse.FromString(answer).status
        report.health = HealthCheckResponse.ServingStatus.Name(status)
    except (DecodeError, ValueError):
        report.health = "unreadable"
    if report.health != "SERVING":
        report.problems.append(f"{address}: its health is {report.health}")


def _check(client: Client) -> bytes:
    call = client.open(f"/{SERVICE}/Check")
    call.send(HealthCheckRequest().SerializeToString(), end=True)
    return call.receive()


def _chat(model: str) -> bytes:
    # Keys in order and no blanks: a server that reads and writes the document anew sends the same bytes.
    chat = {"messages": [{"content": "ping", "role": "user"}], "model": model}
    return json.dumps(chat, ensure_ascii=False, separators=(",", ":")).encode()


def _request_headers(body: bytes, mode: str) -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":authority": "bbr-probe.invalid",
        ":path": "/v1/chat/completions",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "user-agent": "bbr-probe",
        "x-forwarded-proto": "https",
        "x-request-id": "00000000-0000-4000-8000-000000000000",
    }
    values = [HeaderValue(key=name, raw_value=value.encode()).SerializeToString() for name, value in fields.items()]
    message = ProcessingRequest(
        request_headers=HttpHeaders(headers=HeaderMap(headers=values)),
        protocol_config=ProtocolConfiguration(request_body_mode=MODES[mode]),
    )
    return message.SerializeToString()


def _converse(exchange: Exchange, client: Client, mode: str) -> None:
    call = client.open(f"/{EXT_PROC_SERVICE}/Process")
    body = ProcessingRequest(request_body=HttpBody(body=exchange.sent, end_of_stream=True)).SerializeToString()
    call.send(_request_headers(exchange.sent, mode))
    if mode == "full-duplex":
        call.send(body)
    answer = _answer(call)
    if _ended_at_once(exchange, answer):
        return
    if answer.WhichOneof("response") != "request_headers":
        raise ProbeError(f"its first answer is {_kind(answer)}, where an answer to the headers was expected")
    common = answer.request_headers.response
    _take_common(exchange, common)
    if common.status == CommonResponse.CONTINUE_AND_REPLACE:
        exchange.returned = common.body_mutation.body
        return
    if mode != "full-duplex":
        call.send(body)
    while True:
        answer = _answer(call)
        if _ended_at_once(exchange, answer):
            return
        if answer.WhichOneof("response") != "request_body":
            raise ProbeError(f"it answered the body with {_kind(answer)}")
        common = answer.request_body.response
        if mode == "full-duplex":
            if _take_piece(exchange, common):
                return
        else:
            _take_common(exchange, common)
            exchange.returned = _mutated(exchange.sent, common)
            return


def _ended_at_once(exchange: Exchange, answer: ProcessingResponse) -> bool:
    if answer.WhichOneof("response") != "immediate_response":
        return False
    exchange.immediate = answer.immediate_response
    return True


def _take_piece(exchange: Exchange, common: CommonResponse) -> bool:
    """Take a piece of the body in full duplex; return whether it is the last."""
    if not common.body_mutation.HasField("streamed_response"):
        raise ProbeError("it answered the body with no streamed_response: it does not speak full duplex")
    piece = common.body_mutation.streamed_response
    exchange.returned += piece.body
    if len(exchange.returned) > len(exchange.sent) + _BODY_SLACK:
        raise ProbeError(f"it gave back more than {len(exchange.returned)} bytes of a body of {len(exchange.sent)}")
    return piece.end_of_stream


def _mutated(sent: bytes, common: CommonResponse) -> bytes:
    kind = common.body_mutation.WhichOneof("mutation")
    if kind is None:
        return sent
    if kind == "streamed_response":
        raise ProbeError("it answered the body with a streamed_response: it does not speak buffered")
    return common.body_mutation.body


def _take_common(exchange: Exchange, common: CommonResponse) -> None:
    exchange.sets += _sets(common.header_mutation)
    # Names that an earlier answer has removed are removed again in buffered mode.
    exchange.removes += [name for name in common.header_mutation.remove_headers if name not in exchange.removes]
    exchange.clears = exchange.clears or common.clear_route_cache


def _sets(mutation: HeaderMutation) -> list[tuple[str, bytes]]:
    headers = (option.header for option in mutation.set_headers)
    return [(header.key, header.raw_value or header.value.encode()) for header in headers]


def _answer(call: Call) -> ProcessingResponse:
    try:
        return ProcessingResponse.FromString(call.receive())
    except DecodeError:
        raise ProbeError("its answer is not a ProcessingResponse") from None


def _kind(answer: ProcessingResponse) -> str:
    return answer.WhichOneof("response") or "not a message of an ext_proc server"


def _judge(report: Report, exchange: Exchange, model: str) -> None:
    """Hold a complete exchange against what was asked for."""
    where, wanted, immediate = report.options.address, report.options.model, exchange.immediate
    if immediate is not None:
        if wanted is not None or immediate.status.code != _NOT_FOUND:
            code, details = immediate.status.code, brief(immediate.details)
            report.problems.append(f"{where}: it answered {code} ({details or 'without details'}) and routed nothing")
        return
    if not exchange.intact:
        report.problems.append(f"{where}: the body did not come back as it was sent")
    if wanted is not None and not exchange.routes(model):
        report.problems.append(f"{where}: {brief(model)} is not routed")
    if exchange.sets and not exchange.clears:
        report.problems.append(f"{where}: it sets headers without clear_route_cache, so that no route changes")


def text(report: Report) -> str:
    """Return a report for people."""
    options, exchange = report.options, report.exchange
    rows = [("connected", f"{report.connect_milliseconds:.1f} ms")] if report.connect_milliseconds is not None else []
    if (shaken := report.handshake) is not None:
        verified = "verified" if options.tls and options.tls.ca else "NOT VERIFIED, since no --tls-ca is given"
        rows.append(("TLS", f"{shaken.version}, ALPN {shaken.alpn or 'none'}; the certificate is {verified}"))
        rows.append(("certificate", f"SHA-256 {shaken.fingerprint}"))
    if report.health is not None:
        where = f" at {options.health_address}" if options.address and options.health_address else ""
        rows.append(("health", f"{report.health}{where} ({report.health_milliseconds:.1f} ms)"))
    if exchange is not None:
        model = brief(options.model or UNLIKELY_MODEL)
        rows.append(("exchange", f"{options.mode}, for model {model} ({exchange.milliseconds:.1f} ms)"))
        rows += _exchange_rows(exchange)
    verdict = "unhealthy" if report.problems else "healthy"
    lines = [
        f"{options.address or options.health_address}: {verdict}",
        *(f"  {name:<12}{value}" for name, value in rows),
    ]
    return "\n".join([*lines, *(f"  {problem}." for problem in report.problems)]) + "\n"


def _exchange_rows(exchange: Exchange) -> list[tuple[str, str]]:
    if (immediate := exchange.immediate) is not None:
        details = f" ({brief(immediate.details)})" if immediate.details else ""
        body = brief(immediate.body.decode("utf-8", "replace"))
        return [("answered", f"{immediate.status.code}{details}"), ("with", body)]
    rows = [("sets", f"{brief(name)}: {brief(value.decode('utf-8', 'replace'))}") for name, value in exchange.sets]
    rows += [("removes", brief(name)) for name in listed(exchange.removes)]
    rows.append(("route cache", "cleared" if exchange.clears else "not cleared"))
    came = "intact" if exchange.intact else "CHANGED"
    rows.append(("body", f"{len(exchange.returned)} of {len(exchange.sent)} bytes came back, {came}"))
    return rows


def as_json(report: Report) -> str:
    """Return a report for programs."""
    options, exchange, shaken = report.options, report.exchange, report.handshake
    found: dict[str, Any] = {
        "address": str(options.address or options.health_address),
        "healthy": not report.problems,
        "problems": report.problems,
        "connect_milliseconds": _rounded(report.connect_milliseconds),
        "tls": None,
        "health": None,
        "exchange": None,
    }
    if shaken is not None:
        found["tls"] = {
            "version": shaken.version,
            "alpn": shaken.alpn,
            "certificate_sha256": shaken.fingerprint,
            "verified": bool(options.tls and options.tls.ca),
        }
    if report.health is not None:
        found["health"] = {
            "address": str(options.health_address or options.address),
            "status": report.health,
            "milliseconds": _rounded(report.health_milliseconds),
        }
    if exchange is not None:
        found["exchange"] = _exchange_as_json(exchange, options)
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _exchange_as_json(exchange: Exchange, options: ProbeOptions) -> dict[str, Any]:
    immediate = exchange.immediate
    return {
        "mode": options.mode,
        "model": options.model or UNLIKELY_MODEL,
        "milliseconds": _rounded(exchange.milliseconds),
        "set_headers": [[name, value.decode("utf-8", "replace")] for name, value in exchange.sets],
        "remove_headers": exchange.removes,
        "clear_route_cache": exchange.clears,
        "body_bytes_sent": len(exchange.sent),
        "body_bytes_returned": len(exchange.returned),
        "body_intact": None if immediate else exchange.intact,
        "immediate_response": None
        if immediate is None
        else {
            "status": immediate.status.code,
            "details": immediate.details,
            "body": immediate.body.decode("utf-8", "replace"),
        },
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
