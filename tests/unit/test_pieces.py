from bbr.pieces import JOINED_BYTES, TINY_PIECE_BYTES, add_piece


def test_tiny_pieces_are_joined_to_the_one_before_unless_that_is_long() -> None:
    pieces: list[bytes | memoryview] = []
    for size in (1, 1, 511, 512, 3000, 511, 511, 511, 511, 1):
        add_piece(pieces, bytes(size))
    assert [*map(len, pieces)] == [513, 512, 3000 + 3 * 511, 512]
    pieces.append(memoryview(b"x"))  # a part of a piece whose beginning is gone
    add_piece(pieces, b"y")
    assert pieces[-2:] == [b"x", b"y"]


def test_a_drip_takes_little_more_than_its_octets():
    pieces: list[bytes] = []
    for _ in range(20_000):
        add_piece(pieces, b"x")
    assert b"".join(pieces) == b"x" * 20_000
    assert len(pieces) <= 20_000 / JOINED_BYTES + 1


def test_pieces_that_are_long_enough_are_not_copied():
    long = bytes(TINY_PIECE_BYTES)
    pieces: list[bytes] = []
    for _ in range(3):
        add_piece(pieces, long)
    assert all(each is long for each in pieces)
    assert len(pieces) == 3
