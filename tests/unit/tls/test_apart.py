import datetime
import io
import pickle
import subprocess
import sys

import pytest

from bbr.system import child
from bbr.tls import apart
from bbr.tls.credentials import CredentialsError

NOW = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)
# As in a router, without what the tests' own helpers load. Who lets clients in by name reads names in each handshake,
# and so loads at start what that takes.
IN_A_ROUTER = """
import datetime, sys
from bbr.tls.certificates import Certificates
found = Certificates()
assert found.credentials.self_signed
assert "cryptography" not in sys.modules
from bbr.tls.client_names import AllowedName
from bbr.tls.credentials import Clients
Clients(b"", (AllowedName("gateway.example"),))
assert "cryptography" in sys.modules
"""


def test_another_process_does_it_and_the_router_never_loads_what_it_takes():
    # It finds bbr where this process does: it may not be installed, and `-c` puts "" for a working directory.
    _, environment = child.python("")
    subprocess.run([sys.executable, "-c", IN_A_ROUTER], env=environment, check=True)


def test_its_errors_are_the_callers(tmp_path):
    with pytest.raises(CredentialsError, match=r"^--tls-client-ca: .*/none: No such file or directory$"):
        apart.call("load_authorities", tmp_path / "none")


def test_a_process_that_was_started_before_answers_the_first_call(monkeypatch):
    pem = apart.Started()
    # The next process would say nothing.
    started = []
    monkeypatch.setattr(apart, "_start", lambda: started.append(1))
    assert pem("self_signed", ["localhost"], NOW).self_signed
    assert not started
    assert pem("self_signed", ["localhost"], NOW).self_signed
    assert started == [1]


@pytest.mark.parametrize("started", [False, True], ids=["with the call", "before"])
@pytest.mark.parametrize("how", ["no process", "killed", "says nothing", "says something else"])
def test_without_a_process_it_is_done_here(tmp_path, monkeypatch, how, started):
    commands = {
        "no process": [str(tmp_path / "none")],
        "killed": [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"],
        "says nothing": [sys.executable, "-c", ""],
        "says something else": [sys.executable, "-c", "print('no pickle')"],
    }
    monkeypatch.setattr(apart.child, "python", lambda _module: (commands[how], None))
    call = apart.Started() if started else apart.call
    assert call("self_signed", ["localhost"], NOW).not_before == NOW - datetime.timedelta(hours=1)
    with pytest.raises(CredentialsError):
        call("load_authorities", tmp_path / "none")


@pytest.mark.parametrize("started", [False, True], ids=["with the call", "before"])
@pytest.mark.parametrize("reads", [False, True], ids=["reads nothing", "reads"])
def test_a_process_that_hangs_is_ended_and_it_is_done_here(monkeypatch, started, reads):
    begun, real = [], subprocess.Popen

    def popen(*arguments, **options):
        begun.append(real(*arguments, **options))
        return begun[-1]

    code = f"import sys, threading; {'sys.stdin.read(); ' if reads else ''}threading.Event().wait()"
    monkeypatch.setattr(apart.child, "python", lambda _module: ([sys.executable, "-c", code], None))
    monkeypatch.setattr(apart, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(apart.subprocess, "Popen", popen)
    call = apart.Started() if started else apart.call
    # More than a pipe has room for.
    names = ["localhost", *(f"a{number}.example" for number in range(10_000))]
    assert call("self_signed", names, NOW).self_signed
    assert [each.returncode for each in begun] == [-9]


@pytest.mark.parametrize(
    ("function", "files"), [("load", ["tls.crt", "tls.key"]), ("load_authorities", ["ca.crt"])], ids=["own", "clients'"]
)
def test_files_that_are_not_read_in_time_are_an_error(tmp_path, monkeypatch, function, files):
    code = "import sys, threading; sys.stdin.read(); threading.Event().wait()"
    monkeypatch.setattr(apart.child, "python", lambda _module: ([sys.executable, "-c", code], None))
    monkeypatch.setattr(apart, "ANSWER_SECONDS", 0.2)
    paths = [tmp_path / name for name in files]
    with pytest.raises(CredentialsError) as raised:  # and not that they do not exist: nobody looked for them here
        apart.call(function, *paths)
    assert str(raised.value) == f"{', '.join(map(str, paths))}: not read within 0.2 s"


def test_the_other_process_answers_on_stdout(monkeypatch):
    class Pipe:
        def __init__(self, octets: bytes = b"") -> None:
            self.buffer = io.BytesIO(octets)

    answers = Pipe()
    monkeypatch.setattr(sys, "stdin", Pipe(pickle.dumps(("self_signed", (["localhost"], NOW)))))
    monkeypatch.setattr(sys, "stdout", answers)
    apart.main()
    made = pickle.loads(answers.buffer.getvalue())  # noqa: S301 (our own)
    assert made.self_signed
    assert made.not_before == NOW - datetime.timedelta(hours=1)
