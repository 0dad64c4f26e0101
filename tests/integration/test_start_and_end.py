"""How `bbr serve` starts and ends when what is around it is not as it should be."""

import asyncio
import errno
import os
import re
import signal

import pytest

from bbr import server
from bbr.server import StartError
from bench.harness.fake_kubernetes import FakeKubernetes
from bench.harness.processes import bbr, serving
from tests.support.loops import in_loop

HELD = "tests.support.held_files"


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: qwen}]", encoding="utf-8")
    return path


@pytest.fixture
def hold(models):
    """A FIFO: whoever opens it has the router in the middle of reading its models, until it is closed."""
    return models.with_name(f"{models.name}.hold")


def test_sighup_ends_no_router_that_is_starting(models, hold):
    models.write_text("models: [{nam: gemma}]", encoding="utf-8")
    os.mkfifo(hold)
    with bbr(f"--models={models}", module=HELD) as process:
        with hold.open("w"):
            process.signal(signal.SIGHUP)
        assert process.wait() == 1
        assert "an entry of models has the unknown key nam" in process.stderr


def test_a_file_system_that_hangs_does_not_hold_up_the_end(models, hold):
    with serving(f"--models={models}", "--drain-seconds=1", module=HELD) as process:
        os.mkfifo(hold)
        process.signal(signal.SIGHUP)
        with hold.open("w"):
            assert process.stop() == 0


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (errno.EADDRINUSE, "another process listens on this port"),
        (errno.EADDRNOTAVAIL, "the address is not one of this machine's"),
        (errno.EACCES, "permission denied"),
        (errno.EMFILE, "too many open files"),
    ],
)
@in_loop
async def test_a_port_that_can_not_be_had_says_why(error, why):
    class Taken:
        async def start(self, _address, _port):
            raise OSError("can't listen on [::]:9004") from OSError(error, "words of the event loop's")

    with pytest.raises(StartError, match=re.escape(f"--grpc-port: can't listen on [::]:9004: {why}")):
        await server._listen(Taken(), None, 9004, "--grpc-port")


@in_loop
async def test_a_guard_of_no_port_is_told(tmp_path):
    async with FakeKubernetes() as cluster:
        flags = ["--kubernetes", f"--kubeconfig={cluster.kubeconfig(tmp_path)}", "--metrics-endpoint-auth"]

        def told():
            with serving(*flags, "--metrics-port=0") as process:
                return process.wait_for("--metrics-endpoint-auth has no effect: --metrics-port=0 turns metrics off")

        assert await asyncio.to_thread(told)
