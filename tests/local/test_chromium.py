import asyncio
from pathlib import Path

import pytest

from deploy.local import chromium
from deploy.local.chromium import Chromium, ChromiumError
from tests.support.tools import needs


async def with_browser(work):
    async with Chromium() as browser:
        return await work(browser)


def test_a_missing_program_says_where_to_have_it_from(monkeypatch):
    monkeypatch.setattr(chromium, "PROGRAM", "no-such-browser")
    with pytest.raises(ChromiumError, match="there is no program no-such-browser"):
        asyncio.run(with_browser(None))


def test_a_program_that_ends_at_once_is_quoted(monkeypatch, tmp_path):
    program = tmp_path / "browser"
    program.write_text("#!/bin/sh\necho no display >&2\n")
    program.chmod(0o755)
    monkeypatch.setattr(chromium, "PROGRAM", str(program))
    with pytest.raises(ChromiumError, match="does not start:\nno display"):
        asyncio.run(with_browser(None))


class TestWithChromium:
    pytestmark = needs("chromium")

    def test_what_it_can_not_do_is_an_error(self):
        async def work(browser):
            page = await browser.open()
            with pytest.raises(ChromiumError, match=r"^nonsense\(\): ReferenceError"):
                await page.evaluate("nonsense()")
            with pytest.raises(ChromiumError, match=r"^No\.Such: 'No\.Such' wasn't found"):
                await page.send("No.Such")
            with pytest.raises(ChromiumError, match=r"example\.org/: net::ERR_NAME_NOT_RESOLVED"):
                await page.go("http://example.org/")

        asyncio.run(with_browser(work))

    def test_what_goes_wrong_on_a_page_is_noted(self):
        async def work(browser):
            page = await browser.open("data:text/html,<script>console.log('hello');nonsense()</script>")
            await page.evaluate("1")  # its answer comes after the events before it
            return page

        page = asyncio.run(with_browser(work))
        assert len(page.complaints) == 2
        assert "hello" in page.complaints[0]
        assert "nonsense is not defined" in page.complaints[1]
        assert page.requests == ["data:text/html,<script>console.log('hello');nonsense()</script>"]

    def test_nothing_of_it_is_left(self):
        async def work(browser):
            return browser

        browser = asyncio.run(with_browser(work))
        assert browser._process.returncode is not None
        assert not Path(browser._profile.name).exists()
