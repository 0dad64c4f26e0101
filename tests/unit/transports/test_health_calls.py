import pytest

from bbr.rpc import health
from bbr.rpc.status import OK, StatusCode
from bbr.transports.health_calls import SHUTTING_DOWN, Answer, Check, Watch
from bbr.transports.serving import Serving
from tests.support.loops import in_loop


def test_answer_ends_its_call():
    call = Answer(b"yes")
    assert call.end is None
    assert call.receive(b"anything") == (b"yes",)
    assert call.end == OK
    assert (call.pending, call.work(), call.expect(1)) == (False, (), ())


def test_call_that_asks_nothing_ends_in_a_while():
    call = Answer(b"yes")
    assert (call.patience_seconds, call.expire()) == (60.0, ())
    assert call.end.code is StatusCode.DEADLINE_EXCEEDED


def test_call_without_a_message_is_no_unary_call():
    assert Answer(b"yes").finish().code is StatusCode.INTERNAL


def state_of(serving):
    state = Serving()
    if not serving:
        state.stop()
    return state


@pytest.mark.parametrize("serving", [True, False])
@in_loop
async def test_check_answers_with_the_state_and_for_liveness_with_life(serving):
    for request, answer in ((b"", serving), (b"\x0a\x08liveness", True)):
        call = Check(state_of(serving))
        assert call.receive(request) == (health.check(serving=answer),)
        assert call.end == OK


@in_loop
async def test_watch_tells_each_change_after_its_first_answer():
    state = Serving(ready=False)
    early, call = Watch(state), Watch(state)
    assert call.receive(b"") == (health.check(serving=False),)
    assert (call.end, call.changed()) == (None, ())
    state.start()
    assert early.changed() == ()
    assert call.changed() == early.receive(b"") == (health.check(serving=True),)
    state.stop()
    assert call.changed() == early.changed() == (health.check(serving=False),)


@pytest.mark.parametrize("serving", [True, False])
@in_loop
async def test_watch_stays_while_there_is_more_to_come(serving):
    call = Watch(state_of(serving))
    assert call.patience_seconds == 60.0
    assert call.receive(b"") == (health.check(serving=serving),)
    assert call.patience_seconds is None
    assert call.end == (None if serving else SHUTTING_DOWN)
    assert call.finish() is None
