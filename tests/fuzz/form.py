"""Any octets as a form: refused, or read alike however they are cut, and as the standard library reads them."""

from urllib.parse import parse_qsl

from tests.support.bodies import outcome, pieces, read_form


def check(octets: bytes) -> None:
    kind, model = whole = outcome(read_form, [octets], 32)
    for size in (1, 9):
        assert outcome(read_form, pieces(octets, size), 32) == whole
    if kind == "model":
        pairs = parse_qsl(octets.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
        values = [value.encode("latin-1").decode() for key, value in pairs if key == "model"]
        assert values == ([] if model is None else [model])
