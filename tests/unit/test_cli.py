import builtins
import re
import runpy
import shlex
import tomllib
from pathlib import Path

import pytest

from bbr import cli
from bbr.config import settings as config
from tests.support.commands import failure


@pytest.fixture
def served(monkeypatch):
    """Let `bbr serve` end at once, and collect the settings that it would have served with."""
    found = []
    monkeypatch.setattr("bbr.commands.serve.run", lambda arguments: found.append(arguments.settings()) or 0)
    for name in config.OPTIONS:
        monkeypatch.delenv(config.variable_of(name), raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return found


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    assert exit_.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(
        re.search(f"^    {name}\\s", out, re.MULTILINE) and entry.summary in " ".join(out.split())
        for name, entry in cli.COMMANDS.items()
    )
    assert "--version" in out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_brings_what_its_help_says(capsys, command):
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    assert exit_.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    module = cli._module(command)
    assert out.startswith(f"usage: bbr {command} {module.ARGUMENTS} {' '.join(module.DESCRIPTION.split())}")
    assert "xit status" in out
    assert out.endswith(" ".join(module.EPILOG.split()))


@pytest.mark.parametrize(("words", "start"), [(["help"], "usage: bbr ["), (["help", "check"], "usage: bbr check ")])
def test_help_is_a_word_too(capsys, words, start):
    with pytest.raises(SystemExit) as exit_:
        cli.main(words)
    assert exit_.value.code == 0
    assert capsys.readouterr().out.startswith(start)


MISUSES = {
    "help for an unknown command": (["help", "chekc"], "bbr: 'chekc' is not a command (did you mean check?). See", ""),
    "no command": ([], "bbr: name a command: serve, models, explain, ", "version. See `bbr --help`.\n"),
    "an unknown command": (["run"], "bbr: ", "'run'"),
    "an unknown flag": (
        ["serve", "--listen=7"],
        "bbr serve: --listen=7 is not a flag of `bbr serve`; ",
        "`bbr serve --help`.\n",
    ),
    "a part of flags": (
        ["serve", "--port=7"],
        "bbr serve: --port=7 is not a flag of `bbr serve` (did you mean --grpc-port, --grpc-health-port or ",
        "--metrics-port?); see `bbr serve --help`.\n",
    ),
    "no file": (["check"], "bbr check: give FILE|DIR. See `bbr check --help`.\n", ""),
    "no shell": (["completion"], "bbr completion: give bash|zsh|fish. See `bbr completion --help`.\n", ""),
    "an abbreviated flag": (["serve", "--grpc-p=7"], "bbr serve: --grpc-p=7 is not a flag of `bbr serve`", ""),
    "a mistyped command": (["chekc"], "bbr: 'chekc' is not a command (did you mean check?). See `bbr --help`.\n", ""),
    "a mistyped flag": (
        ["serve", "--grpc-prot=7"],
        "bbr serve: --grpc-prot=7 is not a flag of `bbr serve` (did you mean --grpc-port?); see `bbr serve --help`.\n",
        "",
    ),
    "a mistyped flag of a command with few": (["check", "--max-model-len", "x"], "bbr check: --max-model-len is", ""),
    "a stray argument": (["serve", "now"], "bbr serve: 'now' is one argument too many; see `bbr serve --help`.\n", ""),
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


SPELLINGS = [
    pytest.param(["--grpc-port=7"], "grpc_port", 7, id="--x=v"),
    pytest.param(["--grpc-port", "7"], "grpc_port", 7, id="--x v"),
    pytest.param(["--grpc-port=6", "--grpc-port=7"], "grpc_port", 7, id="the last wins"),
    pytest.param(["--tracing"], "tracing", True, id="a bare bool"),
    pytest.param(["--tracing=false"], "tracing", False, id="--bool=false"),
    pytest.param(["--serve-models-list", "false"], "serve_models_list", 0, id="--bool false"),
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
    values |= {"on_invalid_json": "pass-stripped", "body_idle_seconds": "3", "body_min_rate": "1KiB"}
    values |= {
        "alias_rewrite": "off",
        "forward_decoded": "true",
        "alias_sticky_header": "x-session-id",
        "client_steering": "priority",
        "strip_header": "x-a,x-b",
        "trust_client_headers": "true",
    }
    values |= {"max_buffered_bytes": "1GiB"}
    values |= {"busy_poll": "0.5", "metrics_port": "7", "tracing": "true", "drain_delay_seconds": "9"}
    values |= {"over_limit": "pass", "query_model_path": "none", "path_template": "/model/{model}/invoke"}
    values |= {"unknown_model": "empty", "missing_model": "reject", "default_model": "qwen", "include_path": "/a,/b"}
    values |= {"exclude_path": "/c", "serve_models_list": "1KiB"}
    values |= {"tls_cert": "tls.crt", "tls_key": "tls.key", "max_connections": "9", "max_connection_age": "9"}
    values |= {"kubernetes": "true", "namespace": "ours", "kubeconfig": "config", "sync_timeout": "9"}
    values |= {"discover_routes": "true", "metrics_endpoint_auth": "true", "compat": "gie"}
    values |= {"discover_adapters": "true", "discover_interval": "9", "discover_token_file": "token"}
    values |= {"discover_ca": "ca.crt", "discover_server_name": "vllm"}
    values |= {"scope": "header:x-tenant", "asker": "header:x-team", "genai_metrics": "true", "url_model": "wins"}
    values |= {"model_header": "x-a,x-b", "base_model_header": "none"}
    values |= {"tls_client_ca": "ca.crt", "tls_client_san": "a.example,spiffe://b/*"}
    values |= {"log_level": "debug", "log_format": "json", "access_log": "0.5"}
    values |= {"access_log_rate": "7", "body_field": "user=x-user:sha256,stream=x-stream"}
    of_a_cluster = ("namespace", "kubeconfig", "discover_routes", "discover_adapters", "metrics_endpoint_auth")
    of_servers = ("discover_token_file", "discover_ca", "discover_server_name")
    if name in (*of_a_cluster, *of_servers):
        monkeypatch.setenv("BBR_KUBERNETES", "true")
    if name in of_servers:
        monkeypatch.setenv("BBR_DISCOVER_ADAPTERS", "true")
    if name == "discover_server_name":
        monkeypatch.setenv("BBR_DISCOVER_CA", "system")
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


def test_what_nobody_could_see_in_an_error_is_spelled_out(capsys):
    status, sentence = failure(capsys, "models", "--mo\u200bdels=x")
    assert status == 2
    assert sentence.startswith("bbr models: --mo\\u200bdels=x is not a flag of `bbr models` (did you mean --models?); ")
    assert failure(capsys, "mo\u200bdels")[1].startswith("bbr: 'mo\\u200bdels' is not a command (did you mean models?)")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_examples_of_a_help_are_command_lines_of_ours(command):
    module = cli._module(command)
    examples = re.findall(r"^  (bbr .*)$", module.EPILOG, re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(example.split(" > ")[0])
        assert words[:2] == ["bbr", command]
        cli.parser([command]).parse_args(words[1:])


def test_a_mistyped_variable_is_told_whatever_becomes_of_the_command(capsys, monkeypatch, tmp_path):
    told = "is not a variable of bbr (did you mean BBR_MAX_MODEL_LENGTH?); it has no effect.\n"
    monkeypatch.setenv("BBR_MAX_MODEL_LENGHT", "9")
    monkeypatch.setenv("BBR_SERVICE_HOST", "10.0.0.1")
    models = tmp_path / "models.yaml"
    models.write_text("models: [{name: qwen}]")
    assert cli.main(["check", str(models)]) == 0
    assert capsys.readouterr().err == f"bbr check: BBR_MAX_MODEL_LENGHT {told}"
    assert cli.main(["check", "--max-model-length=x", str(models)]) == 2
    assert f"bbr check: BBR_MAX_MODEL_LENGHT {told}" in capsys.readouterr().err


@pytest.mark.parametrize("version", [(3, 11, 2), (3, 11, 4)])
def test_a_python_that_matches_too_much_is_refused(monkeypatch, capsys, version):
    monkeypatch.setattr("sys.version_info", version)
    assert cli.main(["version"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "it needs Python 3.11.5 or later; " in err
    assert f" of Python {'.'.join(map(str, version))} " in err


def test_pip_and_make_refuse_the_same_pythons():
    root = Path(__file__).parents[2]
    oldest = ".".join(map(str, cli.OLDEST_PYTHON))
    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"] == f">={oldest}"
    assert f"OLDEST = {cli.OLDEST_PYTHON}" in (root / "deploy/environment.py").read_text()


def test_this_python_lets_no_possessive_group_take_what_does_not_match():
    assert re.match(rb"(?:ab?c)*+", b"aca").end() == 2


def test_python_m_bbr_is_the_command(monkeypatch):
    monkeypatch.setattr(cli, "main", lambda: 3)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("bbr", run_name="__main__")
    assert ended.value.code == 3


def test_python_m_bbr_without_its_dependencies_says_how_to_install_them(monkeypatch):
    lack(monkeypatch, "orjson")
    with pytest.raises(
        SystemExit, match=r"(?s)dependencies are not installed .* no module named orjson\..*pip install"
    ):
        runpy.run_module("bbr", run_name="__main__")


def test_a_module_of_its_own_that_is_missing_is_a_fault(monkeypatch):
    lack(monkeypatch, "bbr.cli")
    with pytest.raises(ModuleNotFoundError):
        runpy.run_module("bbr", run_name="__main__")


def lack(monkeypatch, module):
    """Let the import of the command fail for want of a module."""
    real = builtins.__import__

    def load(name, *others, **named):
        if name == "bbr.cli":
            raise ModuleNotFoundError(name=module)
        return real(name, *others, **named)

    monkeypatch.setattr(builtins, "__import__", load)
