"""A search for the bodies that a scanner is slowest on. Run: python -m bench.micro.scanner_worst [SECONDS] [SEED]

For pieces of several sizes, it makes bodies of a repeated unit, at random from what has been slow before, and changes
the slowest ones further. It prints the slowest of each size, with ns of CPU time per octet and MB/s, and the longest
call of `scan` that any of them took in the best of a few rounds, in ms.
"""

import random
import re
import sys
import time
from typing import NamedTuple

from bbr.reading.scan.grammar import MAX_DEPTH
from bbr.reading.scan.scanner import Scanner
from bbr.refusal import Refusal

PIECES = (1, 100, 1_000, 16_384, 62_000, 1 << 20)
ROUNDS = 3
KEPT = 6
REPEATED = re.compile(r"(.{1,40}?)\1{2,}", re.DOTALL)

STRINGS = (
    *('""', '"a"', '"model"', '"ab"', '"é"', '"\\n"', '"\\\\"', '"\\""', '"\\u00e9"', '"\\ud83e\\udd99"', '"model\\""'),
    *('"xxxxxxxx"', f'"{"x" * 63}"', f'"{"x" * 65}"', f'"{"x" * 600}"', f'"{chr(92)}n{"x" * 80}"', f'"{"模" * 30}"'),
    *(f'"{chr(92) * 2 * 40}"', f'"{chr(92)}u00e9{"[" * 40}"', f'"{"model" * 20}"'),
)
KEYS = ('""', '"a"', '"model"', '"model" ', '"\\u006dodel"', '"models"', '"\\\\"', f'"{"k" * 70}"')
SCALARS = (
    *("1", "0", "-0.5e-3", "1e300", "12345", "1E+30", "123456789012345678901", "0." + "1" * 250, "9" * 250, "true"),
    *("null", "1" + "0" * 199, "0." + "0" * 2000, " 1", "1 ", "\n1\t", " " * 40 + "1"),
)
STEPS = (
    *(("[", "]"), ("[1,", "]"), ("[", ",1]"), ("[[],", "]"), ("[", ",[]]"), ("[[1],", ",{}]"), ("[ ", " ]")),
    *(("{" + key + ":", "}") for key in KEYS),
    *(('[{"model":', "}]"), ('{"":1,"":', ',"":[]}')),
)
COUNTS = (1, 1, 1, 2, 3, 5, 8, 9, 12, 16, 40, 120, 400, 800)
LEVELS = (1, 1, 2, 3, 7, 8, 9, 10, 16, 40, 120, 255, 400, 499, 501, 800, 890)


class Body(NamedTuple):
    """What a body is made of: values that are repeated, so many arrays around them, or else a key of the root."""

    around: int
    key: str
    values: tuple[str, ...]

    def octets(self, size: int) -> bytes:
        """Return the body, a little longer than a size."""
        before = "," if self.around else f",{self.key}:"
        unit = "".join(before + each for each in self.values).encode()
        items = b"1" + unit * (size // len(unit) + 1)
        return b'{"":' + b"[" * self.around + items + b"]" * self.around + b',"model":"m"}'

    def __str__(self) -> str:
        unit = REPEATED.sub(lambda each: f"({each[1]})*{len(each[0]) // len(each[1])}", ",".join(self.values))
        return f"{self.around} deep, {unit!r:.300}" if self.around else f"at the key {self.key}, {unit!r:.300}"


def value(dice: random.Random, room: int) -> str:
    """Return a value that nests no deeper than there is room."""
    kind = dice.randrange(10) if room > 0 else dice.randrange(4)
    if kind < 2:
        return dice.choice(SCALARS)
    if kind < 4:
        return dice.choice(STRINGS)
    if kind == 4:
        return dice.choice(("[]", "{}", "[ ]", "{ }"))
    if kind == 5:
        items = ",".join([value(dice, room - 1) for _ in range(dice.randrange(1, 4))] * dice.choice(COUNTS[:9]))
        return f"[{items}]"
    if kind == 6:
        members = [f"{dice.choice(KEYS)}:{value(dice, room - 1)}" for _ in range(dice.randrange(1, 4))]
        return "{" + ",".join(members * dice.choice(COUNTS[:9])) + "}"
    steps = min(dice.choice(LEVELS), room)
    inner = value(dice, room - steps)
    opening, closing = dice.choice(STEPS)
    steps = max(1, steps // (opening.count("[") + opening.count("{")))
    return opening * steps + inner + closing * steps


def body(dice: random.Random) -> Body:
    """Return a body at random."""
    around = dice.choice((0, 0, 1, 1, 1, 30, 400, 880))
    values = tuple(value(dice, MAX_DEPTH - around - 1) for _ in range(dice.choice((1, 1, 2, 3))))
    return Body(around, dice.choice(('"y"', '"y"', '"model"')), values)


def changed(dice: random.Random, kept: Body) -> Body:
    """Return a body like another, but for one thing."""
    match dice.randrange(4):
        case 0:
            return kept._replace(values=kept.values * dice.choice(COUNTS[:9]) + body(dice).values[:1])
        case 1:
            return kept._replace(around=dice.choice((0, 1)))
        case 2:
            return kept._replace(values=(dice.choice(kept.values),))
        case _:
            old, new = dice.choice(STRINGS + SCALARS), dice.choice(STRINGS + SCALARS)
            return kept._replace(values=tuple(each.replace(old, new) for each in kept.values))


def measure(octets: bytes, size: int) -> tuple[float, float]:
    """Scan a body in pieces, and return the ns per octet and the longest call in ms."""
    scanner = Scanner()
    pieces = [octets[at : at + size] for at in range(0, len(octets), size)]
    scan, clock = scanner.scan, time.thread_time_ns
    spent = longest = done = 0
    try:
        for piece in pieces:
            position = 0
            while position < len(piece):
                begun = clock()
                before, position = position, scan(piece, position)
                took = clock() - begun
                done += position - before
                spent += took
                longest = max(longest, took)
    except Refusal:  # changed to what is no document
        return 0, longest / 1e6
    return spent / done, longest / 1e6


def best(octets: bytes, size: int) -> tuple[float, float]:
    """Return the better of several measurements."""
    rounds = [measure(octets, size) for _ in range(ROUNDS)]
    return min(each[0] for each in rounds), min(each[1] for each in rounds)


def search(size: int, seconds: float, dice: random.Random) -> None:
    """Look for the slowest bodies for pieces of a size, and print them."""
    length = {1: 6_000, 100: 30_000, 1_000: 60_000}.get(size, 150_000)
    slowest: list[tuple[float, float, Body]] = []
    longest: list[tuple[float, float, Body]] = []
    tried = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pool = slowest + longest
        new = changed(dice, dice.choice(pool)[2]) if pool and dice.random() < 0.6 else body(dice)
        tried += 1
        if sum(map(len, new.values)) > length:
            continue
        rate, call = measure(new.octets(length), size)
        if not rate:
            continue
        for kept, key in ((slowest, 0), (longest, 1)):
            if len(kept) < KEPT or (rate, call)[key] > kept[-1][key]:
                found = (*best(new.octets(length), size), new)
                if all(each[2] != new for each in kept):
                    kept.append(found)
                    kept.sort(key=lambda each: -each[key])
                    del kept[KEPT:]
    print(f"pieces of {size}: {tried} bodies")
    for rate, call, found in slowest[:3] + longest[:2]:
        print(f"  {rate:7.1f} ns/octet {1e3 / rate:7.1f} MB/s, longest {call:5.2f} ms: {found}", flush=True)


if __name__ == "__main__":
    seconds, seed = (sys.argv[1:] + ["60", "1"][len(sys.argv) - 1 :])[:2]
    for size in PIECES:
        search(size, float(seconds) / len(PIECES), random.Random(int(seed)))
