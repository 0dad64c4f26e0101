import pytest

from bbr.models.registry import Registry
from bench.harness import body_kinds, conversation, messages
from bench.published.direct import Case, check, exchange


@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
@pytest.mark.parametrize("kind", body_kinds.KINDS)
def test_the_router_finds_the_model_in_each(kind, mode):
    case = Case("kind", 20_000, kind, mode)
    sent = exchange(case)
    answers = [answer.SerializeToString() for answer in conversation.converse(conversation.exchange(Registry()), *sent)]
    assert check(case, sent, answers)
    with pytest.raises(AssertionError):
        check(case, sent, answers[1:])
    assert messages.parse(answers[0]).WhichOneof("response") == "request_headers"
