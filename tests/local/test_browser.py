import pytest
from playwright.sync_api import sync_playwright

from deploy.local import browser
from deploy.local.browser import BrowserError
from tests.support.tools import needs


def test_a_missing_program_says_where_to_have_it_from(monkeypatch):
    monkeypatch.setattr(browser, "PROGRAM", "no-such-browser")
    with pytest.raises(BrowserError, match="there is no program no-such-browser"):
        browser.launch_options()


@needs("chromium")
def test_what_goes_wrong_on_a_page_is_noted_and_no_other_host_is_asked():
    with sync_playwright() as playwright, playwright.chromium.launch(**browser.launch_options()) as chromium:
        page = chromium.new_page()
        complaints = browser.complaints(page)
        page.goto("data:text/html,<script>console.log('hello');nonsense()</script>")
        page.goto("data:text/html,<img src=http://example.org/x.png>", wait_until="networkidle")
    assert complaints[0] == "hello"
    assert "nonsense is not defined" in complaints[1]
    assert any("ERR_NAME_NOT_RESOLVED" in each for each in complaints[2:])
