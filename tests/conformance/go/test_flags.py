"""The Go routers' own cases of their options (U8), on ours; and command lines as their charts and manifests are."""

import logging

import pytest

from bbr import cli
from bbr.config import loading
from bbr.config import settings as config
from bbr.exchange.policy import BodyMode
from bbr.models.routing import UnknownModel
from tests.conformance.go import replay

DUPLEX, BUFFERED = BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED


@pytest.fixture
def run(monkeypatch, capsys):
    """Return what a command line would serve with and log, or the exit status and the sentence on stderr."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("NAMESPACE", raising=False)
    for name in config.OPTIONS:
        monkeypatch.delenv(config.variable_of(name), raising=False)
    found = []

    def serve(arguments):
        notes = [note.text for note in arguments.notes if note.level == logging.WARNING]
        found.append((arguments.settings(), notes))
        return 0

    monkeypatch.setattr("bbr.commands.serve.run", serve)

    def run(*arguments):
        code = cli.main(arguments)
        return found.pop() if found else (code, capsys.readouterr().err)

    return run


@pytest.fixture
def pod(monkeypatch, run):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("NAMESPACE", "inference")


def test_u8_defaults(run, pod):
    settings, warnings = run()
    assert warnings == []
    assert (settings.grpc_port, settings.grpc_health_port, settings.metrics_port) == (9004, 9005, 9090)
    assert settings.secure_serving
    assert settings.assume_body_mode is BUFFERED
    assert (settings.kubernetes, settings.namespace) == (True, "inference")
    assert settings.metrics_endpoint_auth
    assert (settings.model_header, settings.base_model_header) == (
        ("X-Gateway-Model-Name",),
        ("X-Gateway-Base-Model-Name",),
    )


OVERRIDES = [
    pytest.param([f"{dash}{name}{joint}7"], field, 7, id=f"{dash}{name}{joint}7")
    for name, field in (
        ("grpc-port", "grpc_port"),
        ("grpc-health-port", "grpc_health_port"),
        ("metrics-port", "metrics_port"),
    )
    for dash, joint in (("--", "="), ("--", " "), ("-", "="), ("-", " "))
]
OVERRIDES += [
    pytest.param(["--streaming"], "assume_body_mode", DUPLEX, id="--streaming"),
    pytest.param(["--streaming=true"], "assume_body_mode", DUPLEX, id="--streaming=true"),
    pytest.param(["-streaming"], "assume_body_mode", DUPLEX, id="-streaming"),
    pytest.param(["--streaming=false"], "assume_body_mode", BUFFERED, id="--streaming=false"),
    pytest.param(["--secure-serving=false"], "secure_serving", False, id="--secure-serving=false"),
    pytest.param(["--v=5"], "access_log", "all", id="--v=5"),
    pytest.param(["-v 4"], "log_level", "debug", id="-v 4"),
    pytest.param(["-v=4"], "access_log", "errors", id="-v=4"),
    pytest.param(["--v=-3"], "log_level", "info", id="a negative verbosity"),
    pytest.param(["--compat=gie"], "unknown_model", UnknownModel.EMPTY, id="--compat=gie"),
]


@pytest.mark.parametrize("command", [[], ["serve"]], ids=["bare", "serve"])
@pytest.mark.parametrize(("arguments", "field", "value"), OVERRIDES)
def test_u8_overrides(run, command, arguments, field, value):
    words = [word for argument in arguments for word in argument.split()]
    settings, warnings = run(*command, *words)
    assert (getattr(settings, field), warnings) == (value, [])


PORTS = [
    pytest.param(f"--{name}={port}", f"--{name}: '{port}' is not a port (1 to 65535)", id=f"{name}={port}")
    for name in ("grpc-port", "grpc-health-port", "metrics-port")
    for port in ("0", "-1", "65536", "http")
    if (name, port) != ("metrics-port", "0")  # there it means none, as in controller-runtime
]
PORTS += [
    pytest.param("--grpc-port=9005", "--grpc-port and --grpc-health-port are both 9005: they must differ", id="health"),
    pytest.param("--metrics-port=9004", "--grpc-port and --metrics-port are both 9004: they must differ", id="metrics"),
    pytest.param(
        "--metrics-port=9005", "--grpc-health-port and --metrics-port are both 9005: they must differ", id="both"
    ),
]


@pytest.mark.parametrize(("argument", "sentence"), PORTS)
def test_u8_ports(run, argument, sentence):
    assert run("--streaming", argument) == (2, f"bbr serve: {sentence}.\n")


@pytest.mark.parametrize(
    ("plugin", "why"),
    [
        (":n", "has no type"),
        ("base-model-to-header:", "has no name"),
        ("guardrail:g", "is of an unknown type"),
        ("base-model-to-header:b:{", "has parameters that are not JSON"),
        ("body-field-to-header:m:{}", "needs the parameter fieldName"),
        ('body-field-to-header:m:{"fieldName":"model"}', "needs the parameter headerName"),
    ],
)
def test_a_plugin_that_is_none_fails_the_start_by_name(run, plugin, why):
    code, sentence = run("--streaming", "--plugin", plugin)
    assert code == 2
    assert sentence.startswith(f"bbr serve: --plugin: {plugin!r} {why}")


# As the charts and manifests of their releases have them.
COMMAND_LINES = {
    "v1.0 manifest": ["-streaming", "-grpc-port", "9004", "-grpc-health-port=9005", "-metrics-port=9090", "-v", "3"],
    "v1.3 manifest": ["--streaming", "--v", "3", "--zap-encoder=json", "--zap-log-level", "debug"],
    "v1.4 chart": [
        "--streaming",
        "--v=3",
        "--plugin",
        'default-bbr:default-bbr:{"name":"default","nested":{"a":[1,2]}}',
    ],
    "v1.5 chart": [
        "--streaming",
        "--v=3",
        "--plugin",
        'body-field-to-header:model:{"fieldName":"model","headerName":"X-Gateway-Model-Name"}',
        "--plugin",
        "base-model-to-header:base",
        "--tracing=false",
    ],
    "IPP chart": [
        "--config-text",
        """\
apiVersion: llm-d.ai/v1alpha1
kind: PayloadProcessorConfig
plugins:
- type: body-field-to-header
  parameters:
    fieldName: model
    headerName: X-Gateway-Model-Name
- type: base-model-to-header
profiles:
- name: default
  plugins:
    request:
    - pluginRef: body-field-to-header
    - pluginRef: base-model-to-header
""",
        "--v=3",
        "--tracing=false",
    ],
}


@pytest.mark.parametrize("arguments", COMMAND_LINES.values(), ids=COMMAND_LINES)
def test_command_lines_of_theirs(run, pod, arguments):
    settings, warnings = run(*arguments)
    assert warnings == []
    assert (settings.kubernetes, settings.namespace) == (True, "inference")
    assert (settings.model_header, settings.base_model_header) == (
        ("X-Gateway-Model-Name",),
        ("X-Gateway-Base-Model-Name",),
    )
    assert settings.secure_serving
    duplex = any("streaming" in argument or "config" in argument for argument in arguments)
    assert (settings.assume_body_mode is DUPLEX) == duplex


def test_an_old_flag_is_warned_of_and_a_typing_error_is_one(run):
    settings, warnings = run("--streaming", "--refresh-metrics-interval=5s")
    assert settings.assume_body_mode is DUPLEX
    assert warnings == ["--refresh-metrics-interval: unknown flag: ignored"]
    code, sentence = run("serve", "--streaming", "--refresh-metrics-interval=5s")
    assert code == 2
    assert sentence.startswith("bbr serve: --refresh-metrics-interval=5s is not a flag of `bbr serve`")


@pytest.mark.parametrize("target", replay.TARGETS, ids=lambda target: target.name)
def test_every_flag_of_theirs_is_known(run, pod, target):
    values = {"plugin": "base-model-to-header:b", "config-file": "", "config-text": "", "metrics-port": "9"}
    values |= {"grpc-port": "7", "grpc-health-port": "8"}
    flags = replay.their_flags()[target.name]
    assert len(flags) >= 15
    for flag in flags:
        _, warnings = run(f"--{flag}={values.get(flag, '1')}")
        assert warnings == [], flag


@pytest.mark.parametrize("target", replay.TARGETS, ids=lambda target: target.name)
def test_the_go_router_itself_has_those_flags(target):
    if not target.program.built:
        pytest.skip(f"{target.program.module} is not built: make go-parity")
    assert replay.flags(target.program) == replay.their_flags()[target.name]


COMPAT = [
    pytest.param({"compat": "none"}, DUPLEX, UnknownModel.REJECT, id="none"),
    pytest.param({"compat": "gie"}, BUFFERED, UnknownModel.EMPTY, id="gie"),
    pytest.param({"compat": "gie", "assume_body_mode": "full-duplex"}, DUPLEX, UnknownModel.EMPTY, id="gie, streaming"),
    pytest.param({"compat": "ipp"}, DUPLEX, UnknownModel.EMPTY, id="ipp"),
    pytest.param({"compat": "ipp", "unknown_model": "reject"}, DUPLEX, UnknownModel.REJECT, id="an own word"),
]


@pytest.mark.parametrize(("flags", "mode", "unknown"), COMPAT)
def test_compat_brings_its_defaults(flags, mode, unknown):
    settings = loading.load(flags, {})
    assert (settings.assume_body_mode, settings.unknown_model) == (mode, unknown)
