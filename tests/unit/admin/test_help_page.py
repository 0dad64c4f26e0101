import re

from bbr.admin import help_page
from bbr.admin.problems import KINDS
from bbr.admin.reasons import REASONS


def test_it_has_an_entry_for_each_reason_and_problem():
    html = b"".join(help_page.render("p {}")).decode()
    assert html.startswith("<!doctype html>")
    assert "<style>p {}</style>" in html
    entries = set(re.findall(r'<div id="([pr]-[a-z0-9-]+)"', html))
    assert entries == {f"p-{kind}" for kind in KINDS} | {f"r-{name}" for name in REASONS}
    assert "The body is not valid JSON." in html
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:[a-z]+:)?//""", html)
