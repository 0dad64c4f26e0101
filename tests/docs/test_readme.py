"""README stays true: what it says of flags and refusals is what the code has."""

import inspect
import re
from pathlib import Path

from bbr import config, json_body, refusal
from bbr.doctor.finding import RULES

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_flags_table_is_what_help_says() -> None:
    rows = re.findall(r"^\| `--([a-z-]+)` \| (.*) \| (.*) \|$", README, re.MULTILINE)
    expected = [
        (name.replace("_", "-"), f"`{option.default}`" if option.default else "", option.help)
        for name, option in config.OPTIONS.items()
    ]
    assert rows == expected


def test_every_refusal_is_listed() -> None:
    source = inspect.getsource(refusal) + inspect.getsource(json_body)
    reasons = re.findall(r'(?:return Refusal\(\d+, |invalid_json\()"([a-z0-9-]+)"', source)
    assert len(reasons) >= 19
    assert [reason for reason in reasons if f"`bbr:{reason}`" not in README] == []


def test_every_finding_of_the_doctor_is_listed() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (error|warning|info) \| (.*) \|$", README, re.MULTILINE)
    assert rows == [(id_, str(rule.severity), rule.about) for id_, rule in RULES.items()]
