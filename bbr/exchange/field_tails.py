"""What an answer has beside the routing headers: the headers of the body's fields, put behind it as bytes.

Pure. The answers to a gateway are built once for each route, and the values of fields are hardly ever the same twice.
Two encodings of a message, one behind the other, are the encoding of both merged (Protocol Buffers, Encoding, "Last One
Wins"): so what sets or removes one header goes behind the answer, and is the same but for the value.
"""

from collections.abc import Callable, Sequence
from typing import Final

from bbr.pb.ext_proc_pb2 import (
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    HeaderValueOption,
    ProcessingResponse,
)

# Beginnings of a field that are kept, by length of the value. A client can choose that, hence the bound.
_CACHED: Final = 256


class FieldTails:
    """The headers of some fields, for one kind of answer.

    Args:
        headers: their names, in the order of the fields.
        setting: makes what sets one.
        in_body: for answers to a body; else for those to headers.
    """

    __slots__ = ("_begun", "_encoded", "_headers", "_removed", "_setting")

    def __init__(
        self, headers: Sequence[str], setting: Callable[[str, bytes], HeaderValueOption], *, in_body: bool
    ) -> None:
        self._headers = headers
        self._setting = setting
        self._encoded = _in_body if in_body else _in_headers
        self._removed = [self._encoded(HeaderMutation(remove_headers=[name.lower()])) for name in headers]
        self._begun: list[dict[int, tuple[bytes, bytes]]] = [{} for _ in headers]

    def behind(self, answer: bytes, values: Sequence[bytes | None]) -> bytes:
        """Return an answer with the values of all fields; None: a field has none."""
        parts = [answer]
        for index, value in enumerate(values):
            if value is None:
                parts.append(self._removed[index])
            else:
                before, behind = self._begun[index].get(len(value)) or self._begin(index, value)
                parts += (before, value, behind)
        return b"".join(parts)

    def _begin(self, index: int, value: bytes) -> tuple[bytes, bytes]:
        """Return what stands before and behind a value of such a length."""
        size, begun = len(value), self._begun[index]
        whole = self._encoded(HeaderMutation(set_headers=[self._setting(self._headers[index], value)]))
        # From the right: the header's name stands before its value, and may hold the same bytes.
        at = whole.rindex(value)
        if len(begun) >= _CACHED:
            begun.clear()
        around = begun[size] = (whole[:at], whole[at + size :])
        return around


def _in_headers(mutation: HeaderMutation) -> bytes:
    common = CommonResponse(header_mutation=mutation)
    return ProcessingResponse(request_headers=HeadersResponse(response=common)).SerializeToString()


def _in_body(mutation: HeaderMutation) -> bytes:
    common = CommonResponse(header_mutation=mutation)
    return ProcessingResponse(request_body=BodyResponse(response=common)).SerializeToString()
