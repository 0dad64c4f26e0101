import logging
from pathlib import Path

import pytest

from bbr.config import go_flags as dropin
from bbr.config import loading, removed
from bbr.config import settings as config
from bbr.config.settings import ConfigError
from bbr.exchange.policy import BodyMode

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
STARTED = "started without a command, as the Go routers are: this is `bbr serve`"
CLUSTER = "without --models the model table comes from the cluster's ConfigMaps (--kubernetes)"
NO_POD = "this is not a pod, so no ConfigMaps are read (--kubernetes)"
BUFFERING = "without --streaming, the body mode of a gateway that does not tell it is assumed to be buffered"
GUARDED = "/metrics needs a token that the cluster allows (--metrics-endpoint-auth)"
OTHER_FLAGS = "has no effect: --log-level and --log-format say what is logged, and how"


def texts(line, level=None):
    return [note.text for note in line.notes if level in (None, note.level)]


def serve(*arguments, **environment):
    return dropin.read(["serve", *arguments], environment)


def bare(*arguments):
    """Return what a command line without a command is, less what every such one has."""
    line = dropin.read(["--streaming", "--kubernetes=false", *arguments], {})
    assert line.arguments[:2] == ["serve", "--kubernetes=false"]
    assert line.settings["assume_body_mode"] == "full-duplex"
    assert line.notes[0].text == STARTED
    return line.arguments[2:], [(note.level, note.text) for note in line.notes[1:]]


NOT_OURS = [
    pytest.param([], id="nothing"),
    pytest.param(["--help"], id="--help"),
    pytest.param(["-h"], id="-h"),
    pytest.param(["--version"], id="--version"),
    pytest.param(["models", "--json", "--zap-devel"], id="another command"),
    pytest.param(["nonsense", "--v=3"], id="no command"),
]


@pytest.mark.parametrize("arguments", NOT_OURS)
def test_what_is_not_for_serve_stays(arguments):
    assert dropin.read(arguments, {}) == dropin.CommandLine(arguments)


def test_nothing_at_all_is_a_go_router_in_a_pod_only():
    line = dropin.read([], POD)
    assert line.arguments == [
        "serve",
        "--kubernetes=true",
        "--metrics-endpoint-auth=true",
        "--assume-body-mode=buffered",
    ]
    assert texts(line) == [f"{STARTED}; {CLUSTER}; {GUARDED}; {BUFFERING}"]


WITH_COMMAND = [
    pytest.param(["--grpc-port=7"], ["--grpc-port=7"], [], id="--x=v"),
    pytest.param(["--grpc-port", "7"], ["--grpc-port", "7"], [], id="--x v"),
    pytest.param(["-grpc-port", "7"], ["--grpc-port", "7"], [], id="-x v"),
    pytest.param(["-grpc-port=7"], ["--grpc-port=7"], [], id="-x=v"),
    pytest.param(["--tracing"], ["--tracing"], [], id="a bare truth"),
    pytest.param(["-tracing"], ["--tracing"], [], id="a bare truth with one dash"),
    pytest.param(["--tracing", "false"], ["--tracing", "false"], [], id="a truth, our way"),
    *(
        pytest.param(words, [], [], id=" ".join(words))
        for words in (["--v=3"], ["-v=3"], ["-v", "3"], ["-v3"], ["-v-1"])
    ),
    pytest.param(["--metrics-port=7"], ["--metrics-port=7"], [], id="the metrics port"),
    pytest.param(["--port=7", "now", "-x", "--", "-h"], ["--port=7", "now", "-x", "--", "-h"], [], id="unknown"),
    pytest.param(
        ["--zap-encoder", "json", "-zap-log-level=2"],
        [],
        [f"--zap-encoder: {OTHER_FLAGS}", f"--zap-log-level: {OTHER_FLAGS}"],
        id="zap",
    ),
    pytest.param(["--zap-devel", "--zap-devel"], [], [f"--zap-devel: {OTHER_FLAGS}"], id="one line for one flag"),
    pytest.param(
        ["--zap-devel", "false", "--metrics-port=3"], ["--metrics-port=3"], [], id="a truth of theirs, our way"
    ),
    pytest.param(
        ["--zap-devel=false", "--enable-pprof=0"],
        [],
        [],
        id="what is not wanted",
    ),
    pytest.param(
        ["--enable-pprof=true"],
        [],
        ["--enable-pprof: has no effect: there is no pprof in a Python process"],
        id="pprof",
    ),
]


@pytest.mark.parametrize(("arguments", "ours", "notes"), WITH_COMMAND)
def test_with_the_command(arguments, ours, notes):
    line = serve(*arguments)
    assert line == dropin.CommandLine(["serve", *ours], {}, [dropin.Note(logging.INFO, text) for text in notes])


IN_A_POD = [
    pytest.param({}, [], True, False, id="nothing said"),
    pytest.param({}, ["--models=m.yaml"], False, False, id="a model file"),
    pytest.param({"BBR_MODELS": "m.yaml"}, [], False, False, id="a model file in a variable"),
    pytest.param({}, ["--kubernetes=false"], False, False, id="no cluster"),
    pytest.param({"BBR_KUBERNETES": "false"}, [], False, False, id="no cluster in a variable"),
    pytest.param({}, ["--streaming"], True, True, id="streaming"),
    pytest.param({}, ["--streaming=false"], True, True, id="no streaming, said aloud"),
    pytest.param({"BBR_ASSUME_BODY_MODE": "full-duplex"}, [], True, True, id="a body mode in a variable"),
    pytest.param({}, ["--assume-body-mode", "full-duplex"], True, True, id="a body mode"),
    pytest.param({}, ["--compat", "ipp"], True, True, id="IPP has no unary mode"),
    pytest.param({}, ["--compat=gie"], True, False, id="GIE has one"),
]


@pytest.mark.parametrize(("variables", "arguments", "kubernetes", "mode_said"), IN_A_POD)
def test_defaults_are_theirs(variables, arguments, kubernetes, mode_said):
    line = dropin.read([*arguments, "--v=3"], POD | variables)
    assert ("--kubernetes=true" in line.arguments) == kubernetes
    assert ("--assume-body-mode=buffered" in line.arguments) == (not mode_said)
    assert ("--metrics-endpoint-auth=true" in line.arguments) == kubernetes
    told = [STARTED] + [CLUSTER, GUARDED] * kubernetes + [BUFFERING] * (not mode_said)
    assert line.notes[0] == dropin.Note(logging.INFO, "; ".join(told))


def test_without_a_pod_there_is_no_cluster_unless_one_is_named():
    line = dropin.read(["--streaming"], {})
    assert (line.arguments, line.settings) == (["serve"], {"assume_body_mode": "full-duplex"})
    assert texts(line) == [f"{STARTED}; {NO_POD}"]
    line = dropin.read(["--streaming", "--kubeconfig", "config", "--metrics-endpoint-auth=false"], {})
    given = ["--kubeconfig=config", "--metrics-endpoint-auth=false"]
    assert line.arguments == ["serve", "--kubernetes=true", *given]


@pytest.mark.parametrize(("variable", "guarded"), [("true", True), ("1", True), ("false", False)])
def test_metrics_are_guarded_where_there_is_a_cluster_to_ask(variable, guarded):
    line = dropin.read(["--streaming"], {"BBR_KUBERNETES": variable})
    assert ("--metrics-endpoint-auth=true" in line.arguments) == guarded


def warned(text):
    return [(logging.WARNING, text)]


WITHOUT_COMMAND = [
    pytest.param(["--grpc-port", "7"], ["--grpc-port=7"], [], id="--x v"),
    pytest.param(["-grpc-port", "7"], ["--grpc-port=7"], [], id="-x v"),
    pytest.param(["-v", "-1"], [], [], id="a negative value"),
    pytest.param(["--models", "--v"], ["--models=--v"], [], id="whatever stands behind a flag is its value"),
    pytest.param(["--secure-serving"], ["--secure-serving=true"], [], id="a bare truth"),
    pytest.param(
        ["--secure-serving", "false"],
        ["--secure-serving=true"],
        warned(
            "--secure-serving false: the bare flag means true, and the word after it is ignored, as in Go; "
            "write --secure-serving=false"
        ),
        id="a truth in two words",
    ),
    pytest.param(["--foo"], [], warned("--foo: unknown flag: ignored"), id="unknown"),
    pytest.param(["--foo=s3cret"], [], warned("--foo: unknown flag: ignored"), id="with a value"),
    pytest.param(
        ["--foo", "s3cret", "--metrics-port=3"],
        ["--metrics-port=3"],
        warned("--foo: unknown flag: ignored, with the word after it"),
        id="with a value in a second word",
    ),
    pytest.param(["-x"], [], warned("--x: unknown flag: ignored"), id="one letter"),
    pytest.param(
        ["--grpc-prt=1"],
        [],
        warned("--grpc-prt: unknown flag (did you mean --grpc-port?): ignored"),
        id="mistyped",
    ),
    pytest.param(
        ["--verson"], [], warned("--verson: unknown flag (did you mean --version?): ignored"), id="mistyped version"
    ),
    pytest.param(["--v=3", "now"], [], warned("argument 4 is not a flag: ignored, as in the Go routers"), id="a word"),
    pytest.param(["-"], [], warned("argument 3 is not a flag: ignored, as in the Go routers"), id="a dash"),
    pytest.param(["---x=1"], [], warned("argument 3 is not a flag: ignored, as in the Go routers"), id="three dashes"),
    pytest.param([""], [], warned("argument 3 is not a flag: ignored, as in the Go routers"), id="an empty word"),
    pytest.param(["--help"], ["--help"], [], id="help"),
    pytest.param(["--version"], [], warned("--version: unknown flag: ignored"), id="not by itself"),
]


@pytest.mark.parametrize(("arguments", "ours", "notes"), WITHOUT_COMMAND)
def test_without_a_command(arguments, ours, notes):
    assert bare(*arguments) == (ours, notes)


@pytest.mark.parametrize("read", [serve, lambda *arguments: dropin.read(arguments, {})], ids=["serve", "bare"])
class TestPlugins:
    MODEL = 'body-field-to-header:m:{"fieldName":"model","headerName":"X-M"}'

    @pytest.mark.parametrize("spelling", [["--plugin", MODEL], [f"--plugin={MODEL}"], ["-plugin", MODEL]])
    def test_is_a_setting(self, read, spelling):
        line = read("--v=3", *spelling)
        headers = {name: text for name, text in line.settings.items() if name.endswith("header")}
        assert headers == {"model_header": "X-M", "base_model_header": "none"}
        assert MODEL_TEXT not in " ".join(line.arguments)
        assert not [text for text in texts(line) if "plugin" in text]

    def test_may_be_given_several_times(self, read):
        line = read("--v=3", "--plugin", self.MODEL, "--plugin=base-model-to-header:b")
        assert line.settings == {"model_header": "X-M", "base_model_header": "X-Gateway-Base-Model-Name"}

    def test_of_the_chart_of_v1_4_is_one_line(self, read):
        line = read("--v=3", "--plugin", 'default-bbr:default-bbr:{"a":"b"}')
        assert [text for text in texts(line) if "plugin" in text] == [
            "--plugin: type default-bbr stands for the two default plugins; its parameters are unread"
        ]

    @pytest.mark.parametrize("flag", ["--model-header=X-A", "--base-model-header=none"])
    def test_and_our_own_flags_contradict(self, read, flag):
        with pytest.raises(ConfigError, match=f"^--plugin and {flag.partition('=')[0]} contradict each other"):
            read(flag, "--plugin", self.MODEL)

    def test_of_an_unknown_type(self, read):
        with pytest.raises(ConfigError, match=r"^--plugin: 'x:y' is of an unknown type"):
            read("--v=3", "--plugin=x:y")

    @pytest.mark.parametrize("flag", ["--plugin", "--zap-encoder"])
    def test_and_zap_need_a_value(self, read, flag):
        with pytest.raises(ConfigError, match=f"^{flag}: expected one argument$"):
            read("--v=3", flag)

    def test_idle_truths_are_truths(self, read):
        with pytest.raises(ConfigError, match=r"^--zap-devel: 'maybe' is neither true nor false$"):
            read("--v=3", "--zap-devel=maybe")


MODEL_TEXT = TestPlugins.MODEL
CONFIGURED = {
    "model_header": "none",
    "base_model_header": "X-Gateway-Base-Model-Name",
    "assume_body_mode": "full-duplex",
}
CONFIGURED_DEFAULT = CONFIGURED | {"model_header": "X-Gateway-Model-Name"}


@pytest.mark.parametrize("read", [serve, lambda *arguments: dropin.read(arguments, {})], ids=["serve", "bare"])
class TestConfigurations:
    TEXT = (
        '{"apiVersion":"llm-d.ai/v1alpha1","kind":"PayloadProcessorConfig","plugins":[{"type":"base-model-to-header"}],'
        '"profiles":[{"name":"p","plugins":{"request":[{"pluginRef":"base-model-to-header"}]}}]}'
    )

    @pytest.fixture
    def file(self, tmp_path):
        file = tmp_path / "config.yaml"
        file.write_text(self.TEXT, "utf-8")
        return str(file)

    def test_a_file_is_settings(self, read, file):
        line = read("--v=3", "--config-file", file)
        assert line.settings == CONFIGURED
        told = [text for text in texts(line) if "config" in text]
        assert told == [
            "--config-file: sets --model-header=none",
            "--config-file: sets --base-model-header=X-Gateway-Base-Model-Name",
        ]
        assert file not in " ".join(line.arguments)

    @pytest.mark.parametrize("spelling", [["--config-text", TEXT], [f"--config-text={TEXT}"], ["-config-text", TEXT]])
    def test_a_text_is_settings(self, read, spelling):
        assert read("--v=3", *spelling).settings == CONFIGURED

    def test_the_text_wins_over_the_file(self, read):
        line = read("--v=3", "--config-file=/nothing/here", "--config-text", self.TEXT)
        assert line.settings == CONFIGURED
        told = "--config-file: not read, since --config-text is given, as in the payload processor"
        assert told in texts(line)

    @pytest.mark.parametrize(
        "arguments", [["--config-file="], ["--config-text="], ["--config-text=", "--config-file="]]
    )
    def test_nothing_is_the_default(self, read, arguments):
        assert read("--v=3", *arguments).settings == CONFIGURED_DEFAULT

    def test_an_empty_text_leaves_the_file(self, read, file):
        assert read("--v=3", "--config-text=", f"--config-file={file}").settings == CONFIGURED

    def test_an_empty_file_is_the_default(self, read, tmp_path):
        (tmp_path / "empty").touch()
        assert read("--v=3", f"--config-file={tmp_path / 'empty'}").settings == CONFIGURED | {
            "model_header": "X-Gateway-Model-Name"
        }

    def test_another_plugin_refuses_to_start_by_name(self, read, file):
        guarded = self.TEXT.replace('"plugins":[{', '"plugins":[{"type":"headers-guard"},{', 1)
        for flag, value in (("--config-text", guarded), ("--config-file", file)):
            Path(file).write_text(guarded, "utf-8")
            with pytest.raises(ConfigError) as refused:
                read("--v=3", flag, value)
            shown = flag if flag == "--config-text" else f"{flag} {file!r}"
            assert str(refused.value).startswith(f"{shown}: line 1: plugin 'headers-guard' is of the type 'headers-")

    def test_a_file_that_is_not_there_is_named(self, read):
        with pytest.raises(ConfigError, match=r"^--config-file: '/nothing/here' can't be read: No such file"):
            read("--v=3", "--config-file=/nothing/here")

    @pytest.mark.parametrize("flag", ["--model-header=X-A", "--base-model-header=none"])
    def test_and_our_own_flags_contradict(self, read, flag):
        with pytest.raises(ConfigError, match=f"^--config-text and {flag.partition('=')[0]} contradict each other"):
            read(flag, "--config-text", self.TEXT)

    def test_and_plugins_contradict(self, read):
        with pytest.raises(ConfigError, match=r"^--plugin and --config-text contradict each other: leave one out$"):
            read("--plugin=base-model-to-header:b", "--config-text", self.TEXT)

    def test_and_no_streaming_contradict(self, read):
        with pytest.raises(ConfigError, match=r"^--streaming=false and --config-text contradict each other: leave one"):
            read("--streaming=false", "--config-text", self.TEXT)

    def test_streaming_says_the_same(self, read):
        assert read("--streaming", "--config-text", self.TEXT).settings == CONFIGURED

    def test_our_own_body_mode_wins(self, read):
        line = read("--assume-body-mode=buffered", "--config-text", self.TEXT)
        assert "assume_body_mode" not in line.settings

    @pytest.mark.parametrize("flag", ["--config-file", "--config-text"])
    def test_needs_a_value(self, read, flag):
        with pytest.raises(ConfigError, match=f"^{flag}: expected one argument$"):
            read("--v=3", flag)


def test_our_variable_of_the_body_mode_wins_over_a_configuration():
    line = serve("--config-text", TestConfigurations.TEXT, BBR_ASSUME_BODY_MODE="buffered")
    assert "assume_body_mode" not in line.settings


def test_a_configuration_says_the_body_mode():
    line = dropin.read(["--config-text", TestConfigurations.TEXT], POD)
    assert line.settings["assume_body_mode"] == "full-duplex"
    assert "--assume-body-mode=buffered" not in line.arguments


def test_a_known_flag_needs_its_value():
    with pytest.raises(ConfigError, match=r"^--grpc-port: expected one argument$"):
        dropin.read(["--grpc-port"], {})


STREAMING = [
    pytest.param(["--streaming"], "full-duplex", id="bare"),
    pytest.param(["-streaming"], "full-duplex", id="one dash"),
    pytest.param(["--streaming=T"], "full-duplex", id="as Go writes a truth"),
    pytest.param(["--streaming=false"], "buffered", id="=false"),
    pytest.param(["--streaming=false", "--streaming"], "full-duplex", id="the last wins"),
    pytest.param(["--streaming", "--assume-body-mode=full-duplex"], "full-duplex", id="both say the same"),
    pytest.param(["--assume-body-mode", "buffered", "--streaming=0"], "buffered", id="both say the same, in two words"),
]


@pytest.mark.parametrize("read", [serve, lambda *arguments: dropin.read(arguments, {})], ids=["serve", "bare"])
class TestStreaming:
    @pytest.mark.parametrize(("arguments", "mode"), STREAMING)
    def test_is_a_body_mode(self, read, arguments, mode):
        assert read(*arguments).settings["assume_body_mode"] == mode

    @pytest.mark.parametrize("mode", ["--assume-body-mode=buffered", "--assume-body-mode buffered"])
    def test_and_another_body_mode_contradict(self, read, mode):
        with pytest.raises(ConfigError, match=r"^--streaming and --assume-body-mode contradict each other: leave one"):
            read("--streaming", *mode.split())

    def test_is_a_truth(self, read):
        with pytest.raises(ConfigError, match=r"^--streaming: 'on' is neither true nor false$"):
            read("--streaming=on")


def test_streaming_in_two_words_is_ours_alone():
    assert serve("--streaming", "false").settings == {"assume_body_mode": "buffered"}
    line = dropin.read(["--streaming", "false"], {})
    assert line.settings == {"assume_body_mode": "full-duplex"}
    assert "write --streaming=false" in texts(line, logging.WARNING)[0]


def test_a_flag_of_streaming_wins_over_a_variable_of_the_body_mode():
    line = serve("--streaming=false", BBR_ASSUME_BODY_MODE="full-duplex")
    assert loading.load(line.settings, {"BBR_ASSUME_BODY_MODE": "full-duplex"}).assume_body_mode is BodyMode.BUFFERED


VERBOSITY = [
    pytest.param(["--v=3"], {}, {}, id="3"),
    pytest.param(["--v=+4"], {}, {"log_level": "debug"}, id="4"),
    pytest.param(["-v5"], {}, {"log_level": "debug", "access_log": "all"}, id="5"),
    pytest.param(["-v", "9"], {}, {"log_level": "debug", "access_log": "all"}, id="9"),
    pytest.param(["--v=-3"], {}, {}, id="less than nothing"),
    pytest.param(["--v=5", "--v=0"], {}, {}, id="the last wins"),
    pytest.param(["--v=5", "--log-level=info"], {}, {"access_log": "all"}, id="ours wins"),
    pytest.param(["--access-log", "off", "--v=5"], {}, {"log_level": "debug"}, id="ours wins, in two words"),
    pytest.param(["--v=5"], {"BBR_LOG_LEVEL": "info"}, {"access_log": "all"}, id="our variable wins"),
]


@pytest.mark.parametrize("command", [["serve"], ["--streaming"]], ids=["serve", "bare"])
@pytest.mark.parametrize(("arguments", "environment", "meant"), VERBOSITY)
def test_a_verbosity_is_a_level_and_an_access_log(command, arguments, environment, meant):
    settings = dropin.read([*command, *arguments], environment).settings
    settings.pop("assume_body_mode", None)
    assert settings == meant


@pytest.mark.parametrize("text", ["", "debug", "1.5", "--1", "9999999999"])
def test_a_verbosity_is_a_whole_number(text):
    with pytest.raises(ConfigError, match=f"^--v: {text!r} is not a verbosity \\(a whole number\\)$"):
        serve(f"--v={text}")
    with pytest.raises(ConfigError, match=r"^--v: expected one argument$"):
        serve("--v")


@pytest.mark.parametrize("command", [["serve"], []], ids=["serve", "bare"])
@pytest.mark.parametrize("flag", ["--access-log-sample=0.1", "--duplex-idle-seconds", "-buffered-wait-seconds=1"])
def test_a_removed_flag_of_ours_is_refused_by_the_name_of_what_takes_its_place(command, flag):
    name = flag.strip("-").partition("=")[0].replace("-", "_")
    with pytest.raises(ConfigError) as refused:
        dropin.read([*command, flag, "1"], {})
    assert str(refused.value) == removed.sentence(name)


def test_no_flag_of_theirs_is_one_of_ours_and_of_nobody():
    known = {dropin.PLUGIN, dropin.CONFIG_FILE, dropin.CONFIG_TEXT, dropin.STREAMING, dropin.VERBOSITY}
    theirs = {*dropin.IDLE_SWITCHES, *dropin.IDLE_VALUES, *known}
    assert not theirs & {config.flag_of(name).removeprefix("--") for name in config.OPTIONS}
