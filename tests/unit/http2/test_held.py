from bbr.http2.held import Held


def test_messages_and_answers_count_as_both():
    held = Held()
    held.octets += 5
    held.add_bulk(3)
    assert (held.octets, held.bulk) == (8, 3)
    held.add_bulk(-3)
    assert (held.octets, held.bulk) == (5, 0)
