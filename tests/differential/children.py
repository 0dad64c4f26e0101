"""The parsers' processes: how each is built, if it can be, and started; and what they answer to many cases at once."""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.differential.protocol import field

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "differential"

# Cases that are sent before answers are read: a pipe holds 64 KiB of answers, and more wait in the child.
BATCH = 50
BUILD_SECONDS = 7200.0

# A method, a Content-Type, a path and a body.
Case = tuple[bytes, bytes | None, bytes, bytes]


class UnavailableError(Exception):
    """What a language's parsers need is not there; the message says what."""


class Language(NamedTuple):
    """Parsers that are built together.

    Attributes:
        name: for people, and a folder here.
        needs: commands.
        files: what they are made of; what is built is kept by their digest.
        build: what makes them in their folder of the cache, which has a copy of the files.
        run: the command that starts them there.
    """

    name: str
    needs: Sequence[str]
    files: Sequence[str]
    build: Sequence[Sequence[str]]
    run: Sequence[str]


LANGUAGES = (
    Language("python", [], [], [], [sys.executable, "-m", "tests.differential.python_parsers"]),
    Language(
        "node",
        ["node", "npm"],
        ["package.json", "package-lock.json", "parsers.js"],
        [["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]],
        ["node", "parsers.js"],
    ),
    Language("go", ["go"], ["go.mod", "go.sum", "main.go"], [["go", "build", "-o", "parsers", "."]], ["./parsers"]),
    Language(
        "rust",
        ["cargo"],
        ["Cargo.toml", "Cargo.lock", "src/main.rs"],
        [["cargo", "build", "--release", "--locked", "--quiet"]],
        ["target/release/differential"],
    ),
    Language(
        "java",
        ["mvn", "javac"],
        ["pom.xml", "Parsers.java"],
        [
            ["mvn", "--batch-mode", "--quiet", "dependency:copy-dependencies", "-DoutputDirectory=lib"],
            ["javac", "-encoding", "UTF-8", "-cp", "lib/*", "-d", ".", "Parsers.java"],
        ],
        ["java", "-XX:TieredStopAtLevel=1", "-cp", "lib/*:.", "Parsers"],
    ),
    Language("ruby", ["ruby"], ["parsers.rb"], [["ruby", "-e", 'require "rack"']], ["ruby", "parsers.rb"]),
    Language("php", ["php"], ["parsers.php", "server.php"], [], ["php", "parsers.php"]),
    Language(
        "perl",
        ["perl"],
        ["parsers.pl"],
        [["perl", "-MCGI", "-MHTTP::Body", "-MJSON::XS", "-e", "1"]],
        ["perl", "parsers.pl"],
    ),
    Language(
        "cpp",
        ["g++"],
        ["main.cpp"],
        [
            [
                *("g++", "-O1", "-std=c++17", "-I/usr/include/jsoncpp", "-o", "parsers", "main.cpp"),
                *("-lcjson", "-ljsoncpp", "-lsimdjson", "-pthread"),
            ]
        ],
        ["./parsers"],
    ),
)

# openai for Node, whose requests a test sends through the gateway; it parses nothing.
CLIENTS = Language(
    "clients",
    ["node", "npm"],
    ["package.json", "package-lock.json", "ask.js"],
    [["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]],
    ["node", "ask.js"],
)


def built(language: Language, *, may_build: bool = True) -> Path:
    """Return the folder in which a language's parsers can be started; build them if they are not there yet.

    Args:
        language: which.
        may_build: if not, they have to be there: tests connect to nobody.

    Raises:
        UnavailableError: they can't be built here.
    """
    if not language.files:
        return ROOT
    missing = [command for command in language.needs if not shutil.which(command)]
    if missing:
        raise UnavailableError(f"{', '.join(missing)} is not installed")
    digest = hashlib.sha256()
    for name in language.files:
        digest.update((HERE / language.name / name).read_bytes() + b"\0")
    folder = CACHE / f"{language.name}-{digest.hexdigest()[:16]}"
    if (folder / ".built").exists():
        return folder
    if not may_build:
        raise UnavailableError(f"{language.name} of Node is not there; make clients gets it")
    for name in language.files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / language.name / name, target)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(folder / "target")}
    for command in language.build:
        # A machine that is busy takes its time; what has taken this long would take for ever.
        try:
            made = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"{command[0]} did not end within {BUILD_SECONDS:g} s") from None
        if made.returncode:
            raise UnavailableError(f"{command[0]} failed: {(made.stderr or made.stdout).strip()[-500:]}")
    (folder / ".built").touch()
    return folder


def main() -> None:
    """Get what tests ask Node's clients with, if there is Node."""
    try:
        print(f"openai for Node is in {built(CLIENTS)}.")
    except UnavailableError as missing:
        print(f"Without openai for Node: {missing}. Its tests are skipped.")


class Child:
    """A process of parsers.

    Attributes:
        names: of its parsers.
    """

    def __init__(self, process: asyncio.subprocess.Process, names: list[str]) -> None:
        self._process = process
        self.names = names

    @classmethod
    async def start(cls, language: Language) -> "Child":
        """Start a language's parsers.

        Raises:
            UnavailableError: they can't be built here.
        """
        folder = await asyncio.to_thread(built, language)
        process = await asyncio.create_subprocess_exec(
            *language.run,
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=1 << 24,
        )
        assert process.stdout is not None
        names = json.loads(await process.stdout.readline())
        return cls(process, [f"{language.name}: {name}" for name in names])

    async def ask(self, cases: Sequence[Case]) -> list[list[object]]:
        """Return what each parser reads of each case."""
        answers = []
        for start in range(0, len(cases), BATCH):
            answers += await self._ask(cases[start : start + BATCH])
        return answers

    async def _ask(self, cases: Sequence[Case]) -> list[list[object]]:
        source, sink = self._process.stdout, self._process.stdin
        assert source is not None
        assert sink is not None
        sink.write(b"".join(field(each) for case in cases for each in case))
        answers = []
        for _ in cases:
            line = await source.readline()
            if not line:
                raise RuntimeError(f"the parsers of {self.names[0].partition(':')[0]} have ended")
            answers.append(json.loads(line))
        return answers

    async def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


if __name__ == "__main__":
    main()
