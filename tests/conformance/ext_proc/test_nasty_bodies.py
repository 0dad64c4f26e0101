"""The corpus of nasty bodies, through an exchange: one verdict each, whatever the mode."""

import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.models.registry import Registry
from bench.harness.conversation import converse
from bench.harness.messages import request_body, request_headers
from tests.corpus.nasty_bodies import BODIES, TWINS, Nasty

MODES = [BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED, BodyMode.STREAMED]


@pytest.mark.parametrize("nasty", BODIES, ids=lambda nasty: nasty.id)
@pytest.mark.parametrize("mode", MODES)
def test_verdict(nasty: Nasty, mode: BodyMode) -> None:
    check(nasty, mode)


def check(nasty: Nasty, mode: BodyMode) -> None:
    talk = Exchange(Policy(Replies()), Registry())
    converse(talk, request_headers(mode=mode), request_body(nasty.body, end_of_stream=True))
    verdict = talk.verdict
    if nasty.verdict is None:
        assert verdict.outcome is Outcome.NO_MODEL
    elif nasty.verdict.startswith("bbr:"):
        assert (verdict.outcome, f"bbr:{verdict.reason}") == (Outcome.REFUSED, nasty.verdict)
    else:
        assert (verdict.outcome, verdict.model) == (Outcome.ROUTED, nasty.verdict)


def test_ids_are_distinct() -> None:
    assert len({nasty.id for nasty in TWINS + BODIES}) == len(TWINS + BODIES)
