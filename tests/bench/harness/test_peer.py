import argparse
import os
import subprocess
import sys

import pytest

from bench.harness import machine, peer


def read(*arguments):
    parser = argparse.ArgumentParser()
    peer.add_arguments(parser)
    return peer.peers(parser, parser.parse_args(arguments))


@pytest.fixture
def process():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as found:
        yield found
        found.communicate(b"\n")


def test_none():
    assert read() == []


def test_peers_are_named_and_pinned(process):
    pid = str(process.pid)
    given = ["--peer=127.0.0.1:9004", "--peer-pid", pid, "--peer=localhost:65535", "--peer-pid", pid]
    assert read(*given) == [peer.Peer("peer", 9004, process.pid), peer.Peer("peer", 65535, process.pid)]
    assert os.sched_getaffinity(process.pid) == {machine.SERVER_CPU}
    assert [each.name for each in read(*given, "--peer-name=Go", "--peer-name=Rust")] == ["Go", "Rust"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--peer=127.0.0.1:9004"], "each --peer needs a --peer-pid"),
        (["--peer=127.0.0.1:9004", "--peer-pid=1", "--peer-name=a", "--peer-name=b"], "each --peer needs"),
        (["--peer=192.0.2.1:9004", "--peer-pid=1"], "'192.0.2.1:9004' is not [tls:]127.0.0.1:PORT"),
        (["--peer=127.0.0.1", "--peer-pid=1"], "'127.0.0.1' is not [tls:]127.0.0.1:PORT"),
        (["--peer=127.0.0.1:65536", "--peer-pid=1"], "'127.0.0.1:65536' is not [tls:]127.0.0.1:PORT"),
        (["--peer=127.0.0.1:9004", "--peer-pid=99999999"], "there is no such process"),
    ],
)
def test_what_is_no_peer_is_refused_with_a_reason(arguments, reason, capsys):
    with pytest.raises(SystemExit) as ended:
        read(*arguments)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
