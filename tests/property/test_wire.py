"""What is read of messages by hand is what protobuf reads; and an exchange makes the same of both.

10^6 messages: python -m tests.differential.messages
"""

import random
from unittest import mock

import pytest

from bbr.exchange import exchange as exchange_module
from bbr.exchange.convention import Ours
from bbr.exchange.exchange import Exchange
from bbr.exchange.policy import Policy
from bbr.exchange.replies import Replies
from bbr.models.entries import BaseModel
from bench.harness import messages
from bench.harness.conversation import said
from bench.harness.model_tables import merged
from tests.differential.messages import changed, opening, run

TABLE, _ = merged([BaseModel("qwen", ("m",))])
BODY = messages.request_body(b'{"model":"m"}', end_of_stream=True)


def test_by_hand_and_by_protobuf_are_the_same() -> None:
    told = run(20_000, 7)
    assert min(told.values()) > 1_000
    assert len(told) == 3


def conversation(convention: Ours, message: bytes, *, by_hand: bool) -> list[object]:
    with mock.patch.object(exchange_module, "_READS_OPENINGS", by_hand):
        talk = Exchange(Policy(Replies(convention)), TABLE)
        answers = said(talk, message) + said(talk, BODY)
        fields = [talk.request_field(name) for name in (":path", "x-request-id", "cookie")]
        talk.over()
    verdict = talk.verdict
    return [answers, talk.end, talk.body_mode, verdict.outcome, verdict.reason, verdict.model, fields]


@pytest.mark.interpreted("chooses what reads the headers, which a build has settled")
@pytest.mark.parametrize("prefixes", [(), ("x-r",)])
def test_an_exchange_makes_the_same_of_both(prefixes: tuple[str, ...]) -> None:
    chance = random.Random(11)
    convention = Ours(strip_prefixes=prefixes)
    for _ in range(1_500):
        message = opening(chance)
        if chance.random() < 0.5:
            message = changed(chance, message)
        by_hand = conversation(convention, message, by_hand=True)
        assert by_hand == conversation(convention, message, by_hand=False), message.hex()
