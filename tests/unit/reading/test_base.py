from bbr.reading.base import Pieces


def test_octets_come_out_as_they_went_in() -> None:
    pieces = Pieces()
    for octets in (b"abc", b"", b"d", bytes(600), b"efg"):
        pieces.add(octets)
    assert pieces.size == 607
    found = []
    while pieces.size:
        octets = pieces.next(500)
        found.append(octets)
        pieces.skip(len(octets))
    assert found == [b"abcd", bytes(500), bytes(100) + b"efg"]  # pieces of a few octets are joined to the one before


def test_what_was_not_skipped_comes_again() -> None:
    pieces = Pieces()
    pieces.add(b"abc")
    assert pieces.next(9) == b"abc"
    pieces.skip(0)
    pieces.skip(1)
    assert (pieces.next(9), pieces.size) == (b"bc", 2)
