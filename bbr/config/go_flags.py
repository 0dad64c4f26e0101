"""The Go routers' command lines, as ours.

Their image is started with flags only, without a command. That is `bbr serve` here, for an operator who has changed
nothing but the image: flags of theirs that mean nothing here, and flags that nobody knows, are logged and left out.
With the command given, an unknown flag is an error, since it is a typing error.

Flags are spelled as in pflag (--x=v, --x v, a bare --x for true) or in Go's flag package (the same with one dash).
--streaming, --v, --plugin, --config-file and --config-text stand for settings of ours that have other names. They are
known here and nowhere else.
"""

import logging
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from bbr.config import go_plugins as plugins
from bbr.config import mistyped, options, removed
from bbr.config import settings as config
from bbr.config.settings import ConfigError
from bbr.exchange.policy import Compat
from bbr.text import quoted

Value = TypeVar("Value")

COMMAND: Final = "serve"

_HELP: Final = ("-h", "--help")
_FLAG: Final = re.compile(r"--?([A-Za-z][A-Za-z0-9_.-]*)(?:=(.*))?", re.DOTALL)
_SHORT_VERBOSITY: Final = re.compile(r"-v(-?[0-9]+)")
_SETTINGS: Final = {config.flag_of(name).removeprefix("--"): name for name in config.OPTIONS}

# Set by Kubernetes in every container.
_POD_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"

_OTHER_LOG_FLAGS: Final = "has no effect: --log-level and --log-format say what is logged, and how"

# Boolean flags without a meaning here -> what to log if they are true.
IDLE_SWITCHES: Final[Mapping[str, str]] = {
    "enable-pprof": "has no effect: there is no pprof in a Python process",
    "zap-devel": _OTHER_LOG_FLAGS,
}
# Other flags without a meaning here.
IDLE_VALUES: Final[Mapping[str, str]] = dict.fromkeys(
    ("zap-encoder", "zap-log-level", "zap-stacktrace-level", "zap-time-encoding"), _OTHER_LOG_FLAGS
)
PLUGIN: Final = "plugin"
CONFIG_FILE: Final = "config-file"
CONFIG_TEXT: Final = "config-text"
STREAMING: Final = "streaming"
VERBOSITY: Final = "v"

# From these verbosities on, the Go routers debug and trace.
_DEBUG_VERBOSITY: Final = 4
_TRACE_VERBOSITY: Final = 5


class Note(NamedTuple):
    """Something to log at the start: one line."""

    level: int
    text: str


@dataclass
class CommandLine:
    """A command line of ours.

    Attributes:
        arguments: for our parser, the command first.
        settings: texts of settings that no flag of ours has given.
        notes: what to log about the flags, in their order.
    """

    arguments: list[str]
    settings: dict[str, str] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> CommandLine:
    """Return a command line as ours, whichever it is.

    Args:
        arguments: without the program's name.
        environment: the process environment.

    Raises:
        ConfigError: a flag of the Go routers' has an unusable value or contradicts one of ours, or a flag was removed.
    """
    first = arguments[0] if arguments else ""
    if first == COMMAND:
        return _Translation(arguments[1:], environment, lenient=False).line()
    if first in (*_HELP, "--version") or (first and not first.startswith("-")):
        return CommandLine([*arguments])
    if not first and not environment.get(_POD_VARIABLE):  # someone who wonders what this is
        return CommandLine([])
    translation = _Translation(arguments, environment, lenient=True)
    return translation.line(_defaults(translation, environment))


class _Translation:
    """Reads the arguments behind the command, or those of a command line without one.

    Attributes:
        given: the settings that flags have given, with their texts; None where our own parser finds the text missing.
        streaming: what --streaming says of the body mode, or None.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], *, lenient: bool) -> None:
        self.given: dict[str, str | None] = {}
        self.streaming: str | None = None
        self._environment = environment
        self._lenient = lenient
        self._verbosity = 0
        self._rest = deque(arguments)
        self._count = len(arguments)
        self._out: list[str] = []
        self._plugins: list[plugins.Plugin] = []
        self._configs: dict[str, str] = {}
        self._notes: dict[str, Note] = {}
        while self._rest:
            self._read(self._rest.popleft())

    def line(self, defaults: tuple[list[str], Note] | None = None) -> CommandLine:
        """Return the whole command line; `defaults` are further flags, and the notes about them."""
        settings = self._plugged() | self._streamed() | self._verbose()
        flags, note = defaults or ([], None)
        notes = [note] if note else []
        return CommandLine([COMMAND, *flags, *self._out], settings, [*notes, *self._notes.values()])

    @property
    def configured(self) -> str:
        """The flag whose configuration of the payload processor is read; "" without one."""
        if self._configs.get(CONFIG_TEXT) or CONFIG_FILE not in self._configs:
            return CONFIG_TEXT if CONFIG_TEXT in self._configs else ""
        return CONFIG_FILE

    def _plugged(self) -> dict[str, str]:
        flag = self.configured or PLUGIN
        if self.configured and self._plugins:
            raise ConfigError(f"--{PLUGIN} and --{flag} contradict each other: leave one out")
        found = plugins.settings(self._config_plugins() if self.configured else self._plugins)
        for name, text in found.items():
            if name in self.given:
                raise ConfigError(f"--{flag} and {config.flag_of(name)} contradict each other: leave one out")
            if self.configured:
                self._notes[f"{flag} {name}"] = Note(logging.INFO, f"--{flag}: sets {config.flag_of(name)}={text}")
        if any(plugin.type == plugins.DEFAULT for plugin in self._plugins):
            self._note(PLUGIN, f"type {plugins.DEFAULT} stands for the two default plugins; its parameters are unread")
        return found

    def _config_plugins(self) -> list[plugins.Plugin]:
        from bbr.config import go_config  # it takes a YAML parser, which no other command line needs

        text, source = self._configs[self.configured], f"--{self.configured}"
        if self.configured == CONFIG_FILE:
            source = f"{source} {quoted(text)}"
            # As theirs: no name of a file is no file, and so the default.
            text = go_config.read_file(text) if text else ""
        elif self._configs.get(CONFIG_FILE):
            self._note(CONFIG_FILE, f"not read, since --{CONFIG_TEXT} is given, as in the payload processor")
        return go_config.plugins(text, source)

    def _streamed(self) -> dict[str, str]:
        if self.configured:
            if self.streaming == "buffered":
                raise ConfigError(f"--streaming=false and --{self.configured} contradict each other: leave one out")
            said = "assume_body_mode" in self.given or self._environment.get(config.variable_of("assume_body_mode"))
            if not said:
                return {"assume_body_mode": "full-duplex"}
        if self.streaming is None:
            return {}
        if self.given.setdefault("assume_body_mode", self.streaming) != self.streaming:
            raise ConfigError("--streaming and --assume-body-mode contradict each other: leave one out")
        return {"assume_body_mode": self.streaming}

    def _verbose(self) -> dict[str, str]:
        """Return how much is logged, as far as neither a flag nor a variable of ours says it."""
        meant = {"log_level": "debug"} if self._verbosity >= _DEBUG_VERBOSITY else {}
        if self._verbosity >= _TRACE_VERBOSITY:
            meant["access_log"] = "all"
        said = self.given.keys() | {name for name in meant if self._environment.get(config.variable_of(name))}
        return {name: text for name, text in meant.items() if name not in said}

    def _read(self, word: str) -> None:
        verbosity = _SHORT_VERBOSITY.fullmatch(word)
        if verbosity:
            word = f"--{VERBOSITY}={verbosity[1]}"
        flag = _FLAG.fullmatch(word)
        if not flag:
            self._stray(word)
            return
        name, value = flag.groups()
        if name == PLUGIN:
            self._plugins.append(plugins.parse(self._value(name, value)))
        elif name in (CONFIG_FILE, CONFIG_TEXT):
            self._configs[name] = self._value(name, value)
        elif name == STREAMING:
            streaming = _parsed(name, self._boolean(name, value), options.boolean)
            self.streaming = "full-duplex" if streaming else "buffered"
        elif name == VERBOSITY:
            self._verbosity = _parsed(name, self._value(name, value), _count)
        elif name in IDLE_SWITCHES:
            self._idle_switch(name, value)
        elif name in IDLE_VALUES:
            self._value(name, value)
            self._note(name, IDLE_VALUES[name])
        elif name in _SETTINGS:
            self._setting(name, value)
        elif sentence := removed.of_flag(f"--{name}"):
            raise ConfigError(sentence)
        elif self._lenient and word not in _HELP:
            self._unknown(name, value)
        else:
            self._out.append(word)

    def _setting(self, name: str, value: str | None) -> None:
        if self._lenient:
            value = self._boolean(name, value) if config.OPTIONS[_SETTINGS[name]].switch else self._value(name, value)
        text = value if value is not None or not self._rest or self._rest[0].startswith("-") else self._rest[0]
        self.given[_SETTINGS[name]] = text
        self._out.append(f"--{name}" if value is None else f"--{name}={value}")

    def _idle_switch(self, name: str, value: str | None) -> None:
        if _parsed(name, self._boolean(name, value), options.boolean):
            self._note(name, IDLE_SWITCHES[name])

    def _boolean(self, name: str, value: str | None) -> str:
        """Return the text of a boolean flag. In pflag one without a `=` is true, whatever word follows it."""
        if value is not None:
            return value
        if self._rest and _is_boolean(self._rest[0]):
            word = self._rest.popleft()
            if not self._lenient:
                return word
            self._note(
                f"{name} {word}",
                f"the bare flag means true, and the word after it is ignored, as in Go; write --{name}={word}",
                logging.WARNING,
            )
        return "true"

    def _value(self, name: str, value: str | None) -> str:
        if value is not None:
            return value
        if not self._rest:
            raise ConfigError(f"--{name}: expected one argument")
        return self._rest.popleft()

    def _unknown(self, name: str, value: str | None) -> None:
        """Leave a flag out, and what is its value, as it seems. What that is might be a secret."""
        known = (f"--{each}" for each in (*_SETTINGS, "help", "version") if each != name)
        ignored = f"unknown flag{mistyped.suggestion(f'--{name}', known)}: ignored"
        if value is None and self._rest and not self._rest[0].startswith("-"):
            self._rest.popleft()
            ignored += ", with the word after it"
        self._note(name, ignored, logging.WARNING)

    def _stray(self, word: str) -> None:
        if not self._lenient:
            self._out.append(word)
            return
        position = self._count - len(self._rest)
        self._notes[f"argument {position}"] = Note(
            logging.WARNING, f"argument {position} is not a flag: ignored, as in the Go routers"
        )

    def _note(self, name: str, text: str, level: int = logging.INFO) -> None:
        self._notes[name] = Note(level, f"--{name}: {text}")


def _parsed(name: str, text: str, parse: Callable[[str], Value]) -> Value:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(f"--{name}: {quoted(text)} {error}") from None


def _count(text: str) -> int:
    """Return a verbosity as klog counts it; less than nothing is nothing."""
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise ValueError("is not a verbosity (a whole number)")
    return max(0, int(text))


def _is_boolean(word: str) -> bool:
    try:
        options.boolean(word)
    except ValueError:
        return False
    return True


def _defaults(translation: _Translation, environment: Mapping[str, str]) -> tuple[list[str], Note]:
    """Return what the Go routers' defaults are, where ours differ, and a sentence about it."""

    def text(name: str) -> str:
        return translation.given.get(name) or environment.get(config.variable_of(name)) or ""

    flags, sentences = [], ["started without a command, as the Go routers are: this is `bbr serve`"]
    cluster = text("kubernetes") in options.TRUE
    if not text("models") and not text("kubernetes"):
        if environment.get(_POD_VARIABLE) or text("kubeconfig"):
            cluster = True
            flags.append("--kubernetes=true")
            sentences.append("without --models the model table comes from the cluster's ConfigMaps (--kubernetes)")
        else:
            sentences.append("this is not a pod, so no ConfigMaps are read (--kubernetes)")
    if cluster and not text("metrics_endpoint_auth"):
        flags.append("--metrics-endpoint-auth=true")
        sentences.append("/metrics needs a token that the cluster allows (--metrics-endpoint-auth)")
    mode_said = translation.streaming or translation.configured or text("assume_body_mode")
    if not mode_said and text("compat") != Compat.IPP.value:
        flags.append("--assume-body-mode=buffered")
        sentences.append(
            "without --streaming, the body mode of a gateway that does not tell it is assumed to be buffered"
        )
    return flags, Note(logging.INFO, "; ".join(sentences))
