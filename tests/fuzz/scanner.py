"""A scanner never raises anything but a refusal, and its verdict is the parsers', however a document is cut."""

from tests.support.scanning import by_octet, check_difference, scan


def check(octets: bytes) -> None:
    # The first octet says how long the pieces are.
    size, body = 1 + sum(octets[:1]), octets[1:]
    found = scan([body])
    check_difference(body, found)
    assert found == scan(by_octet(body), budget=1)
    assert found == scan([body[at : at + size] for at in range(0, len(body), size)])
