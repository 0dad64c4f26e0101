"""A part of the stack is killed, which is what people try: `watch` tells what becomes of requests, and goes on."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from deploy.local import tour
from deploy.local.part import Part, StackError
from deploy.local.stack import Stack

_AGAIN: Final = "Press Enter to start it again, Ctrl-C to stop everything."


async def watch(stack: Stack, again: asyncio.Event) -> None:
    """Tell of each part that dies how it did and what the gateway answers then; go on until this is cancelled.

    Args:
        again: set by a user who wants the dead parts started anew; cleared here.
    """
    told: set[str] = set()
    wanted = asyncio.create_task(again.wait())
    try:
        while True:
            alive = {part.exited for part in stack.parts.values() if part.name not in told}
            await asyncio.wait({*alive, wanted}, return_when=asyncio.FIRST_COMPLETED)
            dead = [part for part in stack.parts.values() if part.exited.done() and part.name not in told]
            if dead:
                told.update(part.name for part in dead)
                await _tell(stack, dead)
            if wanted.done():
                again.clear()
                wanted = asyncio.create_task(again.wait())
                told -= await _restart(stack, [stack.parts[name] for name in sorted(told)])
    finally:
        wanted.cancel()


async def _tell(stack: Stack, dead: list[Part]) -> None:
    for part in dead:
        print(f"\n{part.ending()}. What the gateway answers now:\n")
    print(tour.table(await tour.run(stack, tour.sample(), judged=False)))
    print(f"\n{_AGAIN if sys.stdin.isatty() else 'The rest stays up. Ctrl-C stops everything.'}")


async def _restart(stack: Stack, dead: list[Part]) -> set[str]:
    """Start dead parts anew; return the names of those that are ready."""
    ready = set()
    for part in dead:
        try:
            await part.start()
            await part.ready(stack.ready_seconds)
        except StackError as error:
            print(error)
        else:
            print(f"{part.name} is up again, as process {part.pid}.")
            ready.add(part.name)
    return ready


@asynccontextmanager
async def enter_pressed() -> AsyncIterator[asyncio.Event]:
    """Give an event that is set each time the user presses Enter, if there is a terminal."""
    pressed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def read() -> None:
        if sys.stdin.readline():
            pressed.set()
        else:  # the terminal is gone
            loop.remove_reader(sys.stdin)

    if sys.stdin.isatty():
        loop.add_reader(sys.stdin, read)
    try:
        yield pressed
    finally:
        if sys.stdin.isatty():
            loop.remove_reader(sys.stdin)
