"""Field blocks one after another mean what the hpack library says, or both refuse; from the memo as from the octets.

An input is blocks, each behind two octets of length; an empty one stands for the acknowledgement of our SETTINGS.
"""

import io

import hpack

from bbr.http2.faults import ConnectionFault
from bbr.http2.fields import FieldDecoder, encode

LIST_BYTES, FIELDS = 2_000, 20


def check(octets: bytes) -> None:
    program = io.BytesIO(octets)
    table = 100 * (program.read(1) > b"\x80")
    ours = FieldDecoder(table, LIST_BYTES, FIELDS)
    library = hpack.Decoder(max_header_list_size=2 * LIST_BYTES)
    while length := program.read(2):
        block = program.read(int.from_bytes(length, "big"))
        if not block:
            ours.settings_acknowledged()
            library.max_allowed_table_size = table
        for _ in range(2):
            try:
                expected = tuple((bytes(name), bytes(value)) for name, value in library.decode(block, raw=True))
            except hpack.HPACKError:
                expected = None
            try:
                section = ours.decode(block)
            except ConnectionFault:
                assert expected is None or len(expected) > 2 * FIELDS
                return
            assert expected is not None
            if section.fault:
                assert section.fields == ()
            else:
                assert section.fields == expected
                assert tuple(hpack.Decoder().decode(encode(expected), raw=True)) == expected
