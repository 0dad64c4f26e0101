import dataclasses

import pytest

from bbr.exchange.policy import BodyMode, Policy
from bbr.exchange.replies import Replies
from bbr.pb.ext_proc_pb2 import ProcessingMode


@pytest.mark.parametrize(("limit", "threshold"), [(1 << 20, 256 << 10), (100, 100)])
def test_no_short_body_is_over_the_limit(limit: int, threshold: int) -> None:
    assert Policy(Replies(), max_body_bytes=limit).stream_threshold_bytes == threshold


def test_a_policy_does_not_change_and_has_a_ledger_of_its_own() -> None:
    policy = Policy(Replies())
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.max_body_bytes = 1  # type: ignore[misc]
    assert policy.ledger is not Policy(Replies()).ledger


def test_body_modes_are_the_protocols() -> None:
    assert {mode.name: mode.value for mode in BodyMode} == dict(ProcessingMode.BodySendMode.items())
