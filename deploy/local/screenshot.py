"""`make screenshots`: the picture of the status page in docs, from a local stack under real requests.

Needs a program `chromium`, and Envoy as the demo does.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import aiohttp
from playwright.async_api import Error, async_playwright

from deploy.local import tour
from deploy.local.browser import BrowserError, complaints, launch_options
from deploy.local.part import ROOT
from deploy.local.stack import Stack, StackError, StackOptions
from deploy.local.topology import MODELS, free_ports
from deploy.local.traffic import Request, send

PICTURE: Final = ROOT / "docs" / "status-page.png"
WIDTH: Final = 1120

# Enough for the rates of a minute to have settled, and for the page to have refreshed itself a few times.
LOAD_SECONDS: Final = 20.0
REQUESTS_PER_SECOND: Final = 40.0
SEED: Final = 7

# Relative to the repository, where the router runs: the picture should not name somebody's home.
_MODELS: Final = MODELS.relative_to(ROOT)


async def take(stack: Stack, options: dict[str, Any], *, dark: bool) -> bytes:
    """Return a picture of a stack's status page after LOAD_SECONDS of requests, which go on meanwhile."""
    load = asyncio.create_task(_load(stack))
    try:
        async with async_playwright() as playwright, await playwright.chromium.launch(**options) as browser:
            page = await browser.new_page(
                viewport={"width": WIDTH, "height": 900}, color_scheme="dark" if dark else "light"
            )
            found = complaints(page)
            await page.goto(stack.status_url)
            await asyncio.wait({load}, timeout=LOAD_SECONDS)
            await page.evaluate("refresh()")
            if found:
                raise BrowserError(f"the page complains: {found}")
            return await page.screenshot(full_page=True)
    except Error as error:
        raise BrowserError(str(error)) from error
    finally:
        load.cancel()
        await asyncio.wait({load})


async def _load(stack: Stack) -> None:
    """Send the tour's requests in a random order, the plain ones most often, until cancelled."""
    choose = random.Random(SEED)  # noqa: S311 (no secret)
    requests = [request for request in tour.plan() if len(request.body) < tour.LARGE_BYTES]
    weights = [len(requests) - number for number in range(len(requests))]
    async with aiohttp.ClientSession() as session:
        while True:
            await asyncio.gather(*(_send(stack, session, each) for each in choose.choices(requests, weights, k=4)))
            await asyncio.sleep(choose.expovariate(REQUESTS_PER_SECOND / 4))


async def _send(stack: Stack, session: aiohttp.ClientSession, request: Request) -> None:
    await send(session, stack.url, request)


async def run(*, dark: bool = False) -> bytes:
    """Run a stack and return the picture of its status page.

    Raises:
        StackError: the stack does not run.
        BrowserError: Chromium does not, or the page has errors.
    """
    browser = launch_options()  # first: without one there is nothing to start a stack for
    with tempfile.TemporaryDirectory(prefix="bbr-screenshot-") as directory:
        options = StackOptions(log_dir=Path(directory), ports=free_ports(), router_args=(f"--models={_MODELS}",))
        async with Stack(options) as stack:
            return await stack.unless_dead(take(stack, browser, dark=dark))


def main(arguments: list[str] | None = None) -> int:
    """Take the picture from the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.screenshot", description=__doc__)
    parser.add_argument("--dark", action="store_true", help="as the page looks at night")
    parser.add_argument("--output", type=Path, default=PICTURE, metavar="FILE", help="default: docs/status-page.png")
    given = parser.parse_args(arguments)
    try:
        picture = asyncio.run(run(dark=given.dark))
    except (StackError, BrowserError) as error:
        print(f"No picture: {error}", file=sys.stderr)
        return 1
    given.output.parent.mkdir(exist_ok=True)
    given.output.write_bytes(picture)
    print(f"{given.output}: {len(picture):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
