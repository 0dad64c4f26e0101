"""Any octets as multipart/form-data: refused, or read alike however they are cut, and by no other parser otherwise."""

import contextlib

from tests.support import multiparts
from tests.support.bodies import outcome, pieces, read_multipart

MAX_MODEL_BYTES = 32


def check(octets: bytes) -> None:
    kind, model = whole = outcome(read_multipart, [octets], multiparts.BOUNDARY, MAX_MODEL_BYTES)
    for size in (1, 9):
        assert outcome(read_multipart, pieces(octets, size), multiparts.BOUNDARY, MAX_MODEL_BYTES) == whole
    if kind == "model":
        expected = [] if model is None else [str(model).encode()]
        for read in multiparts.FOREIGN.values():
            with contextlib.suppress(multiparts.UnreadableError):
                assert read(octets) == expected
