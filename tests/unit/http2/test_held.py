from bbr.http2.held import JOINED_BYTES, TINY_BYTES, Held, add_piece


def test_messages_and_answers_count_as_both():
    held = Held()
    held.octets += 5
    held.add_bulk(3)
    assert (held.octets, held.bulk) == (8, 3)
    held.add_bulk(-3)
    assert (held.octets, held.bulk) == (5, 0)


def test_a_drip_takes_little_more_than_its_octets():
    pieces: list[bytes] = []
    for _ in range(20_000):
        add_piece(pieces, b"x")
    assert b"".join(pieces) == b"x" * 20_000
    assert len(pieces) <= 20_000 / JOINED_BYTES + 1


def test_pieces_that_are_long_enough_are_not_copied():
    long = bytes(TINY_BYTES)
    pieces: list[bytes] = []
    for _ in range(3):
        add_piece(pieces, long)
    assert all(each is long for each in pieces)
    assert len(pieces) == 3
