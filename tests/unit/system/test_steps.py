import asyncio

import pytest

from bbr.system.steps import in_turns
from tests.support.loops import in_loop


def counting(most, seen):
    for number in range(most):
        seen.append(number)
        yield
    return "done"


@in_loop
async def test_others_are_served_after_each_step():
    seen = []

    async def other():
        for _ in range(3):
            seen.append("other")
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    assert await in_turns(counting(3, seen)) == "done"
    await beside
    assert seen == [0, "other", 1, "other", 2, "other"]


@in_loop
async def test_steps_that_fail_are_not_hidden():
    def failing():
        yield
        raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        await in_turns(failing())


@in_loop
async def test_no_steps():
    assert await in_turns(counting(0, [])) == "done"
