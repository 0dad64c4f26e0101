"""Any octets as a ProcessingRequest: what is read by hand is what protobuf reads, and nothing that it refuses."""

from google.protobuf.message import DecodeError

from bbr.exchange.convention import Ours
from bbr.exchange.wire import Wanted, read_opening, read_piece
from bbr.pb.ext_proc_pb2 import ProcessingRequest
from bbr.reading.head import wanted
from bbr.reading.header_names import BEGINNING_BYTES

WANTED = Wanted(wanted(Ours().guarded), BEGINNING_BYTES)


def check(octets: bytes) -> bool:
    """Compare; tell whether the message was read by hand."""
    try:
        decoded = ProcessingRequest.FromString(octets)
    except DecodeError:
        decoded = None
    piece = read_piece(octets)
    if piece is not None:
        assert decoded is not None
        body = decoded.request_body
        assert decoded.WhichOneof("request") == "request_body"
        assert piece == (body.body, body.end_of_stream)
        assert decoded.SerializeToString() == octets
        assert {field.name for field, _ in decoded.ListFields()} == {"request_body"}
        assert {field.name for field, _ in body.ListFields()} <= {"body", "end_of_stream"}
    try:
        opening = read_opening(octets, WANTED)
    except DecodeError:
        assert decoded is None
        return False
    if opening is not None:
        assert decoded is not None
        assert piece is None
        headers = decoded.request_headers
        assert decoded.WhichOneof("request") == "request_headers"
        assert not decoded.observability_mode
        assert opening.section == headers.headers.SerializeToString()
        fields = [field for field in headers.headers.headers if field[:BEGINNING_BYTES] in WANTED.beginnings]
        assert opening.wanted == fields
        assert opening.end_of_stream is headers.end_of_stream
        config = decoded.protocol_config
        told = decoded.HasField("protocol_config")
        assert opening.modes == ((config.request_body_mode, config.response_body_mode) if told else None)
    return piece is not None or opening is not None
