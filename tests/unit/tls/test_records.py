import random

import pytest

from bbr.tls.records import RecordReader


def record(size: int, kind: int = 23) -> bytes:
    return bytes((kind, 3, 3)) + size.to_bytes(2, "big") + bytes([size & 0xFF]) * size


RECORDS = [record(0), record(1), record(300), record(16_384 + 2048), record(5, 22), record(1, 20), record(2, 21)]


def taken(reader: RecordReader) -> list[bytes]:
    return list(iter(reader.take, None))


@pytest.mark.parametrize("size", [1, 2, 5, 9, 100, 16_000, 1 << 20])
def test_any_reads_give_the_same_records(size):
    reader, octets, found = RecordReader(), b"".join(RECORDS), []
    for start in range(0, len(octets), size):
        reader.feed(octets[start : start + size])
        found += taken(reader)
    assert found == RECORDS


def test_octets_may_come_before_all_that_was_there_is_taken():
    rng = random.Random(7)
    reader, octets, found = RecordReader(), b"".join(RECORDS * 20), []
    while octets:
        cut = rng.randrange(1, 5000)
        reader.feed(octets[:cut])
        octets = octets[cut:]
        for _ in range(rng.randrange(4)):
            if (each := reader.take()) is not None:
                found.append(each)
    assert found + taken(reader) == RECORDS * 20


def test_the_parts_of_a_record_are_joined_once():
    reader = RecordReader()
    whole = record(1000)
    reader.feed(whole[:10])
    assert reader.take() is None
    for place in range(10, len(whole) - 1):
        reader.feed(whole[place : place + 1])
        assert reader.take() is None
        assert len(reader._parts) == place - 8
    reader.feed(whole[-1:])
    assert taken(reader) == [whole]
    assert reader._parts == []


@pytest.mark.parametrize(
    "nonsense",
    [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0", b"\x80\x2e\x01", b"\x17\x03\x03\xff\xff", b"\x17\x03\x03\x48\x01"],
)
def test_what_can_be_no_record_is_given_at_once_with_all_that_follows(nonsense):
    reader = RecordReader()
    reader.feed(record(3) + nonsense + bytes(100))
    assert taken(reader) == [record(3), nonsense + bytes(100)]


def test_nothing_is_nothing():
    reader = RecordReader()
    reader.feed(b"")
    assert reader.take() is None


def test_long_records_are_views_of_what_was_fed():
    reader = RecordReader()
    long = record(16_384)
    reader.feed(long + record(100) + long)
    assert [type(each) for each in taken(reader)] == [memoryview, bytes, bytes]
