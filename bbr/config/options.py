"""The texts of settings, on a command line or in the environment, and a parser for each kind of text.

A parser returns the value, or raises a ValueError. Its message completes a sentence that begins with the text.
"""

import dataclasses
import enum
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from bbr.exchange.asker import Asker
from bbr.exchange.policy import BodyMode, ClientSteering
from bbr.headers import BASE_MODEL_HEADER, DESTINATION_HEADER, MODEL_HEADER, PRIORITY_HEADERS, STEERING_HEADERS
from bbr.models.listing import MAX_BYTES as LONGEST_LIST_BYTES
from bbr.reading.fields import LONGEST_VALUE_BYTES, MAX_FIELDS, BodyField
from bbr.reading.globs import read_each
from bbr.reading.header_names import MAX_ALWAYS_REMOVED, fold
from bbr.reading.name import LONGEST_MODEL_BYTES, check_model
from bbr.reading.paths import MAX_PATTERNS, PathPattern
from bbr.reading.templates import Template, parse_templates
from bbr.refusal import Refusal
from bbr.text import quoted
from bbr.tls.client_names import AllowedName

_BYTE_UNITS: Final = {
    "": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
}
# A character of a token (RFC 9110, section 5.6.2), in small letters.
_NAME_CHARACTER: Final = r"[!#$%&'*+.^_`|~0-9a-z-]"
_HEADER_NAME: Final = re.compile(rf"{_NAME_CHARACTER}{{1,127}}")
_LONG_HEADER_NAME: Final = re.compile(rf"{_NAME_CHARACTER}{{1,256}}")
_ATTRIBUTE: Final = re.compile(r"(?=.{1,128}\Z)[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
_MAX_METADATA_CHARACTERS: Final = 512
# The limit for all values of a flag together, and for a variable.
MAX_TEXT_CHARACTERS: Final = 65_536
TRUE: Final = ("true", "1", "t", "T", "TRUE", "True")
_FALSE: Final = ("false", "0", "f", "F", "FALSE", "False")

# The word of --discover-ca for the system's authorities. A file with this name is written ./system.
SYSTEM_AUTHORITIES: Final = Path("system")

# A word of --access-log -> the share of requests without an error that are logged. None: errors are not logged either.
_LOGGED_SHARES: Final[Mapping[str, float | None]] = {"off": None, "errors": 0.0, "all": 1.0}


class Group(enum.Enum):
    """A group of options in `--help` and in docs/reference/flags.md, with its heading."""

    PORTS = "Ports and TLS"
    TABLE = "Model table"
    READING = "Where requests name their model"
    ANSWERS = "Answers to the gateway"
    BODIES = "Bodies"
    LIFE = "Shutdown and connections"
    LOGS = "Logs and traces"
    RARE = "Rarely needed"


@dataclass(frozen=True, slots=True)
class Option:
    """How a field of Settings is written on a command line.

    Attributes:
        default: as it is written; "" for None.
    """

    group: Group
    parse: Callable[[str], Any]
    default: str
    help: str

    @property
    def metavar(self) -> str:
        """The placeholder of the value in `--help`."""
        return _METAVARS[self.parse]

    @property
    def switch(self) -> bool:
        """Whether the bare flag, without a value, means true."""
        return self.parse in (boolean, models_list)

    @property
    def repeatable(self) -> bool:
        """Whether the flag may be given several times. One text has the values with commas between them."""
        return self.parse in (
            *(body_fields, client_names, header_names, path_patterns, query_paths, routing_headers, templates),
        )


def setting(group: Group, parse: Callable[[str], Any], default: str, help: str) -> Any:  # noqa: A002
    """Declare a field of Settings; its default is written as on a command line, "" for None."""
    value = parse(default) if default else None
    return dataclasses.field(default=value, metadata={"option": Option(group, parse, default, help)})


Parse = TypeVar("Parse", bound=Callable[[str], Any])
Choice = TypeVar("Choice", bound=enum.Enum)
Value = TypeVar("Value")

# The parser of a value -> the placeholder of the value in `--help`.
_METAVARS: Final[dict[Callable[[str], Any], str]] = {}


def written(metavar: str) -> Callable[[Parse], Parse]:
    """Declare the placeholder of a parser's values in `--help`."""

    def note(parse: Parse) -> Parse:
        _METAVARS[parse] = metavar
        return parse

    return note


@written("BOOL")
def boolean(text: str) -> bool:
    """Return a boolean as Go's flag package writes it."""
    if text in TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("is neither true nor false")


def _whole(text: str, most: int, otherwise: str) -> int:
    """Return a whole number from 1 to `most`, with no more digits than that has; raise a ValueError for others."""
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most:
        return int(text)
    raise ValueError(otherwise)


@written("PORT")
def port(text: str) -> int:
    """Return a TCP port."""
    return _whole(text, 65535, "is not a port (1 to 65535)")


@written("PORT")
def port_or_none(text: str) -> int:
    """Return a TCP port, or 0 for none."""
    return 0 if text == "0" else port(text)


@written("SIZE")
def size(text: str) -> int:
    """Return a number of bytes, from 1 to 2 GiB."""
    match = re.fullmatch(r"([0-9]{1,15})([KMG]i?B?)?", text)
    if not match or (match[2] or "") not in _BYTE_UNITS:
        raise ValueError("is not a size in bytes (a whole number, or one with KiB, MiB or GiB)")
    found = int(match[1]) * _BYTE_UNITS[match[2] or ""]
    if not 1 <= found <= 1 << 31:
        raise ValueError("is not between 1 byte and 2GiB")
    return found


@written("SIZE")
def size_or_none(text: str) -> int:
    """Return a number of bytes, or 0 for none."""
    return 0 if text == "0" else size(text)


@written("BOOL|SIZE")
def models_list(text: str) -> int:
    """Return the length in bytes of the longest list of models to answer with; 0 for none at all."""
    if text in _FALSE:
        return 0
    if text in TRUE:
        return LONGEST_LIST_BYTES
    try:
        return size(text)
    except ValueError as error:
        raise ValueError(f"is neither true nor false, and {error}") from None


@written("SECONDS")
def seconds(text: str) -> float:
    """Return a time in seconds, 0 allowed."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text):
        raise ValueError("is not a number of seconds from 0 to 999999")
    return float(text)


@written("SECONDS")
def positive_seconds(text: str) -> float:
    """Return a time in seconds of more than 0."""
    found = seconds(text)
    if not found:
        raise ValueError("is not more than 0 seconds")
    return found


@written("SECONDS")
def poll_seconds(text: str) -> float:
    """Read how often something is asked, in seconds from 1 to 60."""
    found = seconds(text)
    if not 1 <= found <= 60:
        raise ValueError("is not from 1 to 60 seconds")
    return found


@written("SECONDS")
def busy_poll(text: str) -> float:
    """Return a time in seconds, 0 allowed, for which a processor may be kept busy for nothing."""
    found = seconds(text)
    if found > 1:
        raise ValueError("is more than 1 second")
    return found


@written("NUMBER")
def count(text: str) -> int:
    """Return a number from 1 to a million."""
    return _whole(text, 1_000_000, "is not a number from 1 to 1000000")


@written("LINES")
def lines(text: str) -> int:
    """Return a number of lines, up to a million, 0 for no bound."""
    return 0 if text == "0" else count(text)


@written("off|errors|RATIO|all")
def logged_requests(text: str) -> str:
    """Return which requests to log: a word of _LOGGED_SHARES, or a share from 0 to 1."""
    if text in _LOGGED_SHARES or (re.fullmatch(r"[01](\.[0-9]{1,9})?", text) and float(text) <= 1):
        return text
    raise ValueError("is not one of off, errors, all, or a ratio from 0 to 1, as in 0.01")


def logged_share(text: str) -> float | None:
    """Return the share of requests that are no errors, 0 to 1, of a text that logged_requests took; None for off."""
    return _LOGGED_SHARES[text] if text in _LOGGED_SHARES else float(text)


@written("BYTES")
def model_length(text: str) -> int:
    """Return a length in bytes, up to the longest name that the router can carry."""
    return _whole(text, LONGEST_MODEL_BYTES, f"is not a length from 1 to {LONGEST_MODEL_BYTES} bytes")


@written("NAME")
def routing_headers(text: str) -> tuple[str, ...]:
    """Return names of headers for the router to set, as they are written; none for the word none."""
    names = [name.strip(" ") for name in text.split(",")]
    if names == ["none"]:
        return ()
    for name in names:
        _check_header_name(name.lower())
    return tuple({name.lower(): name for name in names}.values())


# Without these a request is another one.
_NEEDED_HEADERS: Final = ("host", "content-length", "transfer-encoding", "content-type")


def _check_header_name(name: str) -> None:
    """Raise for what is no name in small letters of a header that a router may touch."""
    if not _LONG_HEADER_NAME.fullmatch(name):
        raise ValueError("is not a header name, or several with commas between")
    if name in _NEEDED_HEADERS:
        raise ValueError(f"names {name}, which every request needs")


def _check_header_prefix(prefix: str) -> None:
    """Raise for what is not how names of headers begin that may be removed from a request."""
    if not prefix or "*" in prefix:
        raise ValueError("has a * that is not at the end of a name")
    _check_header_name(prefix)
    for name in _NEEDED_HEADERS:
        if fold(name).startswith(fold(prefix)):
            raise ValueError(f"covers {name}, which every request needs")


@written("NAME")
def header_names(text: str) -> tuple[str, ...]:
    """Return names of headers that may be removed from a request, in small letters; a last * stands for any rest."""
    names = [name.strip(" ").lower() for name in text.split(",")]
    for name in names:
        if "*" in name:
            _check_header_prefix(name.removesuffix("*"))
        else:
            _check_header_name(name)
        if name in (MODEL_HEADER.lower(), BASE_MODEL_HEADER.lower()):
            raise ValueError(f"names {name}, a routing header, which has rules of its own")
    return tuple(names)


def check_header_count(steering: ClientSteering, *several: Iterable[str]) -> None:
    """Raise for more names of headers than one answer can remove, those that it removes anyway included."""
    always = {ClientSteering.NONE: (*STEERING_HEADERS, *PRIORITY_HEADERS), ClientSteering.PRIORITY: STEERING_HEADERS}
    names = {name.lower() for each in several for name in each if not name.endswith("*")}
    names.update((MODEL_HEADER.lower(), BASE_MODEL_HEADER.lower(), DESTINATION_HEADER), always.get(steering, ()))
    if len(names) > MAX_ALWAYS_REMOVED:
        raise ValueError(
            f"--model-header, --base-model-header, --strip-header and --body-field: with the headers that are removed "
            f"anyway these are {len(names)}; at most {MAX_ALWAYS_REMOVED} are allowed, since Envoy rejects an answer "
            "that changes more than 100. In --strip-header NAME* stands for many names"
        )


# A gateway lets nobody set these, or a request means something else with them.
_UNSETTABLE_HEADERS: Final = (
    *("connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect", "content-encoding"),
    *(DESTINATION_HEADER, MODEL_HEADER.lower(), BASE_MODEL_HEADER.lower(), *STEERING_HEADERS),
)
_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(?:\.[A-Za-z0-9_-]{1,64})?")


@written("FIELD=HEADER[:OPTION...]")
def body_fields(text: str) -> tuple[BodyField, ...]:
    """Return fields of the body whose values go into headers."""
    fields = [_body_field(each.strip(" ")) for each in text.split(",")]
    if len(fields) > MAX_FIELDS:
        raise ValueError(f"has {len(fields)} fields; at most {MAX_FIELDS} are allowed")
    headers = [field.header.lower() for field in fields]
    for field in fields:
        if headers.count(field.header.lower()) > 1:
            raise ValueError(f"sets the header {field.header} twice")
    roots = {field.name.partition(".")[0] for field in fields}
    for root in sorted(roots):
        if any(root != other and root.casefold() == other.casefold() for other in roots):
            raise ValueError(f"has two spellings of {root}, which some servers take for one")
        if root in (field.name for field in fields) and any(field.name.startswith(f"{root}.") for field in fields):
            raise ValueError(f"has {root} both as a field and as an object with fields")
    return tuple(fields)


def _body_field(text: str) -> BodyField:
    name, equals, rest = text.partition("=")
    header, *words = rest.split(":")
    if not equals or not _FIELD_NAME.fullmatch(name):
        raise ValueError("is not FIELD=HEADER, as in user=x-user or metadata.session_id=x-session:sha256")
    if name.partition(".")[0].casefold() == "model":
        raise ValueError("has the field model, which --model-header is for")
    _check_settable(header.lower())
    field = BodyField(name, header)
    for word in words:
        option, _, value = word.partition("=")
        if word == "sha256":
            field = field._replace(hashed=True)
        elif word in ("early", "whole"):
            field = field._replace(early=word == "early")
        elif word == "log":
            field = field._replace(logged=True)
        elif option == "max-bytes" and re.fullmatch("[1-9][0-9]{0,3}", value) and int(value) <= LONGEST_VALUE_BYTES:
            field = field._replace(max_bytes=int(value))
        else:
            known = f"sha256, early, whole, log or max-bytes=N (1 to {LONGEST_VALUE_BYTES})"
            raise ValueError(f"has the option {quoted(word)}, which is not {known}")
    return field


def _check_settable(name: str) -> None:
    """Raise for what is no name in small letters of a header that may be set to what a client says."""
    if not name:
        raise ValueError("names no header behind =; pseudo-headers such as :path can't be set")
    _check_header_name(name)
    if name in _UNSETTABLE_HEADERS:
        raise ValueError(f"sets {name}, which a client's body must not do")
    if name.startswith("x-envoy-"):
        raise ValueError(f"sets {name}; gateways keep the x-envoy- headers to themselves")


def is_header_name(text: str) -> bool:
    """Tell whether a text is the name of a header, in any letter case and of at most 256 characters."""
    return bool(_LONG_HEADER_NAME.fullmatch(text.lower()))


@written("NAME")
def header_name(text: str) -> str:
    """Return the name of a header that is looked at, in small letters."""
    name = text.lower()
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("is not a header name")
    return name


@written("WHERE")
def asker(text: str) -> Asker:
    """Return where a gateway names the client."""
    kind, _, name = text.partition(":")
    if kind == "header" and _HEADER_NAME.fullmatch(name.lower()):
        return Asker(header=name.lower())
    path = tuple(name.replace(":", "/", 1).split("/"))
    if kind == "metadata" and ":" in name and all(path) and len(name) <= _MAX_METADATA_CHARACTERS:
        return Asker(metadata=path)
    if kind == "attribute" and _ATTRIBUTE.fullmatch(name):
        return Asker(attribute=name)
    raise ValueError(
        "is none of header:NAME, metadata:NAMESPACE:KEY and attribute:NAME, as in header:x-team, "
        "metadata:envoy.filters.http.jwt_authn:payload/sub and attribute:connection.uri_san_peer_certificate"
    )


@written("WHERE")
def scope(text: str) -> Asker | None:
    """Return where a gateway names the scope; None if the host decides."""
    if text == "host":
        return None
    try:
        return asker(text)
    except ValueError as error:
        raise ValueError(str(error).replace("is none of ", "is none of host, ", 1)) from None


@written("NAME")
def client_names(text: str) -> tuple[AllowedName, ...]:
    """Return rules for the names in clients' certificates."""
    return tuple(AllowedName(name.strip(" ")) for name in text.split(","))


@written("PATH")
def query_paths(text: str) -> frozenset[bytes]:
    """Return URL paths, as bytes; none for the word none."""
    paths = text.split(",")
    if paths == ["none"]:
        return frozenset()
    for path in paths:
        if not re.fullmatch(r"/[!-~]{0,511}", path) or "?" in path or "#" in path:
            raise ValueError(
                "is neither none nor a URL path (it begins with / and has no ? or #), or several with commas"
            )
    return frozenset(path.encode() for path in paths)


@written("TEMPLATE")
def templates(text: str) -> tuple[Template, ...]:
    """Return templates of URL paths that name a model."""
    templates = parse_templates(text)
    if not templates:
        raise ValueError("names no template; give a path with {model}, a vendor's name, or several with commas")
    return templates


@written("PATTERN")
def path_patterns(text: str) -> tuple[PathPattern, ...]:
    """Return patterns of URL paths."""
    texts = [each.strip(" ") for each in text.split(",")]
    if len(texts) > MAX_PATTERNS:
        raise ValueError(f"has {len(texts)} path patterns; at most {MAX_PATTERNS} are allowed")
    return read_each(texts, PathPattern)


@written("NAME")
def model_name(text: str) -> str:
    """Return a model's name."""
    try:
        return check_model(text, LONGEST_MODEL_BYTES)
    except UnicodeEncodeError:
        raise ValueError("is not a model's name: it is not UTF-8") from None
    except Refusal as refused:
        raise ValueError(f"is not a model's name: {refused.about('it')}") from None


@written("NAMESPACE")
def metadata_namespace(text: str) -> str:
    """Return the name of a namespace of Envoy's dynamic metadata."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", text):
        raise ValueError("is not a metadata namespace (letters, digits, points, dashes, underscores)")
    return text


@written("NAMESPACE")
def namespace(text: str) -> str:
    """Return the name of a Kubernetes namespace."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
        raise ValueError("is not the name of a Kubernetes namespace (lower-case letters, digits, dashes, at most 63)")
    return text


@written("NAME")
def server_name(text: str) -> str:
    """Return a name that a certificate may be for."""
    label = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    if len(text) > 253 or not re.fullmatch(rf"{label}(\.{label})*", text):
        raise ValueError("is not the name of a server (letters, digits, dashes and dots, at most 253)")
    return text


def words(*known: str) -> Callable[[str], str]:
    """Return a parser that takes these words only."""
    return _one_of({word: word for word in known})


def choice(kind: type[Choice]) -> Callable[[str], Choice]:
    """Return a parser that takes the values of an enumeration, which are words."""
    return _one_of({each.value: each for each in kind})


def _one_of(known: Mapping[str, Value]) -> Callable[[str], Value]:
    @written("|".join(known))
    def parse(text: str) -> Value:
        if text in known:
            return known[text]
        raise ValueError(f"is not one of {', '.join(known)}")

    return parse


@written("ADDRESS")
def address(text: str) -> str:
    """Return an IP address in its usual form."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("is not an IP address") from None


@written("FILE")
def file(text: str) -> Path:
    """Return the path of a file, which need not exist."""
    if not text:
        raise ValueError("is not the name of a file")
    return Path(text)


@written("system|FILE")
def authorities(text: str) -> Path:
    """Return the path of a file with authorities; SYSTEM_AUTHORITIES for those that the system trusts."""
    return file(text)


@written("FILE|DIR")
def file_or_directory(text: str) -> Path:
    """Return the path of a file or a directory, which need not exist."""
    return file(text)


body_mode: Final = _one_of({"full-duplex": BodyMode.FULL_DUPLEX_STREAMED, "buffered": BodyMode.BUFFERED})
