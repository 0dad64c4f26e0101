"""The corpus of nasty bodies, through an exchange: one verdict each, whatever the mode."""

import gc
import gzip
from collections.abc import Iterator

import pytest

from bbr.exchange.exchange import Exchange
from bbr.exchange.go_router import GoRouter
from bbr.exchange.policy import BodyMode, InvalidJson, OverLimit, Policy
from bbr.exchange.replies import Replies
from bbr.exchange.verdict import Outcome
from bbr.models.registry import Registry
from bbr.models.routing import MissingModel, Rules
from bbr.reading.templates import parse_templates
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


TYPES = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "application/xyz"]
POLICIES = {
    "strict": Policy(Replies(), path_templates=parse_templates("/model/{model}/invoke")),
    "lenient": Policy(Replies(), on_invalid_json=InvalidJson.PASS_STRIPPED, over_limit=OverLimit.PASS),
    "default": Policy(Replies(), rules=Rules(missing_model=MissingModel.DEFAULT, default_model="d")),
    "compat": Policy(Replies(GoRouter())),
}


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("content_type", TYPES)
def test_what_is_refused_is_freed_at_once(content_type: str, policy: str, mode: BodyMode) -> None:
    left = [nasty.id for nasty in BODIES if leaves_garbage(nasty.body, content_type, POLICIES[policy], mode)]
    assert left == []


def leaves_garbage(body: bytes, content_type: str, policy: Policy, mode: BodyMode) -> bool:
    """Tell whether requests with a body leave objects in cycles: they would hold it, though nothing counts it."""
    gc.collect()
    fields = {":method": "POST", ":path": "/model/a/invoke", "content-type": content_type}
    for sent, encoding in ((body, {}), (gzip.compress(body, 1), {"content-encoding": "gzip"})):
        for pieces in ((sent,), (sent[:5], sent[5:])):
            talk = Exchange(policy, Registry())
            converse(talk, request_headers({**fields, **encoding}, mode=mode))
            for index, piece in enumerate(pieces, 1):
                converse(talk, request_body(piece, end_of_stream=index == len(pieces)))
            talk.over()
            del talk
    return gc.collect() > 0
