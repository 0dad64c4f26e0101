import random
from typing import ClassVar

import pytest

from bbr.exchange.body import IN_TURN_BYTES, Body
from bbr.exchange.exchange import Exchange
from bbr.exchange.go_router import GoRouter
from bbr.exchange.ledger import Ledger
from bbr.exchange.policy import BodyMode, InvalidJson, OverLimit, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.times import Clock as AnyClock
from bbr.exchange.times import Times, stopped
from bbr.exchange.verdict import Outcome
from bbr.pb.ext_proc_pb2 import ProcessingResponse
from bbr.reading.coerced import CoercedReading
from bbr.refusal import Refusal
from bbr.rpc.status import OK
from bench.harness.conversation import (
    BODY,
    BUFFERED,
    FDS,
    TABLE,
    assert_refused,
    assert_routes,
    assert_strips,
    converse,
    echoed,
    exchange,
    kinds,
)
from bench.harness.messages import JSON_POST, parse, request_body, request_headers, request_trailers, set_headers
from tests.support.clock import Clock


def body_of(ledger: Ledger | None = None, clock: AnyClock | None = None, **policy: object) -> Body:
    made = Policy(Replies(), ledger or Ledger(1 << 20), **policy)  # type: ignore[arg-type]
    return Body(made, True, Times(clock or stopped))


@pytest.mark.parametrize("pieces", [[b""], [BODY], [BODY[:9], BODY[9:]], [b"", BODY[:1], b"", BODY[1:], b""]])
def test_a_short_body_is_joined_once_it_has_ended(pieces: list[bytes]) -> None:
    body = body_of()
    for piece in pieces:
        assert body.add(piece) is None
    assert body.end() is None
    assert body.model() == ("qwen" if any(pieces) else None)
    assert (body.take(), body.size) == (b"".join(pieces), len(b"".join(pieces)))


def test_it_is_read_as_it_comes_from_the_threshold_on() -> None:
    body = body_of(stream_threshold_bytes=20)
    assert body.add(BODY[:20]) is None
    long = body.add(BODY[20:])
    assert long is body.long is body.add(b"")
    assert long is not None
    long.close()
    while not long.work():
        pass
    assert body.model() == "qwen"


def test_a_long_body_is_read_by_the_convention() -> None:
    body = Body(Policy(Replies(GoRouter()), stream_threshold_bytes=1), False, Times(stopped))
    long = body.add(b'{"model":7}')
    assert long is not None
    long.close()
    while not long.work():
        pass
    assert body.model() == "7"
    assert type(long._reading) is CoercedReading


def test_pieces_of_a_few_octets_are_joined() -> None:
    body = body_of()
    rng = random.Random(1)
    sent = b""
    while len(sent) < 50_000:
        piece = bytes(rng.randrange(0, 8))
        sent += piece
        body.add(piece)
    assert len(body._pieces) < 50
    long = body.end()
    assert long is not None
    assert long.held_bytes == len(sent) == body.size
    with pytest.raises(Refusal):
        long.work()
    long.open()
    ((parts, size),) = long.take()
    assert (b"".join(parts), size) == (sent, len(sent))


def test_a_message_that_is_too_large_is_refused_at_its_prefix() -> None:
    body = body_of(Ledger(10 << 20), max_body_bytes=1000)
    body.add(bytes(500))
    body.expect(500 + (1 << 20), read=True)
    with pytest.raises(Refusal, match="1000"):
        body.expect(501 + (1 << 20), read=True)
    body.expect(501 + (1 << 20), read=False)
    body = body_of(Ledger(10 << 20), max_body_bytes=1000, over_limit=OverLimit.PASS)
    body.expect(5 << 20, read=True)


def assert_refused_for_room(answers: list[ProcessingResponse]) -> None:
    assert answers[-1].immediate_response.status.code == 503
    assert answers[-1].immediate_response.details == "bbr:no-room"


class TestProgress:
    POLICY: ClassVar[dict[str, object]] = {
        "stream_threshold_bytes": 10,
        "min_body_rate": 10,
        "duplex_idle_seconds": 60.0,
    }

    def talk(self, clock: Clock, ledger: Ledger | None = None, **policy: object) -> Exchange:
        made = Policy(Replies(), ledger or Ledger(1 << 30), **{**self.POLICY, **policy})  # type: ignore[arg-type]
        talk = Exchange(made, TABLE, clock)
        converse(talk, request_headers(mode=FDS))
        return talk

    @pytest.mark.parametrize("threshold", [10, 1 << 20], ids=["long", "short"])
    def test_a_drip_is_refused_at_the_end_of_the_span(self, threshold: int) -> None:
        clock = Clock(100.0)
        talk = self.talk(clock, stream_threshold_bytes=threshold)
        for second in range(60):
            clock.now = 100.0 + second
            assert converse(talk, request_body(b" ")) == []
            assert talk.patience_seconds == pytest.approx(60.0 - second)
        clock.now = 160.0
        message = assert_refused(converse(talk, request_body(b" ")), 408, "body-too-slow")
        assert "10 bytes a second" in message

    def test_one_that_ends_when_the_span_does_is_not_too_slow(self) -> None:
        clock = Clock(100.0)
        talk = self.talk(clock)
        converse(talk, request_body(b'{"x":"yyyyyyyyyy'))
        clock.now += 60
        answers = converse(talk, request_body(b'","model":"qwen"}', end_of_stream=True))
        assert_routes(answers[0], "qwen", "qwen")

    def test_one_that_stops_behind_what_is_due_is_too_slow(self) -> None:
        clock = Clock(100.0)
        talk = self.talk(clock)
        converse(talk, request_body(b" " * 500))
        clock.now += 20
        converse(talk, request_body(b" "))
        assert talk.patience_seconds == pytest.approx(40.0)
        clock.now += 40
        assert_refused([parse(each) for each in talk.expire()], 408, "body-too-slow")

    def test_one_that_brings_what_is_due_may_stand_still_as_ever(self) -> None:
        clock = Clock(100.0)
        talk = self.talk(clock)
        for _ in range(5):
            assert converse(talk, request_body(b" " * 1200)) == []
            assert talk.patience_seconds == 60.0
            clock.now += 59
        clock.now += 10
        assert_refused([parse(each) for each in talk.expire()], 408, "body-timeout")

    def test_a_burst_buys_no_more_than_its_span(self) -> None:
        clock = Clock(100.0)
        talk = self.talk(clock)
        converse(talk, request_body(b" " * 1_000_000))
        clock.now += 59
        assert converse(talk, request_body(b" ")) == []
        clock.now += 2
        assert converse(talk, request_body(b" ")) == []
        clock.now += 61
        assert_refused(converse(talk, request_body(b" ")), 408, "body-too-slow")

    def test_a_routed_body_may_be_slow(self) -> None:
        clock = Clock(100.0)
        talk = self.talk(clock)
        assert converse(talk, request_body(b'{"y":"yyyyyyyyyyyyyyyy",')) == []
        clock.now += 30
        assert_routes(converse(talk, request_body(b'"model":"qwen","x":"'))[0], "qwen", "qwen")
        assert talk.patience_seconds == 60.0
        for _ in range(10):
            clock.now += 50
            converse(talk, request_body(b"y"))
            assert talk.end is None

    def test_one_that_has_all_but_stopped_gives_way(self) -> None:
        clock, ledger = Clock(100.0), Ledger(1 << 20)
        slow = self.talk(clock, ledger, min_body_rate=0)
        assert converse(slow, request_body(b'{"x":"' + b"y" * 800_000)) == []
        for _ in range(20):
            clock.now += 1
            assert converse(slow, request_body(b"y")) == []
        other = self.talk(clock, ledger)
        assert converse(other, request_body(b'{"x":"' + b"y" * 500_000)) == []
        assert ledger.held_bytes < 600_000
        assert slow.patience_seconds == 0.0
        assert_refused_for_room([parse(each) for each in slow.expire()])
        answers = converse(other, request_body(b'","model":"qwen"}', end_of_stream=True))
        assert_routes(answers[0], "qwen", "qwen")
        assert (ledger.held_bytes, ledger.long_bytes, ledger.refused, dict(ledger._holders)) == (0, 0, 1, {})

    @pytest.mark.parametrize("last", [request_body(b" "), request_body(b"", end_of_stream=True), request_trailers()])
    @pytest.mark.parametrize("threshold", [10, 1 << 20], ids=["long", "short"])
    def test_who_was_given_up_hears_of_it_by_the_next_message(self, last: bytes, threshold: int) -> None:
        clock, ledger = Clock(100.0), Ledger(100_000)
        slow = self.talk(clock, ledger, min_body_rate=0, stream_threshold_bytes=threshold)
        assert converse(slow, request_body(b" " * 40_000), request_body(b" " * 40_000)) == []
        clock.now += 20
        other = self.talk(clock, ledger, stream_threshold_bytes=threshold)
        assert converse(other, request_body(b" " * 60_000)) == []
        assert_refused_for_room(converse(slow, last))
        assert ledger.held_bytes == 60_000

    @pytest.mark.parametrize("waiting", [0, 20])
    def test_a_body_in_one_long_message_finds_the_room_of_one_that_stands_still(self, waiting: int) -> None:
        clock, ledger = Clock(100.0), Ledger(1 << 20)
        slow = self.talk(clock, ledger, min_body_rate=0)
        assert converse(slow, request_body(b'{"x":"' + b"y" * 800_000)) == []
        clock.now += waiting
        other = self.talk(clock, ledger)
        assert (other.expect(500_000), ledger.held_bytes > 500_000) == ((), True)
        body = b'{"model":"qwen","x":"' + b"y" * 490_000 + b'"}'
        answers = converse(other, request_body(body, end_of_stream=True))
        if waiting:
            assert_routes(answers[0], "qwen", "qwen")
        else:
            assert_refused_for_room(answers)

    def test_what_a_decoder_holds_gives_way_however_little_came_of_the_body(self) -> None:
        clock, ledger = Clock(100.0), Ledger(1 << 20)
        policy = Policy(Replies(), ledger)
        slow = [Exchange(policy, TABLE, clock) for _ in range(2)]
        fields = {**JSON_POST, "content-encoding": "zstd"}
        for talk in slow:  # a frame with a window of 8 MiB, and 128 KiB of one byte in it
            frame = bytes.fromhex("28b52ffd0068 02001020")
            assert converse(talk, request_headers(fields, mode=FDS), request_body(frame)) == []
        assert ledger.held_bytes > 2 * (200 << 10)
        clock.now += 20
        other = Exchange(policy, TABLE, clock)
        body = b'{"model":"qwen","x":"' + b"y" * 490_000 + b'"}'
        answers = converse(other, request_headers(mode=FDS), request_body(body, end_of_stream=True))
        assert_routes(answers[0], "qwen", "qwen")
        assert [talk.patience_seconds for talk in slow].count(0.0) == 1

    def test_a_buffered_body_finds_the_room_of_one_that_stands_still(self) -> None:
        clock, ledger = Clock(100.0), Ledger(1 << 20)
        slow = self.talk(clock, ledger, min_body_rate=0)
        assert converse(slow, request_body(b'{"x":"' + b"y" * 800_000)) == []
        clock.now += 20
        other = Exchange(Policy(Replies(), ledger, stream_threshold_bytes=10), TABLE, clock)
        body = b'{"model":"qwen","x":"' + b"y" * 490_000 + b'"}'
        answers = converse(other, request_headers(mode=BUFFERED), request_body(body, end_of_stream=True))
        assert_routes(answers[-1], "qwen", "qwen")
        assert slow.patience_seconds == 0.0

    def test_those_that_come_alike_do_not_push_each_other_out(self) -> None:
        clock, ledger = Clock(100.0), Ledger(1 << 20)
        first = self.talk(clock, ledger)
        for _ in range(20):
            clock.now += 1
            assert converse(first, request_body(b" " * 40_000)) == []
        other = self.talk(clock, ledger)
        assert_refused_for_room(converse(other, request_body(b" " * 150_000)))
        assert converse(first, request_body(b" " * 40_000)) == []


def test_what_it_has_reserved_is_given_back() -> None:
    ledger = Ledger(1 << 20)
    body = body_of(ledger)
    body.add(BODY)
    body.settle()
    assert ledger.held_bytes == len(BODY)
    body.expect(1000, read=True)  # what is announced is not
    body.drop()
    assert (ledger.held_bytes, ledger.peak_bytes) == (0, len(BODY))
    body.drop()
    assert ledger.held_bytes == 0


class TestLedger:
    def test_no_room_for_a_short_body(self) -> None:
        ledger = Ledger(10)
        talk = exchange(ledger=ledger)
        answers = converse(talk, request_headers(mode=FDS), request_body(BODY))
        assert answers[-1].immediate_response.status.code == 503
        assert answers[-1].immediate_response.details == "bbr:no-room"
        assert set_headers(answers[-1].immediate_response.headers)["retry-after"] == b"1"
        assert (ledger.held_bytes, ledger.refused) == (0, 1)

    def test_what_is_announced_is_not_reserved(self) -> None:
        ledger = Ledger(1000)
        for _ in range(10):
            talk = exchange(ledger=ledger, stream_threshold_bytes=10)
            converse(talk, request_headers({**JSON_POST, "content-length": "900"}, mode=FDS))
            assert converse(talk, request_body(b'{"x":"' + b"y" * 50)) == []
        assert ledger.held_bytes == ledger.long_bytes == 10 * 56
        talk.over()
        assert ledger.held_bytes == ledger.long_bytes == 9 * 56

    def test_what_a_decoder_may_take_is_not_reserved(self) -> None:
        ledger = Ledger(512 << 20)
        headers = request_headers({**JSON_POST, "content-encoding": "br"}, mode=FDS)
        talks = [exchange(ledger=ledger) for _ in range(262)]
        for talk in talks:
            assert converse(talk, headers, request_body(bytes.fromhex("1bfffff82d009e7b"))) == []
        assert 262 * 8 < ledger.held_bytes < 8 << 20

    def test_a_short_body_finds_room_beside_long_ones(self) -> None:
        ledger = Ledger(800)
        long, short = exchange(ledger=ledger, stream_threshold_bytes=10), exchange(ledger=ledger)
        for talk in (long, short):
            converse(talk, request_headers(mode=FDS))
        assert converse(long, request_body(b'{"x":"' + b"y" * 690)) == []
        other = exchange(ledger=ledger, stream_threshold_bytes=10)
        answers = converse(other, request_headers(mode=FDS), request_body(b'{"x":"' + b"y" * 60))
        assert_refused_for_room(answers)
        assert converse(short, request_body(BODY[:50])) == []
        assert (ledger.held_bytes, ledger.long_bytes) == (746, 696)
        assert_routes(converse(short, request_body(BODY[50:], end_of_stream=True))[0], "qwen", "qwen")

    def test_a_routed_body_finishes_though_there_is_no_room(self) -> None:
        ledger = Ledger(100)
        talk = exchange(ledger=ledger, stream_threshold_bytes=10)
        body = b'{"model":"qwen","x":"' + b"y" * 40
        assert_routes(converse(talk, request_headers(mode=FDS), request_body(body))[0], "qwen", "qwen")
        ledger.take(100)
        rest = b"z" * 500 + b'"}'
        answers = [*converse(talk, request_body(rest[:300])), *converse(talk, request_body(rest[300:]))]
        answers += converse(talk, request_body(b"", end_of_stream=True))
        assert echoed(answers)[1][-1]
        assert (talk.verdict.outcome, ledger.held_bytes) == (Outcome.ROUTED, 100)

    def test_a_routed_body_whose_pieces_pile_up_does_not_finish_without_any_room(self) -> None:
        ledger = Ledger(100)
        talk = exchange(ledger=ledger, stream_threshold_bytes=10)
        body = b'{"model":"qwen","x":"' + b"y" * 40
        assert_routes(converse(talk, request_headers(mode=FDS), request_body(body))[0], "qwen", "qwen")
        ledger.take(100)
        talk.receive(request_body(b"z" * (4 << 20)))
        assert ledger.held_bytes == 100 + (4 << 20)
        assert_refused_for_room([parse(each) for each in talk.receive(request_body(b"z"))])
        assert ledger.held_bytes == 100

    def test_a_long_message_is_not_reserved_before_it_comes(self) -> None:
        ledger = Ledger(1 << 20)
        talk = exchange(ledger=ledger)
        assert talk.expect(500_000) == ()  # no request yet
        converse(talk, request_headers(mode=BUFFERED))
        assert talk.expect(500_000) == ()
        assert ledger.held_bytes == 0
        assert_routes(converse(talk, request_body(BODY, end_of_stream=True))[0], "qwen", "qwen")
        assert ledger.held_bytes == 0

    def test_one_that_could_never_be_held_is_refused_at_its_prefix(self) -> None:
        talk = exchange(ledger=Ledger(800_000))
        converse(talk, request_headers(mode=BUFFERED))
        assert talk.expect(700_000) == ()
        assert_refused_for_room([parse(each) for each in talk.expect(700_001)])
        assert talk.expect(1) == ()

    def test_one_that_is_given_up_is_refused(self) -> None:
        clock = Clock(100.0)
        ledger = Ledger(800_000)
        talk = exchange(ledger=ledger)
        talk.times.clock = clock
        assert (talk.give_up(), talk.held_bytes) == ((), 0)  # no request yet
        converse(talk, request_headers(mode=FDS), request_body(BODY[:20]))
        assert talk.held_bytes == 20
        assert_refused_for_room([parse(each) for each in talk.give_up()])
        assert (ledger.held_bytes, talk.held_bytes, talk.times.decided, talk.end) == (0, 0, 100.0, OK)
        assert talk.give_up() == ()

    def test_one_that_is_given_up_on_its_way_is_refused_too(self) -> None:
        talk = exchange(stream_threshold_bytes=10)
        body = b'{"model":"qwen","x":"' + b"y" * 40
        assert_routes(converse(talk, request_headers(mode=FDS), request_body(body))[0], "qwen", "qwen")
        assert_refused_for_room([parse(each) for each in talk.give_up()])

    def test_a_message_over_the_limit_is_refused_at_its_prefix(self) -> None:
        talk = exchange(max_body_bytes=1000)
        converse(talk, request_headers(mode=BUFFERED))
        assert talk.expect(1_000_000) == ()
        assert len(talk.expect(1_100_000)) == 1
        assert talk.verdict.reason == "body-too-large"

    def test_messages_of_a_body_that_passes_are_let_go_at_once(self) -> None:
        ledger = Ledger(100)
        talk = exchange(ledger=ledger)
        converse(talk, request_headers({**JSON_POST, "content-type": "audio/wav"}, mode=FDS))
        assert talk.expect(50) == ()
        assert echoed(converse(talk, request_body(bytes(1000))))[0] == bytes(1000)
        assert ledger.held_bytes == 0


class TestDense:
    """A short body that is not settled at once: it has a key twice, and two of the parsers would take long for it."""

    DENSE = b'{"x":0,"x":[%b0],"model":"qwen"}' % (b"{}," * 6_000)
    MODES = pytest.mark.parametrize("mode", [FDS, BUFFERED, BodyMode.STREAMED])

    def talk(self, mode: BodyMode, **policy: object) -> Exchange:
        talk = exchange(**policy)
        converse(talk, request_headers(mode=mode))
        return talk

    @MODES
    def test_it_is_routed_as_any_other_but_not_at_once(self, mode: BodyMode) -> None:
        ledger = Ledger(1 << 20)
        talk = self.talk(mode, ledger=ledger)
        assert talk.receive(request_body(self.DENSE, end_of_stream=True)) == ()
        assert (talk.pending, talk.patience_seconds) == (True, None)
        assert ledger.held_bytes == len(self.DENSE)
        turns = 0
        answers: list[bytes] = []
        while talk.pending:
            assert not answers or mode == FDS
            answers += talk.work()
            turns += 1
        assert turns > 2
        first, *rest = map(parse, answers)
        assert_routes(first, "qwen", "qwen")
        if mode == FDS:
            assert echoed(rest) == (self.DENSE, [True])
        assert (ledger.held_bytes, talk.verdict.early, talk.end) == (0, False, None)

    @MODES
    @pytest.mark.parametrize(
        ("changed", "reason"),
        [(b'{"model":"qwen",', "model-duplicate"), (b'{"MODEL":1,', "model-duplicate"), (b"{,", "invalid-json")],
    )
    def test_it_is_refused_as_any_other(self, mode: BodyMode, changed: bytes, reason: str) -> None:
        talk = self.talk(mode)
        answers = converse(talk, request_body(changed + self.DENSE[1:], end_of_stream=True))
        assert_refused(answers, 400, reason)
        assert len(answers) == 1

    def test_nothing_of_it_goes_on_before_all_is_read(self) -> None:
        body = b'{"model":"qwen",' + self.DENSE[1:-1]
        talk = self.talk(FDS)
        assert len(converse(talk, request_body(body, end_of_stream=True))) == 1
        assert (talk.verdict.early, talk.verdict.reason) == (False, "invalid-json")
        talk = self.talk(FDS, on_invalid_json=InvalidJson.PASS_STRIPPED)
        headers, *rest = converse(talk, request_body(body, end_of_stream=True))
        assert_strips(headers)
        assert echoed(rest) == (body, [True])

    @pytest.mark.parametrize("mode", [FDS, BodyMode.STREAMED])
    def test_it_may_end_by_trailers(self, mode: BodyMode) -> None:
        talk = self.talk(mode)
        answers = converse(talk, request_body(self.DENSE), request_trailers())
        if mode == FDS:
            assert_routes(answers[0], "qwen", "qwen")
            assert echoed(answers[1:-1]) == (self.DENSE, [False])
            assert kinds(answers)[-1] == "request_trailers"
        else:
            assert_refused(answers, 500, "body-in-pieces")

    def test_a_body_that_was_cut_off_is_read_so_too(self) -> None:
        talk = self.talk(BodyMode.BUFFERED_PARTIAL)
        assert_refused(converse(talk, request_body(self.DENSE)), 413, "body-cut-off")

    def test_it_has_its_place_among_the_short_ones(self) -> None:
        # Long ones have taken all but their share; it takes no part of that.
        ledger = Ledger(8 * len(self.DENSE))
        while ledger.take(1_000, None, long=True):
            pass
        talk = self.talk(FDS, ledger=ledger)
        assert_routes(converse(talk, request_body(self.DENSE, end_of_stream=True))[0], "qwen", "qwen")

    def test_one_that_was_given_up_is_refused(self) -> None:
        body = body_of()
        body.add(self.DENSE)
        body.give_up()
        assert body.end() is None
        with pytest.raises(Refusal, match="no room for more request bodies"):
            body.model()

    def test_small_ones_are_read_at_once(self) -> None:
        talk = self.talk(BUFFERED)
        answers = talk.receive(request_body(b'{"model":""}', end_of_stream=True))
        assert_refused([parse(each) for each in answers], 400, "model-empty")


@pytest.mark.parametrize("mode", [FDS, BUFFERED])
@pytest.mark.parametrize(("size", "waits"), [(IN_TURN_BYTES, False), (IN_TURN_BYTES + 1, True)])
def test_one_that_parsers_take_long_for_has_a_turn_of_its_own(mode: BodyMode, size: int, waits: bool) -> None:
    sent = b'{"model":"qwen","x":"%b"}'
    sent %= b"x" * (size - len(sent) + 2)
    talk = exchange()
    converse(talk, request_headers(mode=mode))
    answers = talk.receive(request_body(sent, end_of_stream=True))
    assert (talk.pending, not answers) == (waits, waits)
    if waits:  # in which it is read in one piece
        answers = talk.work()
    assert_routes(parse(answers[0]), "qwen", "qwen")
    assert (talk.pending, talk.verdict.outcome, talk.verdict.early) == (False, Outcome.ROUTED, False)


def test_how_much_of_it_goes_on() -> None:
    body = body_of(stream_threshold_bytes=4)
    body.add(b"{  ")
    assert body.forwarded_bytes == 3
    long = body.add(b'"model":"a"}')
    assert long is not None
    while long.reading:
        long.work()
    assert body.forwarded_bytes is None
    long.close()
    assert body.forwarded_bytes is None
    while not long.work():
        pass
    assert body.forwarded_bytes == body.size
    assert long.replace_model("abc")
    assert body.forwarded_bytes == body.size + 2 == sum(map(len, long._pieces))


@pytest.mark.parametrize("size", [9_000, 100_000, 200_000, 300_000])
@pytest.mark.parametrize("step", [5_000, 1 << 20])
def test_views_make_the_same_body(size: int, step: int) -> None:
    octets = b'{"model":"qwen","x":"%b"}' % (b"y" * size)
    body = body_of()
    for start in range(0, len(octets), step):
        long = body.add(memoryview(octets)[start : start + step])
    long = body.end() or long
    if long is None:
        assert (body.model(), body.serde_differs, body.take()) == ("qwen", False, octets)
        return
    long.close()
    while not long.work():
        pass
    assert (body.model(), long.whole) == ("qwen", octets)
