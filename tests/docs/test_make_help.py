"""`make help`: what a contributor sees first lists every target and fits a terminal."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def test_every_target_is_listed_once_within_100_columns_and_everyday_ones_come_first():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    listed = re.findall(r"^  make (\S+)", done.stdout, re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)
    assert sorted(listed) == sorted(targets)
    (everyday,) = re.findall(r"^EVERYDAY := (.*)$", MAKEFILE, re.MULTILINE)
    assert listed[: len(everyday.split())] == everyday.split()


def test_what_a_target_does_is_told_in_full():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    for does in re.findall(r"^[a-z-]+:.*## (.*)$", MAKEFILE, re.MULTILINE):
        assert " ".join(does.split()) in " ".join(done.stdout.split())
