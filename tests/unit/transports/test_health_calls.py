import pytest

from bbr import health
from bbr.status import OK, StatusCode
from bbr.transports.health_calls import SHUTTING_DOWN, Answer, Watch
from bbr.transports.serving import Serving
from tests.support.loops import in_loop


def test_answer_ends_its_call():
    call = Answer(b"yes")
    assert call.end is None
    assert call.receive(b"anything") == (b"yes",)
    assert call.end == OK
    assert (call.patience_seconds, call.expire()) == (None, ())


def test_call_without_a_message_is_no_unary_call():
    assert Answer(b"yes").finish().code is StatusCode.INTERNAL


@pytest.mark.parametrize("serving", [True, False])
@in_loop
async def test_watch_stays_while_there_is_more_to_come(serving):
    state = Serving()
    if not serving:
        state.stop()
    call = Watch(state)
    assert call.receive(b"") == (health.check(serving=serving),)
    assert call.end == (None if serving else SHUTTING_DOWN)
    assert call.finish() is None
