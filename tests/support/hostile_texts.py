"""Texts of other people's that would like to be more than a text, and what must hold wherever one is shown."""

from collections.abc import Callable

from bbr.text import is_visible

FORGED = "ERROR forged"

# By what they try. Each has letters around, as a name has.
HOSTILE = {
    "a line": f"a\n{FORGED}",
    "a line of Windows": f"a\r\n{FORGED}",
    "a line over another": f"a\r{FORGED}",
    "a line by Unicode": f"a\u2028{FORGED}\u2029{FORGED}\x85{FORGED}",
    "a page": f"a\x0b{FORGED}\x0c{FORGED}\x1c{FORGED}\x1d{FORGED}\x1e{FORGED}",
    "a fix with its indentation": f"a\n         {FORGED}",
    "colours": "a\x1b[31;1mb\x1b[0m",
    "a cleared screen": "a\x1b[2J\x1b[Hb",
    "a title": "a\x1b]0;owned\x07b",
    "a link": "a\x1b]8;;http://evil.example/\x1b\\b",
    "a sequence in one byte": "a\x9b31mb\x9d0;owned\x9cc\x90d",
    "a backspace": "ab\x08\x08cd\x7f",
    "nothing": "a\x00b",
    "another direction": "a\u202eb\u2066c\u2069\u202cd",
    "marks of direction": "a\u200eb\u200fc\u061cd",
    "no width": "a\u200bb\u200cc\u200dd\u2060e\ufefff\xadg",
    "variations": "a\ufe0fb\U000e0100c",
    "tags": "a\U000e0041\U000e0042b",
    "blank letters": "a\u3164b\u2800c\u115fd\uffa0e",
    "blanks": "a\xa0b\u3000c\u2003d",
    "private and unassigned": "a\ue000b\U000f0000c\u0378d",
    "half a character": "a\udcffb\ud800c",
    "markup": "a</bdi><script>alert(1)</script><!--\"'>",
    "a label": 'a"} 1\nbbr_ready{x="',
    "a format": "a %s %(x)d {0} {x!r} {{script}} b",
    "much": "a" * 200_000,
    "much that is escaped": "a\u200b" * 50_000,
    "many lines": "a\n" * 50_000,
}

# In UTF-8. JSON and files can have all others.
ENCODABLE = {what: text for what, text in HOSTILE.items() if what != "half a character"}


def holds(show: Callable[[str], str], hostile: str, most: int = 40_000) -> str:
    """Assert that a text that somebody else wrote is shown as a harmless one is, and return what is shown.

    Args:
        show: makes what is shown, of the text.
        hostile: the text.
        most: characters that it may have more than with a harmless text.
    """
    harmless, shown = show("harmless"), show(hostile)
    assert "harmless" in harmless, "the text is not shown at all"
    lines = shown.split("\n")
    assert [line for line in lines if not is_visible(line)] == []
    # A sentence that is wrapped has two blanks before each line.
    assert not [line for line in lines if line.lstrip().startswith(FORGED) and not line.startswith(f"  {FORGED}")]
    assert len(shown) <= len(harmless) + most
    return shown
