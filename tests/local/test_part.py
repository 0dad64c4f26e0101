import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import part
from deploy.local.part import GUARD, Part, StackError
from deploy.local.topology import free_ports, in_use
from tests.support.stack import until


async def never() -> bool:
    return False


async def at_once() -> bool:
    return True


def python(name: str, program: str, log: Path, probe=never) -> Part:
    return Part(name, [sys.executable, "-c", program], probe, log)


def run_ready(one: Part, timeout_seconds: float = 20.0) -> None:
    async def run() -> None:
        await one.start()
        try:
            await one.ready(timeout_seconds)
        finally:
            await one.stop()

    asyncio.run(run())


def test_early_death_names_the_part_its_exit_code_and_its_last_words(tmp_path):
    program = "import sys; [print('line', n) for n in range(50)]; print('boom', file=sys.stderr); sys.exit(3)"
    with pytest.raises(StackError) as error:
        run_ready(python("router", program, tmp_path / "router.log"))
    said = str(error.value)
    assert said.startswith(f"router ended early with exit code 3. The end of {tmp_path / 'router.log'}:\n")
    assert "\n  | boom" in said
    assert "line 0\n" not in said


def test_silent_early_death(tmp_path):
    with pytest.raises(StackError, match=r"ended early with exit code 0\. It wrote nothing to .*quiet.log"):
        run_ready(python("quiet", "", tmp_path / "quiet.log"))


def test_death_by_signal(tmp_path):
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(StackError, match="victim ended early with signal SIGKILL"):
        run_ready(python("victim", program, tmp_path / "log"))


def test_program_that_does_not_exist(tmp_path):
    with pytest.raises(StackError, match="cannot run /nonexistent/envoy: No such file or directory"):
        run_ready(Part("gateway", ["/nonexistent/envoy"], never, tmp_path / "log"))


def test_not_ready_in_time(tmp_path):
    with pytest.raises(StackError, match=r"slow was not ready after 0\.1 s"):
        run_ready(python("slow", "import signal; signal.pause()", tmp_path / "log"), timeout_seconds=0.1)


def test_ready_as_soon_as_the_probe_says_so(tmp_path):
    one = python("quick", "import signal; signal.pause()", tmp_path / "log", at_once)
    assert not one.is_ready
    run_ready(one)
    assert one.is_ready


def test_part_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(part, "STOP_SECONDS", 0.1)
    program = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    log = tmp_path / "log"

    async def deaf() -> bool:
        return "deaf" in log.read_text()

    one = python("stubborn", program, log, deaf)
    run_ready(one)
    assert one.exited.result() == -9


def test_part_that_was_not_started_can_be_stopped(tmp_path):
    asyncio.run(python("idle", "", tmp_path / "log").stop())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_part_ends_with_a_parent_that_was_killed():
    (port,) = free_ports(["part"]).values()
    child = f"import signal, socket; s = socket.create_server(('127.0.0.1', {port})); signal.pause()"
    command = ["-I", "-S", str(GUARD), "str(os.getpid())", sys.executable, "-c", child]
    listed = ", ".join(word if word.startswith("str(") else repr(word) for word in command)
    parent = f"import os, subprocess, sys; subprocess.Popen([sys.executable, {listed}]).wait()"
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        try:
            asyncio.run(until(lambda: in_use(port)))
        finally:
            process.kill()
    asyncio.run(until(lambda: not in_use(port)))
