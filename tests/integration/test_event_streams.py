"""Answers whose events travel through the whole local stack as they happen, as the clients of both vendors see them.

The model servers wait for a minute after each event, so what comes before that came alone.
"""

import pytest

from deploy.local.stack import Stack
from tests.integration import test_anthropic_client, test_openai_client
from tests.integration.test_openai_client import PHI
from tests.support.stack import running
from tests.support.tools import needs_envoy

pytestmark = needs_envoy


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("stack"), event_seconds=60.0) as stack:
        yield stack


def test_openai(stack: Stack) -> None:
    with test_openai_client.connected(stack) as client:
        asked = test_openai_client.ASKED
        with client.chat.completions.create(model="sql-lora", messages=asked, stream=True) as chunks:
            assert next(iter(chunks)).choices[0].delta.role == "assistant"
        with client.completions.create(model=PHI, prompt="?", stream=True) as chunks:
            assert next(iter(chunks)).choices[0].text == "I"


def test_anthropic(stack: Stack) -> None:
    with (
        test_anthropic_client.connected(stack) as client,
        client.messages.create(model="sql-lora", stream=True, **test_anthropic_client.ASKED) as events,
    ):
        assert next(iter(events)).type == "message_start"
