import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.models.registry import Registry
from bbr.rpc.messages import frame
from bench.harness import ext_proc_load, messages, workload
from bench.harness.background import Background
from bench.harness.conversation import said
from bench.harness.grpc_client import framed
from bench.harness.in_process_router import Router


@pytest.fixture
def background():
    with Background() as background:
        yield background


@pytest.fixture
def router(background):
    router = Router(background, Registry(), transport="uv")
    yield router
    router.stop()


def answer(exchanges):
    exchange = Exchange(Policy(Replies()), Registry())
    answers = [answer for message in exchanges.sent for answer in said(exchange, message)]
    return workload.check(exchanges.sent, answers)


@pytest.mark.parametrize("transport", ["uv", "grpcio"])
@pytest.mark.parametrize(("size", "count"), [(1_000, 50), (100_000, 20), (3_000_000, 4)])
def test_load_does_what_it_is_told(background, transport, size, count):
    router = Router(background, Registry(), transport=transport)
    exchanges = ext_proc_load.pool(size, traced=7)
    try:
        with ext_proc_load.Load(router.port, 2, 3, exchanges, answer(exchanges)) as running:
            assert running.run(count) > 0
            assert running.run(count) > 0
    finally:
        router.stop()
    assert [exchange.verdict.model for exchange in router.exchanges] == [workload.MODEL] * 2 * count


def test_traces_differ_in_the_field_blocks_and_in_the_messages():
    exchanges = ext_proc_load.pool(1_000, traced=100)
    assert len({request.block for request in exchanges.requests}) == 100
    assert len({request.head for request in exchanges.requests}) == 100
    assert len({request.tail for request in exchanges.requests}) == 1
    assert ext_proc_load.pool(1_000, traced=100) == exchanges


def test_without_traces_all_is_the_same():
    exchanges = ext_proc_load.pool(1_000)
    (request,) = exchanges.requests
    assert request.head + request.tail == b"".join(map(framed, exchanges.sent))


def test_a_wrong_answer_is_found(router):
    exchanges = ext_proc_load.pool(1_000)
    with (
        ext_proc_load.Load(router.port, 1, 1, exchanges, answer(exchanges) + b"?") as running,
        pytest.raises(ext_proc_load.LoadError, match="an answer is not what it must be"),
    ):
        running.run(1)


def test_an_error_status_is_found(router):
    garbage = framed(b"\xff\xff\xff")
    exchanges = ext_proc_load.pool(1_000)
    broken = ext_proc_load.Pool(exchanges.first, [exchanges.requests[0]._replace(head=garbage)], exchanges.sent)
    with (
        ext_proc_load.Load(router.port, 1, 1, broken, b"") as running,
        pytest.raises(ext_proc_load.LoadError, match=r"a call has ended with .*'grpc-status': '3'"),
    ):
        running.run(1)


def test_a_server_that_goes_away_is_found(router):
    exchanges = ext_proc_load.pool(1_000)
    with ext_proc_load.Load(router.port, 1, 1, exchanges, answer(exchanges)) as running:
        running.run(1)
        router.stop()
        with pytest.raises(ext_proc_load.LoadError, match=r"GOAWAY|closed the connection"):
            running.run(1)


def test_streams_are_held_open(router):
    exchanges = ext_proc_load.pool(1_000)
    with ext_proc_load.Load(router.port, 2, 1, exchanges, answer(exchanges)) as running:
        running.run(2)
        running.settle(hold=20)
        assert len(router.exchanges) - len(router.ended) == 40


def test_a_body_has_its_size():
    assert [len(workload.body(size)) for size in (70, 1_000, 100_000)] == [70, 1_000, 100_000]


def test_an_answer_may_set_headers_in_any_order_and_no_others():
    sent = workload.exchange(1_000)
    exchange = Exchange(Policy(Replies()), Registry())
    first, *rest = (each for message in sent for each in exchange.receive(message))
    swapped = messages.parse(first)
    options = swapped.request_headers.response.header_mutation.set_headers
    options.reverse()
    right = frame([first, *rest])
    assert workload.same_answer(frame([swapped.SerializeToString(), *rest]), right)
    options[0].header.raw_value = b"phi"
    assert not workload.same_answer(frame([swapped.SerializeToString(), *rest]), right)
    assert not workload.same_answer(frame([first]), right)
    assert not workload.same_answer(frame([b"\xff"]), right)
    assert not workload.same_answer(b"", right)


def test_an_answer_without_the_model_is_refused():
    sent = workload.exchange(1_000)
    exchange = Exchange(Policy(Replies()), Registry())
    answers = [answer for message in sent for answer in exchange.receive(message)]
    with pytest.raises(AssertionError):
        workload.check(sent, answers[:1])
    with pytest.raises(AssertionError, match="header_mutation"):
        workload.check(sent, [Replies().stripped(), *answers[1:]])
