import gc

from bbr.http2.events import DataReceived
from bbr.native import mypyc_attr


class Leaf:
    pass


def test_a_class_stays_as_it_is() -> None:
    assert mypyc_attr(free_list_len=1)(Leaf) is Leaf


def test_an_object_whose_memory_was_another_ones_holds_nothing_of_it() -> None:
    held = bytes(100)
    of_it = len(gc.get_referrers(held))
    event = DataReceived(1, memoryview(held), True)
    assert len(gc.get_referrers(held)) >= of_it
    del event
    assert len(gc.get_referrers(held)) == of_it
    again, other = DataReceived(3, b"", False), DataReceived(5, b"x", False)
    assert (again.stream_id, again.data, again.end_stream) == (3, b"", False)
    assert (other.stream_id, other.data) == (5, b"x")
    assert gc.is_tracked(again)
    assert gc.is_tracked(other)
