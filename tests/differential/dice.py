"""Choices by which requests of the differential test are made: names, values, prompts, and changes of bodies."""

import random
from typing import Final

# Names of the field, as some parser might take them for `model`.
LETTERS: Final = {
    "m": ("m", "M", "\\u006d", "\\u004D", "\uff4d", "%6d", "%4D", "%256d", "%u006d", "%c1%ad", "%e0%81%ad", "\\m"),
    "o": ("o", "O", "\\u006f", "%6f", "%6F", "0", "\u043e"),
    "d": ("d", "D", "\\u0064", "%64", "%2564", "\\d"),
    "e": ("e", "E", "\\u0065", "%65", "\u0435", "\u00e9"),
    "l": ("l", "L", "\\u006c", "%6c", "%256C", "\u0131", "1"),
}
AROUND: Final = (
    *(
        " ",
        "\t",
        "\\t",
        "\\u0000",
        "\\u0000x",
        "\x00",
        "%00",
        "%20",
        "+",
        "\u00a0",
        "\ufeff",
        "\u200b",
        "\u2060",
        "\u202e",
        "\ufe0f",
    ),
    *(
        "[",
        "]",
        "[]",
        "[0]",
        "[x]",
        ".",
        ".x",
        "%5B",
        "%5D",
        "%5b%5d",
        "?",
        "!",
        "_",
        "-",
        "'",
        '"',
        "\\",
        "\\\\",
        "/",
        "\\/",
    ),
    *(
        "%EF%BB%BF",
        "%E2%80%8B",
        "%C2%A0",
        "%0A",
        "%0d",
        "&",
        ";",
        ":",
        ",",
        "=",
        "%3D",
        "%26",
        "#",
        "*",
        "$",
        "@",
        "(",
        "{",
        "__proto__",
    ),
)
VALUES: Final = (
    *(
        "B",
        "B",
        "B",
        "B",
        "A",
        "C",
        "",
        " B",
        "B ",
        "\ufeffB",
        "B\u200b",
        "%42",
        "B%00",
        "B\\u0000",
        "\\u0042",
        "b",
        "\u00c2",
    ),
    *(
        "B&model=C",
        "B;model=C",
        "B+",
        "+B",
        "B%20",
        "%26%2366%3B",
        "caf\u00e9",
        "caf%C3%A9",
        "B\r\n",
        "B\x00",
        "[B]",
        '"B"',
        "B,C",
    ),
)
PROMPTS: Final = (
    *("hello", "Gr\u00f6\u00dfe", "\u4f60\u597d\u4e26\u6a21\u578b\u4f8b\u5982", "a & b; c = d", "&model=B", ";model=B"),
    *(
        "&model=B&y=",
        "&[model]=B&y=",
        "\u4e26model=B",
        "--XyZ",
        "\\r\\n--XyZ\\r\\n",
        "%26model%3DB",
        'name=\\"model\\"',
    ),
    *('name=\\"model\\"', "x" * 300, "{}", "[1,2]"),
)


class Dice(random.Random):
    """A source of choices."""

    def often(self, share: float) -> bool:
        """Return True in so many cases."""
        return self.random() < share

    def spelled(self) -> str:
        """Return a name that might be taken for `model`."""
        name = "model"
        if self.often(0.5):
            changed = self.randrange(5) if self.often(0.7) else None
            name = "".join(
                self.choice(LETTERS[letter]) if changed in (None, at) and self.often(0.8) else letter
                for at, letter in enumerate("model")
            )
        if self.often(0.5):
            name = self.choice(AROUND) + name
        if self.often(0.5):
            name += self.choice(AROUND)
        if self.often(0.05):
            name = f"x{self.choice(AROUND)}{name}{self.choice(AROUND)}y"
        if self.often(0.05):
            at = self.randrange(len(name) + 1)
            name = name[:at] + self.choice(AROUND) + name[at:]
        return name

    def garbled(self, body: bytes, pieces: tuple[bytes, ...]) -> bytes:
        """Return a body with a few octets taken out, doubled, put in or replaced."""
        for _ in range(self.choice((0, 0, 0, 1, 1, 2, 3))):
            at = self.randrange(len(body) + 1)
            end = at + self.choice((0, 0, 1, 2, 5))
            put = self.choice(
                (b"", self.choice(pieces), self.choice(pieces), body[at : at + 8], bytes((self.randrange(256),)))
            )
            body = body[:at] + put + body[end:]
        return body
