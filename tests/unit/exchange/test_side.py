import pytest

from bbr.exchange.awaited import Awaited
from bbr.exchange.body import Body
from bbr.exchange.duplex import Duplex
from bbr.exchange.ledger import Ledger
from bbr.exchange.phases import DONE
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.request import Request
from bbr.exchange.side import NOTHING, Side, finish
from bbr.exchange.times import Times, stopped
from bbr.exchange.verdict import Verdict
from bbr.models.registry import Registry

SIDES = {"duplex": Duplex(), **{mode.name: Awaited(mode) for mode in BodyMode if mode.name != "FULL_DUPLEX_STREAMED"}}


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
def test_it_keeps_nothing_of_a_request(side: Side) -> None:
    policy = Policy(Replies(), Ledger(1 << 20))

    def answers(model: bytes) -> list[bytes]:
        request, body = Request(policy, Registry(), Verdict()), Body(policy, side.keeps, Times(stopped))
        found = [*side.open(request), *side.read(request, body, b'{"model":"%s"}' % model, True)]
        assert request.phase == DONE
        return found

    first, other, again = answers(b"qwen"), answers(b"phi"), answers(b"qwen")
    assert first == again != other


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
def test_without_work_it_answers_nothing(side: Side) -> None:
    policy = Policy(Replies())
    assert [*side.work(Request(policy, Registry(), Verdict()), Body(policy, side.keeps, Times(stopped)))] == [*NOTHING]


def test_a_request_that_is_finished_holds_nothing() -> None:
    ledger = Ledger(100)
    policy = Policy(Replies(), ledger)
    request, body = Request(policy, Registry(), Verdict()), Body(policy, False, Times(stopped))
    body.add(b"{")
    body.settle()
    finish(request, body)
    assert (request.phase, ledger.held_bytes) == (DONE, 0)
