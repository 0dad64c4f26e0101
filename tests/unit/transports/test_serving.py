import asyncio

from bbr.transports.serving import Serving
from tests.support.loops import in_loop


@in_loop
async def test_stop_is_told_to_all_who_wait_and_to_all_who_ask():
    serving = Serving()
    assert serving.now
    waiting = [asyncio.create_task(serving.stopped()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    serving.stop()
    serving.stop()
    await asyncio.gather(*waiting, serving.stopped())
    assert not serving.now
