import io
import json
import logging
import os
import re
import signal
import subprocess
import sys

import pytest

import bbr.commands.doctor.diagnose
import bbr.commands.explain
import bbr.commands.probe.probe
import bbr.server
import bbr.sources.file
import bbr.telemetry.logs
from bbr import __version__, cli
from bbr.commands.probe.client import Address, Tls
from bbr.commands.probe.probe import Asked, Report
from bbr.config import settings as config
from bbr.server import StartError

COMMANDS = [
    pytest.param([sys.executable, "-W", "error", "-m", "bbr"], id="python -m bbr"),
    pytest.param([os.path.join(os.path.dirname(sys.executable), "bbr")], id="bbr"),
]


def run(command, *arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BBR_")} | variables
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def served(monkeypatch):
    """Let `bbr serve` end at once, and collect the settings that it would have served with."""
    found = []
    monkeypatch.setattr(cli, "_serve", lambda settings, _notes: found.append(settings) or 0)
    for name in config.OPTIONS:
        monkeypatch.delenv(config.variable_of(name), raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return found


def failure(capsys, *arguments):
    """Return the exit status and the one sentence on stderr of a command line that fails."""
    try:
        code = cli.main(arguments)
    except SystemExit as exit_:  # argparse's own complaints
        code = exit_.code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.endswith(".\n")
    assert not err.endswith("..\n")
    return code, err


@pytest.mark.parametrize("command", COMMANDS)
def test_version(command):
    done = run(command, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"bbr {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_usage_error_in_a_process(command):
    done = run(command, "serve", BBR_GRPC_PORT="nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bbr serve: BBR_GRPC_PORT: 'nonsense' is not a port (1 to 65535).\n"


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    assert exit_.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "serve" in out
    assert "--version" in out


def test_help_of_serve_tells_of_variables_and_exit_status(capsys):
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    out = capsys.readouterr().out
    assert "BBR_GRPC_PORT=9004" in out
    statuses = re.findall(r"^  (\d+) ", out.partition("Exit status:")[2], flags=re.MULTILINE)
    assert [int(each) for each in statuses] == [cli.EXIT_OK, cli.EXIT_FAILED, cli.EXIT_USAGE, 128 + signal.SIGINT]


SPELLINGS = [
    pytest.param(["--grpc-port=7"], "grpc_port", 7, id="--x=v"),
    pytest.param(["--grpc-port", "7"], "grpc_port", 7, id="--x v"),
    pytest.param(["--grpc-port=6", "--grpc-port=7"], "grpc_port", 7, id="the last wins"),
    pytest.param(["--tracing"], "tracing", True, id="a bare bool"),
    pytest.param(["--tracing=false"], "tracing", False, id="--bool=false"),
    pytest.param(["--serve-models-list", "false"], "serve_models_list", False, id="--bool false"),
    pytest.param(["--tracing", "--grpc-port=7"], "tracing", True, id="a bare bool before a flag"),
    pytest.param([], "tracing", False, id="a bool left out"),
    pytest.param(
        ["--strip-header=x-a", "--strip-header", "x-b,x-c"], "strip_header", ("x-a", "x-b", "x-c"), id="a list"
    ),
    pytest.param(["--max-body-bytes=1MiB"], "max_body_bytes", 1 << 20, id="a size"),
]


@pytest.mark.parametrize(("arguments", "name", "value"), SPELLINGS)
def test_spelling(served, arguments, name, value):
    assert cli.main(["serve", "--secure-serving=false", *arguments]) == 0
    assert getattr(served[0], name) == value


@pytest.mark.parametrize("name", config.OPTIONS)
def test_every_setting_is_a_flag_and_a_variable(served, monkeypatch, name):
    values = {"transport": "grpcio", "bind_address": "::1", "secure_serving": "false", "models": "m.yaml"}
    values |= {"grpc_port": "7", "grpc_health_port": "7", "assume_body_mode": "buffered"}
    values |= {"max_body_bytes": "1KiB", "drain_seconds": "3", "max_model_length": "9", "dynamic_metadata": "bbr"}
    values |= {"on_invalid_json": "pass-stripped", "body_idle_seconds": "3"}
    values |= {"strip_header": "x-a,x-b", "trust_client_headers": "true"}
    values |= {"single_reply_bytes": "1KiB", "stream_threshold_bytes": "1KiB", "max_buffered_bytes": "1GiB"}
    values |= {"busy_poll": "0.5", "metrics_port": "7", "tracing": "true", "drain_delay_seconds": "9"}
    values |= {"over_limit": "pass", "query_model_path": "none", "path_template": "/model/{model}/invoke"}
    values |= {"unknown_model": "empty", "missing_model": "reject", "default_model": "qwen", "include_path": "/a,/b"}
    values |= {"exclude_path": "/c", "serve_models_list": "true", "models_list_max_bytes": "1KiB"}
    values |= {"tls_cert": "tls.crt", "tls_key": "tls.key", "max_connections": "9", "max_connection_age": "9"}
    values |= {"kubernetes": "true", "namespace": "ours", "kubeconfig": "config", "sync_timeout": "9"}
    values |= {"discover_routes": "true", "metrics_endpoint_auth": "true", "compat": "gie"}
    values |= {"model_header": "x-a,x-b", "base_model_header": "none"}
    values |= {"tls_client_ca": "ca.crt", "tls_client_san": "a.example,spiffe://b/*"}
    values |= {"log_level": "debug", "log_format": "json", "access_log": "0.5"}
    values |= {"access_log_rate": "7"}
    if name in ("namespace", "kubeconfig", "discover_routes", "metrics_endpoint_auth"):
        monkeypatch.setenv("BBR_KUBERNETES", "true")
    for partner in {"tls_cert", "tls_key"} - {name}:
        if name in ("tls_cert", "tls_key"):
            monkeypatch.setenv(config.variable_of(partner), values[partner])
    if name == "tls_client_san":
        monkeypatch.setenv("BBR_TLS_CLIENT_CA", "ca.crt")
    assert cli.main(["serve", config.flag_of(name), values[name]]) == 0
    monkeypatch.setenv(config.variable_of(name), values[name])
    assert cli.main(["serve"]) == 0
    assert served[0] == served[1]
    if name not in ("transport", "secure_serving"):
        assert getattr(served[0], name) != getattr(config.Settings(), name)


def test_a_flag_wins_over_its_variable(served, monkeypatch):
    monkeypatch.setenv("BBR_GRPC_PORT", "8")
    cli.main(["serve", "--secure-serving=false", "--grpc-port=7"])
    assert served[0].grpc_port == 7


MISUSES = {
    "no command": ([], "bbr: ", "required: COMMAND. See `bbr --help`.\n"),
    "an unknown command": (["run"], "bbr: ", "'run'"),
    "an unknown flag": (
        ["serve", "--port=7"],
        "bbr serve: --port=7 is not a flag of `bbr serve`",
        "`bbr serve --help`.\n",
    ),
    "an abbreviated flag": (["serve", "--grpc-p=7"], "bbr serve: --grpc-p=7 is not a flag of `bbr serve`", ""),
    "a stray argument": (["serve", "now"], "bbr serve: now is not a flag of `bbr serve`", ""),
    "a flag without its value": (["serve", "--grpc-port"], "bbr serve: ", "--grpc-port: expected one argument. See "),
    "a flag with another for a value": (["serve", "--models", "--tracing"], "bbr serve: ", "--models: expected one"),
    "an unusable value": (["serve", "--grpc-port=0"], "bbr serve: --grpc-port: '0' is not a port (1 to 65535).\n", ""),
    "a negative number": (["serve", "--grpc-port", "-1"], "bbr serve: --grpc-port: '-1' is not a port", ""),
    "an empty value": (["serve", "--models="], "bbr serve: --models: '' is not the name of a file.\n", ""),
    "a word after a bare bool": (["serve", "--tracing", "now"], "bbr serve: --tracing: 'now' is neither", ""),
    "ports that collide": (
        ["serve", "--grpc-port=9005"],
        "bbr serve: --grpc-port and --grpc-health-port are both 9005",
        "",
    ),
    "a removed flag": (
        ["serve", "--duplex-idle-seconds=9"],
        "bbr serve: --duplex-idle-seconds was removed: use --bo",
        "",
    ),
    "a removed flag of another command": (
        ["models", "--v=9"],
        "bbr models: --v is a flag of the Go routers, which",
        "",
    ),
    "half of TLS": (["serve", "--tls-key=tls.key"], "bbr serve: --tls-key needs --tls-cert as well", ""),
}


@pytest.mark.parametrize(("arguments", "start", "part"), MISUSES.values(), ids=MISUSES)
def test_misuse_is_one_sentence_and_exit_status_2(served, capsys, arguments, start, part):
    code, sentence = failure(capsys, *arguments)
    assert code == 2
    assert sentence.startswith(start)
    assert part in sentence
    assert served == []


def test_a_start_that_fails_is_one_sentence_and_exit_status_1(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    monkeypatch.setattr(bbr.telemetry.logs, "set_up", lambda _level, _form: "text")
    code, sentence = failure(capsys, "serve", "--secure-serving=false", f"--models={tmp_path / 'none'}")
    assert code == 1
    assert sentence == f"bbr serve: --models: {tmp_path / 'none'}: No such file or directory.\n"


@pytest.fixture
def models(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: qwen, adapters: [sql]}]", encoding="utf-8")
    return path


def test_models_prints_the_table(capsys, models):
    assert cli.main(["models", f"--models={models}"]) == 0
    out, err = capsys.readouterr()
    assert "1 base model and 1 adapter from" in out
    assert err == ""


def run_models(models, **streams):
    command = [sys.executable, "-m", "bbr", "models", f"--models={models}"]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=False, **streams)


def test_models_of_a_file_whose_name_is_no_text_in_any_encoding(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.yaml")).write_text("models: [{name: qwen}]")
    for encoding in ("utf-8:strict", "ascii:strict"):
        ended = run_models(tmp_path, stdout=subprocess.PIPE, env=os.environ | {"PYTHONIOENCODING": encoding})
        assert (ended.returncode, ended.stderr) == (0, "")
        assert f"file {tmp_path}/\\udcff.yaml, line 1" in ended.stdout


def test_a_reader_of_stdout_that_has_seen_enough_is_no_error(models):
    reading, writing = os.pipe()
    os.close(reading)
    ended = run_models(models, stdout=writing)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_full_disk_behind_stdout_is_one_sentence(models):
    with open("/dev/full", "w") as full:
        ended = run_models(models, stdout=full)
    assert (ended.returncode, ended.stderr) == (1, "bbr: stdout can't be written to: No space left on device.\n")


def test_models_prints_json(capsys, models, monkeypatch):
    monkeypatch.setenv("BBR_MODELS", str(models))
    assert cli.main(["models", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["models"]] == ["qwen", "sql"]


def test_models_of_a_directory_that_can_not_be_read_is_one_sentence(capsys, models, monkeypatch):
    monkeypatch.setattr(bbr.sources.file, "MAX_FILES", 0)
    assert failure(capsys, "models", f"--models={models.parent}") == (
        1,
        f"bbr models: --models: {models.parent}: the directory has 1 files; at most 0 are read.\n",
    )


BODY = b'{"model": "sql"}'


def test_explain_reads_the_body_from_a_file(capsys, models, tmp_path):
    (tmp_path / "body").write_bytes(BODY)
    assert cli.main(["explain", str(tmp_path / "body"), f"--models={models}"]) == 0
    assert capsys.readouterr().out.startswith("Routed sql: it is an adapter")


def test_explain_reads_the_body_from_stdin(capsys, models, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BODY)))
    assert cli.main(["explain", "-", f"--models={models}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["set_headers"]["X-Gateway-Base-Model-Name"] == "qwen"


ASKED = [
    pytest.param([], ("GET", "/v1/chat/completions", [], None), id="nothing"),
    pytest.param(["--path=/x", "--method=PUT"], ("PUT", "/x", [], None), id="path and method"),
    pytest.param(["BODY"], ("POST", "/v1/chat/completions", [("content-type", "application/json")], BODY), id="a body"),
    pytest.param(
        ["BODY", "--header=Content-Type: text/plain", "--header", "a:b:c"],
        ("POST", "/v1/chat/completions", [("Content-Type", "text/plain"), ("a", "b:c")], BODY),
        id="headers",
    ),
]


@pytest.mark.parametrize(("arguments", "asked"), ASKED)
def test_explain_takes_a_request(monkeypatch, tmp_path, arguments, asked):
    found = []
    monkeypatch.setattr(bbr.commands.explain, "explain", lambda *args, **_: found.append(args[1]) or ("", 0))
    (tmp_path / "body").write_bytes(BODY)
    assert cli.main(["explain", *[each.replace("BODY", str(tmp_path / "body")) for each in arguments]]) == 0
    assert found == [asked]


EXPLAIN_MISUSES = {
    "a header without a colon": (["--header=x"], "bbr explain: --header: 'x' is not NAME:VALUE.\n"),
    "a header without a name": (["--header= :x"], "bbr explain: --header: ' :x' is not NAME:VALUE.\n"),
    "a body that is not there": (["/none/such"], "bbr explain: /none/such: No such file or directory.\n"),
    "a wrong setting": (["--grpc-port=0"], "bbr explain: --grpc-port: '0' is not a port (1 to 65535).\n"),
}


@pytest.mark.parametrize(("arguments", "sentence"), EXPLAIN_MISUSES.values(), ids=EXPLAIN_MISUSES)
def test_explain_misuse_is_one_sentence(capsys, arguments, sentence):
    assert failure(capsys, "explain", *arguments) == (2, sentence)


@pytest.mark.parametrize("command", COMMANDS[:1])
def test_check_in_a_process(command, models):
    done = run(command, "check", str(models))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"1 base model and 1 adapter from {models}.\n", "")
    models.write_text("models:\n- nam: x\n", encoding="utf-8")
    done = run(command, "check", str(models))
    sentence = "line 2: an entry of models can't hold nam; known: adapters, name"
    assert (done.returncode, done.stdout, done.stderr) == (1, f"--models: {models}: {sentence}.\n", "")
    done = run(command, "check", "--grpc-port=1", str(models))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bbr check: --grpc-port=1 is not a flag of `bbr check`; see `bbr check --help`.\n"


def test_check_knows_the_longest_name(capsys, models):
    assert cli.main(["check", str(models), "--max-model-length=3"]) == 1
    assert "at most 3 are allowed" in capsys.readouterr().out


class Stub:
    def __init__(self, _settings):
        pass

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


@pytest.fixture
def dump(tmp_path):
    path = tmp_path / "config_dump.json"
    path.write_text('{"configs": []}', encoding="utf-8")
    return path


def test_doctor_reads_what_was_saved(capsys, dump):
    assert cli.main(["doctor", "--from", str(dump), "--json"]) == 1
    assert [each["id"] for each in json.loads(capsys.readouterr().out)["findings"]] == ["router-not-found"]
    assert cli.main(["doctor", f"--from={dump.parent}"]) == 1
    assert "ERROR  router-not-found  (gateway)\n" in capsys.readouterr().out


def test_doctor_takes_the_routers_settings(monkeypatch, models):
    found = []
    monkeypatch.setattr(
        bbr.commands.doctor.diagnose, "diagnose", lambda *args, **options: found.append((*args, options)) or ("", 0)
    )
    arguments = [f"--models={models}", "--max-body-bytes=1MiB", "--secure-serving=false", "--filter=x"]
    assert cli.main(["doctor", "--envoy-admin=http://a:1", *arguments]) == 0
    ((settings, options),) = found
    assert (settings.models, settings.max_body_bytes, settings.secure_serving) == (models, 1 << 20, False)
    assert options == {"url": "http://a:1", "saved": None, "router": "x", "as_json": False}


DOCTOR_FAILURES = {
    "no gateway": ([], "bbr doctor: one of the arguments --envoy-admin --from is required. See `bbr doctor --help`.\n"),
    "no URL": (
        ["--envoy-admin=localhost"],
        "bbr doctor: --envoy-admin: 'localhost' is no URL as in http://127.0.0.1:19000.\n",
    ),
    "no file": (["--from=/none/such"], "bbr doctor: /none/such: No such file or directory.\n"),
    "a wrong table": (
        ["--from=DUMP", "--models=DUMP"],
        "bbr doctor: file DUMP: line 1: the file can't hold configs; known: aliases, models",
    ),
    "a setting of serve": (
        ["--from=DUMP", "--grpc-port=1"],
        "bbr doctor: --grpc-port=1 is not a flag of `bbr doctor`; see `bbr doctor --help`.\n",
    ),
}


@pytest.mark.parametrize(("arguments", "sentence"), DOCTOR_FAILURES.values(), ids=DOCTOR_FAILURES)
def test_doctor_misuse_is_one_sentence(capsys, dump, arguments, sentence):
    status, text = failure(capsys, "doctor", *[each.replace("DUMP", str(dump)) for each in arguments])
    assert status == 2
    assert text.startswith(sentence.replace("DUMP", str(dump)))


def test_probe_asks_for_what_its_flags_say(monkeypatch, capsys):
    found = []
    monkeypatch.setattr(
        bbr.commands.probe.probe, "probe", lambda asked: found.append(asked) or Report(asked, problems=["no"])
    )
    monkeypatch.setenv("BBR_GRPC_PORT", "nonsense, but of serve's")
    flags = ["--tls", "--tls-ca=a", "--tls-cert=b", "--tls-key=c", "--server-name=d", "--health-addr=[::1]:7"]
    flags += ["--model=m", "--mode=buffered", "--timeout=2.5"]
    assert cli.main(["probe", "--addr=bbr:9004"]) == 1
    assert capsys.readouterr().out == "bbr:9004: unhealthy\n  no.\n"
    assert cli.main(["probe", "--addr=bbr:9004", "--json", *flags]) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == ["no"]
    assert cli.main(["probe", "--health-addr=bbr:9005"]) == 1
    assert found.pop() == Asked(health_address=Address("bbr", 9005))
    assert found == [
        Asked(address=Address("bbr", 9004)),
        Asked(
            address=Address("bbr", 9004),
            tls=Tls(ca="a", cert="b", key="c", server_name="d"),
            health_address=Address("::1", 7),
            model="m",
            mode="buffered",
            timeout_seconds=2.5,
        ),
    ]


PROBE_MISUSES = {
    "no address": ([], "bbr probe: --addr is missing; --health-addr alone is enough for health"),
    "TLS for health": (["--health-addr=a:1", "--tls"], "--addr is missing"),
    "a model of health": (["--health-addr=a:1", "--model=m"], "--addr is missing"),
    "no port": (["--addr=bbr"], "--addr: 'bbr' is not HOST:PORT.\n"),
    "no host": (["--addr=:9004"], "--addr: ':9004' is not HOST:PORT.\n"),
    "no such port": (["--addr=bbr:65536"], "--addr: 'bbr:65536' is not HOST:PORT.\n"),
    "bare IPv6": (["--addr=::1:9004"], "--addr: '::1:9004' is not HOST:PORT.\n"),
    "an address of health": (["--addr=a:1", "--health-addr=a"], "--health-addr: 'a' is not HOST:PORT.\n"),
    "TLS unsaid": (["--addr=a:1", "--tls-ca=x"], "--server-name need --tls.\n"),
    "half a pair": (["--addr=a:1", "--tls", "--tls-cert=x"], "--tls-cert and --tls-key belong together"),
    "no file": (["--addr=a:1", "--tls", "--tls-ca=/none"], "can't be used: No such file or directory.\n"),
    "no time": (["--addr=a:1", "--timeout=0"], "--timeout: '0' "),
    "another mode": (["--addr=a:1", "--mode=x"], "--mode: invalid choice"),
    "a flag of serve": (["--addr=a:1", "--grpc-port=1"], "--grpc-port=1 is not a flag of `bbr probe`"),
}


@pytest.mark.parametrize(("arguments", "part"), PROBE_MISUSES.values(), ids=PROBE_MISUSES)
def test_probe_misuse_is_one_sentence(capsys, arguments, part):
    code, sentence = failure(capsys, "probe", *arguments)
    assert code == 2
    assert part in sentence


def test_what_was_made_of_the_flags_is_logged_once_there_is_a_log(monkeypatch, caplog):
    monkeypatch.setattr(Stub, "error", None, raising=False)
    monkeypatch.setattr(bbr.server, "Server", Stub)
    levels = []
    monkeypatch.setattr(bbr.telemetry.logs, "set_up", lambda level, _form: levels.append(level) or "text")
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    caplog.set_level(logging.INFO)
    assert cli.main(["--streaming", "--foo=%s", "--v=4", "--secure-serving=false", "--models=m"]) == 0
    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "bbr.cli"]
    assert told == [
        ("INFO", "started without a command, as the Go routers are: this is `bbr serve`"),
        ("WARNING", "--foo: not a flag that is known here: left out"),
    ]
    assert levels == ["debug"]
