import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from deploy.local.part import ROOT, Part, StackError, http_probe
from deploy.local.preloaded import ENDPOINT_PICKER, MODEL_SERVER, Preloaded
from deploy.local.topology import free_ports, in_use
from tests.support.stack import DEADLINE_SECONDS, until

POD = ["--pool=a", "--model=m"]


def with_one(test: Callable[[Preloaded], Awaitable[None]]) -> None:
    async def run() -> None:
        preloaded = Preloaded()
        try:
            await test(preloaded)
        finally:
            await preloaded.stop()

    asyncio.run(run())


def a_pod(preloaded: Preloaded, log: Path, *arguments: str) -> Part:
    (port,) = free_ports(["pod"]).values()
    command = [sys.executable, "-m", MODEL_SERVER, "--pod=p", f"--port={port}", *POD, *arguments]
    part = Part("pod", command, http_probe(port, "/health"), log, run=preloaded.run)
    part.port = port
    return part


def test_a_child_is_a_process_like_any_other(tmp_path):
    async def test(preloaded):
        part = a_pod(preloaded, tmp_path / "log")
        await part.start()
        await part.ready(DEADLINE_SECONDS)
        assert os.getsid(part.pid) == part.pid
        assert os.readlink(f"/proc/{part.pid}/cwd") == str(ROOT)
        assert os.readlink(f"/proc/{part.pid}/fd/0") == os.devnull
        await part.stop()
        assert part.exited.result() == 0
        assert "stand-in model server p of a" in part.log.read_text()

    with_one(test)


def test_how_it_ended_is_told(tmp_path):
    async def test(preloaded):
        killed, refused = a_pod(preloaded, tmp_path / "killed"), a_pod(preloaded, tmp_path / "refused", "--nonsense")
        await killed.start()
        await refused.start()
        with pytest.raises(StackError, match=r"(?s)pod ended early with exit code 2\..*--nonsense"):
            await refused.ready(DEADLINE_SECONDS)
        os.kill(killed.pid, signal.SIGKILL)
        with pytest.raises(StackError, match="pod ended early with signal SIGKILL"):
            await killed.ready(DEADLINE_SECONDS)

    with_one(test)


def test_one_that_does_not_heed_sigterm_can_be_killed(tmp_path):
    async def test(preloaded):
        part = a_pod(preloaded, tmp_path / "log")
        await part.start()
        os.kill(part.pid, signal.SIGSTOP)
        part._process.kill()
        assert await part.exited == -signal.SIGKILL
        part._process.kill()  # there is nobody to hear it

    with_one(test)


def test_each_kind_of_stand_in_can_be_started(tmp_path):
    async def test(preloaded):
        with (tmp_path / "log").open("wb") as log:
            command = [sys.executable, "-m", ENDPOINT_PICKER, "--port=0", "--endpoint", "nowhere"]
            child = await preloaded.run(command, log, log)
            assert await child.wait() == 2
        assert "nowhere" in (tmp_path / "log").read_text()

    with_one(test)


def test_it_takes_what_is_left_with_it(tmp_path):
    async def run():
        preloaded = Preloaded()
        part = a_pod(preloaded, tmp_path / "log")
        await part.start()
        await part.ready(DEADLINE_SECONDS)
        await preloaded.stop()
        assert await part.exited == -signal.SIGKILL
        assert not in_use(part.port)

    asyncio.run(run())


def test_if_it_is_killed_its_children_are_and_the_next_one_starts_another(tmp_path):
    async def test(preloaded):
        first, second = a_pod(preloaded, tmp_path / "first"), a_pod(preloaded, tmp_path / "second")
        await first.start()
        await first.ready(DEADLINE_SECONDS)
        os.kill(preloaded._process.pid, signal.SIGKILL)
        assert await first.exited == -signal.SIGKILL
        await until(lambda: not in_use(first.port))
        await second.start()
        await second.ready(DEADLINE_SECONDS)

    with_one(test)


def test_if_it_can_not_start_the_stack_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")

    async def test(preloaded):
        with pytest.raises(StackError, match="the process that starts the stand-ins has ended"):
            await a_pod(preloaded, tmp_path / "log").start()

    with_one(test)


def test_a_stack_that_is_killed_leaves_nobody():
    (port,) = free_ports(["pod"]).values()
    command = [sys.executable, "-m", MODEL_SERVER, "--pod=p", f"--port={port}", *POD]
    program = (
        "import asyncio, sys\n"
        "from deploy.local.preloaded import Preloaded\n"
        "async def run():\n"
        "    preloaded = Preloaded()\n"
        f"    await preloaded.run({command!r}, sys.stderr, sys.stderr)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(run())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as process:
        try:
            asyncio.run(until(lambda: in_use(port)))
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=DEADLINE_SECONDS) as reply:
                assert reply.status == 200
        finally:
            process.kill()
    asyncio.run(until(lambda: not in_use(port)))
