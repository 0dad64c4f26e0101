import asyncio

import pytest

from bbr.transports.serving import Serving, target
from tests.support.loops import in_loop


async def waiting_for_a_change(serving):
    tasks = [asyncio.create_task(serving.changed()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    return asyncio.gather(*tasks)


@in_loop
async def test_stop_is_told_to_all_who_wait_and_to_all_who_ask():
    serving = Serving()
    assert (serving.now, serving.stopping) == (True, False)
    waiting = await waiting_for_a_change(serving)
    serving.stop()
    await waiting
    assert (serving.now, serving.stopping) == (False, True)


@in_loop
async def test_one_that_is_not_ready_serves_once_it_is_started():
    serving = Serving(ready=False)
    assert (serving.now, serving.stopping) == (False, False)
    waiting = await waiting_for_a_change(serving)
    serving.start()
    await waiting
    assert (serving.now, serving.stopping) == (True, False)


@in_loop
async def test_what_changes_nothing_is_told_to_nobody():
    serving = Serving()
    waiting = await waiting_for_a_change(serving)
    serving.start()
    await asyncio.sleep(0)
    assert not waiting.done()
    serving.stop()
    await waiting
    waiting = await waiting_for_a_change(serving)
    serving.start()
    serving.stop()
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not serving.now
    waiting.cancel()


@pytest.mark.parametrize(
    ("address", "text"), [(None, "[::]:9004"), ("127.0.0.1", "127.0.0.1:9004"), ("fe80::1%eth0", "[fe80::1%eth0]:9004")]
)
def test_where_a_server_listens(address, text):
    assert target(address, 9004) == text
