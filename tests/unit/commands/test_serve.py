import logging
import re
import signal

import pytest

import bbr.server
import bbr.telemetry.logs
import bbr.tls.apart
from bbr import cli
from bbr.commands.exits import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from bbr.server import StartError
from tests.support.commands import failure


def test_help_of_serve_tells_of_variables_and_exit_status(capsys):
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    out = capsys.readouterr().out
    assert "BBR_GRPC_PORT=9004" in out
    statuses = re.findall(r"^  (\d+) ", out.partition("Exit status:")[2], flags=re.MULTILINE)
    assert [int(each) for each in statuses] == [EXIT_OK, EXIT_FAILED, EXIT_USAGE, 128 + signal.SIGINT]


def test_a_start_that_fails_is_one_sentence_and_exit_status_1(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    monkeypatch.setattr(bbr.telemetry.logs, "set_up", lambda _level, _form: "text")
    code, sentence = failure(capsys, "serve", "--secure-serving=false", f"--models={tmp_path / 'none'}")
    assert code == 1
    assert sentence == f"bbr serve: --models: {tmp_path / 'none'}: No such file or directory.\n"


class Stub:
    def __init__(self, _settings, pem):
        type(self).pem = pem

    async def run(self):
        if self.error:
            raise self.error


ENDINGS = [
    pytest.param(None, 0, "", id="stopped by a signal"),
    pytest.param(StartError("--grpc-port: taken"), 1, "bbr serve: --grpc-port: taken.\n", id="could not start"),
]


@pytest.mark.parametrize(("error", "code", "sentence"), ENDINGS)
def test_exit_status(capsys, monkeypatch, error, code, sentence):
    monkeypatch.setattr(Stub, "error", error, raising=False)
    monkeypatch.setattr(bbr.server, "Server", Stub)
    monkeypatch.setattr(bbr.telemetry.logs, "set_up", lambda _level, _form: "text")
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    assert cli.main(["serve", "--secure-serving=false"]) == code
    assert capsys.readouterr() == ("", sentence)
    assert Stub.pem is None


def test_what_makes_the_certificate_is_started_for_tls_alone(monkeypatch):
    class Started:
        pass

    monkeypatch.setattr(Stub, "error", None, raising=False)
    monkeypatch.setattr(bbr.server, "Server", Stub)
    monkeypatch.setattr(bbr.tls.apart, "Started", Started)
    monkeypatch.setattr(bbr.telemetry.logs, "set_up", lambda _level, _form: "text")
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    assert cli.main(["serve"]) == 0
    assert isinstance(Stub.pem, Started)


def test_what_was_made_of_the_flags_is_logged_once_there_is_a_log(monkeypatch, caplog):
    monkeypatch.setattr(Stub, "error", None, raising=False)
    monkeypatch.setattr(bbr.server, "Server", Stub)
    levels = []
    monkeypatch.setattr(bbr.telemetry.logs, "set_up", lambda level, _form: levels.append(level) or "text")
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    caplog.set_level(logging.INFO)
    assert cli.main(["--streaming", "--foo=%s", "--v=4", "--secure-serving=false", "--models=m"]) == 0
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "bbr.commands.serve"]
    assert told == [
        ("INFO", "started without a command, as the Go routers are: this is `bbr serve`"),
        ("WARNING", "--foo: unknown flag: ignored"),
    ]
    assert levels == ["debug"]
