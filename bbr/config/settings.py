"""Flags and environment -> one frozen Settings.

Each setting is declared once, as a field of Settings: its flag is `--field-name`, its environment variable
BBR_FIELD_NAME. A flag wins over the environment, the environment over the default.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bbr.config import options
from bbr.config.options import Option
from bbr.exchange.policy import BodyMode, Compat, InvalidJson, OverLimit
from bbr.headers import BASE_MODEL_HEADER, MODEL_HEADER
from bbr.models.routing import MissingModel, UnknownModel
from bbr.reading import uri
from bbr.reading.paths import PathPattern
from bbr.tls.client_names import AllowedName

ENVIRONMENT_PREFIX: Final = "BBR_"
NAMESPACE_VARIABLE: Final = "NAMESPACE"

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("auto", "json", "text")

_BODY_MODES: Final = {"full-duplex": BodyMode.FULL_DUPLEX_STREAMED, "buffered": BodyMode.BUFFERED}

# The Go routers' levels of debugging and tracing.
_DEBUG_VERBOSITY: Final = 4
_TRACE_VERBOSITY: Final = 5


class ConfigError(Exception):
    """A setting is unusable; the message names the flag or variable, the value, and the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that an operator can decide, checked."""

    transport: str = options.setting(
        options.choice({"uv": "uv", "grpcio": "grpcio"}),
        "uv",
        "NAME",
        "what speaks gRPC with the gateway: uv, our own HTTP/2, or grpcio, the reference, at many times the cost",
    )
    bind_address: str | None = options.setting(
        options.address, "", "ADDRESS", "IP address to listen on (default: every interface)"
    )
    grpc_port: int = options.setting(options.port, "9004", "PORT", "port for ext_proc, and for gRPC health checks")
    grpc_health_port: int = options.setting(
        options.port, "9005", "PORT", "port for gRPC health checks alone, always plaintext"
    )
    metrics_port: int = options.setting(
        options.port_or_none,
        "9090",
        "PORT",
        "port for metrics, health, debug pages and the status page, plaintext HTTP; 0 for none",
    )
    metrics_endpoint_auth: bool = options.setting(
        options.boolean,
        "false",
        "BOOL",
        "show /metrics, the status page and /debug to those alone whose bearer token the cluster allows to get them "
        "(TokenReview and SubjectAccessReview; the router's service account needs create on both). Needs --kubernetes",
    )
    secure_serving: bool = options.setting(
        options.boolean, "true", "BOOL", "serve TLS on the ext_proc port; with false it is plaintext"
    )
    tls_cert: Path | None = options.setting(
        options.file,
        "",
        "FILE",
        "PEM file with the server's certificate and chain, followed as it changes (default: a self-signed one, made at "
        "start)",
    )
    tls_key: Path | None = options.setting(
        options.file, "", "FILE", "PEM file with the key of --tls-cert, not encrypted, followed as it changes"
    )
    tls_client_ca: Path | None = options.setting(
        options.file,
        "",
        "FILE",
        "PEM file with the authorities of clients' certificates, followed as it changes; a client without one of their "
        "certificates is refused (default: none is asked for)",
    )
    tls_client_san: tuple[AllowedName, ...] | None = options.setting(
        options.client_names,
        "",
        "NAME",
        "a name that a client's certificate must be issued for (subject alternative name): a DNS name, where a first "
        "label * stands for any one label, or a URI, where /* at its end stands for whatever follows; may be given "
        "several times, or with commas (default: any certificate of --tls-client-ca)",
    )
    max_connections: int = options.setting(
        options.count,
        "10000",
        "NUMBER",
        "how many connections the ext_proc port has at a time; more are closed as they come",
    )
    max_connection_age: float = options.setting(
        options.seconds,
        "0",
        "SECONDS",
        "a connection older than this, give or take a tenth, takes no new requests and is closed after its last one, "
        "within --drain-seconds, so that its gateway connects anew, perhaps to another replica; 0 for no limit",
    )
    models: Path | None = options.setting(
        options.file,
        "",
        "FILE|DIR",
        "the model table: a YAML or JSON file, or a directory of them, followed as they change (default: none; every "
        "model is its own base model)",
    )
    kubernetes: bool = options.setting(
        options.boolean,
        "false",
        "BOOL",
        "take the model table from the cluster's ConfigMaps whose label inference.networking.k8s.io/bbr-managed or "
        'inference.llm-d.ai/ipp-managed is "true", followed as they change; together with --models, if that is given. '
        "Needs bbr[kubernetes]",
    )
    namespace: str | None = options.setting(
        options.namespace,
        "",
        "NAMESPACE",
        "with --kubernetes, look in this namespace only (default: the variable NAMESPACE, or all namespaces)",
    )
    kubeconfig: Path | None = options.setting(
        options.file,
        "",
        "FILE",
        "with --kubernetes, where the API server is and how to be let in (default: a pod's service account, the "
        "variable KUBECONFIG, or ~/.kube/config)",
    )
    sync_timeout: float = options.setting(
        options.seconds,
        "120",
        "SECONDS",
        "with --kubernetes, how long the first complete list of the ConfigMaps may take. Until then health checks say "
        "NOT_SERVING; when it is over, the router ends with exit status 1, so that its pod is seen to fail. 0 waits "
        "without end",
    )
    discover_routes: bool = options.setting(
        options.boolean,
        "false",
        "BOOL",
        "with --kubernetes, read HTTPRoutes too, and tell of base models that no route names and of model headers in "
        "routes that no model has",
    )
    unknown_model: UnknownModel = options.setting(
        options.choice({each.value: each for each in UnknownModel}),
        "reject",
        "ACTION",
        "what becomes of a request for a model that the table does not hold: reject answers 404; passthrough takes it "
        "for a base model; empty sets X-Gateway-Base-Model-Name to nothing, as the Go routers do; default routes it as "
        "one for --default-model",
    )
    missing_model: MissingModel = options.setting(
        options.choice({each.value: each for each in MissingModel}),
        "pass",
        "ACTION",
        "what becomes of a request whose body was read and names no model: pass sends it on without routing headers, "
        "reject answers 400, default routes it as one for --default-model",
    )
    default_model: str | None = options.setting(
        options.model_name,
        "",
        "NAME",
        "base model, adapter or alias for --unknown-model=default and --missing-model=default",
    )
    include_path: tuple[PathPattern, ...] | None = options.setting(
        options.path_patterns,
        "",
        "PATTERN",
        "read bodies of these URL paths only, as in /v1/chat/completions or /v1/**; all others pass unread, without "
        "routing headers. * stands for characters of one segment, ** for any segments; may be given several times, or "
        "with commas (default: every path)",
    )
    exclude_path: tuple[PathPattern, ...] | None = options.setting(
        options.path_patterns,
        "",
        "PATTERN",
        "read no bodies of these URL paths, even if they are included: they pass unread, without routing headers",
    )
    serve_models_list: bool = options.setting(
        options.boolean,
        "false",
        "BOOL",
        "answer GET /v1/models and GET /v1/models/{id} from the table. Whoever reaches the router can read it, perhaps "
        "before any authentication",
    )
    models_list_max_bytes: int = options.setting(
        options.size,
        "60000",
        "SIZE",
        "a longer list is not answered; the request passes. Google's gateways take at most 64 KB",
    )
    assume_body_mode: BodyMode = options.setting(
        options.choice(_BODY_MODES),
        "full-duplex",
        "MODE",
        "body mode of a gateway that does not tell: full-duplex or buffered",
    )
    streaming: bool | None = options.setting(
        options.boolean,
        "",
        "BOOL",
        "the Go routers' spelling: true is --assume-body-mode=full-duplex, false is buffered",
    )
    max_body_bytes: int = options.setting(
        options.size,
        "64MiB",
        "SIZE",
        "a larger JSON body or form is refused with 413 (see --over-limit), as it comes and decoded; bodies of other "
        "kinds are not bounded",
    )
    over_limit: OverLimit = options.setting(
        options.choice({action.value: action for action in OverLimit}),
        "reject",
        "ACTION",
        "what becomes of a body over --max-body-bytes that has named no model so far: reject answers 413, pass sends "
        "it on without routing headers",
    )
    stream_threshold_bytes: int = options.setting(
        options.size,
        "256KiB",
        "SIZE",
        "a longer JSON body is read piece by piece, and in full duplex goes on upstream once its model is known",
    )
    max_buffered_bytes: int = options.setting(
        options.size,
        "512MiB",
        "SIZE",
        "how much of bodies the process holds in all; without room a body is refused with 503 and Retry-After",
    )
    query_model_path: frozenset[bytes] = options.setting(
        options.query_paths,
        "/v1/realtime",
        "PATH",
        "a URL path on which ?model= names the model, compared exactly; may be given several times, or with commas; "
        "none for none",
    )
    path_template: tuple[uri.Template, ...] | None = options.setting(
        options.templates,
        "",
        "TEMPLATE",
        "URL paths that name the model, as in /openai/deployments/{model}/**, /**/models/{model}:* or "
        "/model/{model}/invoke; may be given several times, or with commas",
    )
    max_model_length: int = options.setting(
        options.model_length, "256", "BYTES", "a longer model name is refused with 400"
    )
    on_invalid_json: InvalidJson = options.setting(
        options.choice({action.value: action for action in InvalidJson}),
        "reject",
        "ACTION",
        "what becomes of a body that is no strict JSON (NaN, a lone surrogate, a byte order mark, broken): reject "
        "answers 400, pass-stripped sends it on without routing headers",
    )
    duplex_idle_seconds: float = options.setting(
        options.positive_seconds, "60", "SECONDS", "how long a body may stand still in full duplex; then 408"
    )
    buffered_wait_seconds: float = options.setting(
        options.positive_seconds, "300", "SECONDS", "how long a body may take to come in the other body modes; then 408"
    )
    model_header: tuple[str, ...] = options.setting(
        options.routing_headers,
        MODEL_HEADER,
        "NAME",
        "header that gets the requested model; may be given several times, or with commas; none for none",
    )
    base_model_header: tuple[str, ...] = options.setting(
        options.routing_headers,
        BASE_MODEL_HEADER,
        "NAME",
        "header that gets the base model; may be given several times, or with commas; none for none. A client's own "
        "are removed, and so are the two default names whatever names are set",
    )
    strip_header: tuple[str, ...] | None = options.setting(
        options.header_names,
        "",
        "NAME",
        "a header of the client's to remove from every request, besides the routing headers and "
        "x-gateway-destination-endpoint; may be given several times, or with commas",
    )
    trust_client_headers: bool = options.setting(
        options.boolean,
        "false",
        "BOOL",
        "DANGEROUS: leave a client's own routing headers in requests that name no model. Whoever can reach the gateway "
        "can then pick any pool, past whatever authorises models by these headers",
    )
    dynamic_metadata: str | None = options.setting(
        options.metadata_namespace,
        "",
        "NAMESPACE",
        "also tell the gateway requested model, base model and outcome as dynamic metadata under this name, for its "
        "access log and rate limits (Envoy: metadata_options.receiving_namespaces.untyped)",
    )
    single_reply_bytes: int = options.setting(
        options.single_reply,
        "0",
        "SIZE",
        "in full duplex, give bodies up to SIZE back in one message with the headers (CONTINUE_AND_REPLACE), at less "
        "cost for Envoy. Not every gateway takes it; 0 is off",
    )
    busy_poll: float = options.setting(
        options.busy_poll,
        "0",
        "SECONDS",
        "keep the processor from sleeping for so long after anything has come, at most 1: a request alone is answered "
        "faster, and while requests come more often than that, it takes a whole processor. Needs --transport=uv",
    )
    tracing: bool = options.setting(
        options.boolean,
        "false",
        "BOOL",
        "send a span for each request to an OpenTelemetry collector, as the OTEL_* variables say: where, under which "
        "name, of which traces. Needs bbr[otel]",
    )
    drain_delay_seconds: float = options.setting(
        options.seconds,
        "3",
        "SECONDS",
        "how long to go on after SIGTERM while health checks say NOT_SERVING already, so that gateways send nothing "
        "more here by the time that the port is closed; over at once when no gateway is connected any more",
    )
    compat: Compat = options.setting(
        options.choice({each.value: each for each in Compat}),
        "none",
        "PEER",
        "DANGEROUS: answer as a Go router does where we differ on purpose: gie (the Gateway API Inference Extension's "
        "body-based router) or ipp (llm-d's payload processor). A client's own routing headers are then left in "
        "requests that name no model",
    )
    v: int | None = options.setting(
        options.verbosity,
        "",
        "NUMBER",
        "the Go routers' spelling: 4 is --log-level=debug, 5 and more is --access-log=all as well",
    )
    drain_seconds: float = options.setting(
        options.seconds,
        "25",
        "SECONDS",
        "how long running requests may take to finish after SIGTERM (and --drain-delay-seconds), or on a connection "
        "past --max-connection-age",
    )
    log_level: str = options.setting(
        options.choice({level: level for level in LOG_LEVELS}),
        "info",
        "LEVEL",
        "what is written to stderr: debug, info, warning or error, and what is worse. Requests have --access-log",
    )
    log_format: str = options.setting(
        options.choice({form: form for form in LOG_FORMATS}),
        "auto",
        "FORMAT",
        "json, one object a line; text, for people; auto is text if stderr is a terminal, else json",
    )
    access_log: str = options.setting(
        options.choice({"off": "off", "errors": "errors", "all": "all"}),
        "errors",
        "REQUESTS",
        "which requests are logged, at every --log-level: off for none; errors for those that were refused or broke "
        "the protocol, and --access-log-sample of the others; all",
    )
    access_log_sample: float = options.setting(
        options.ratio, "0", "RATIO", "with --access-log=errors, the share of other requests to log, 0 to 1, at random"
    )
    access_log_rate: int = options.setting(
        options.lines,
        "100",
        "LINES",
        "at most so many refused requests are logged in a second, and as many others; a line tells how many more there "
        "were. 0 for no bound",
    )


OPTIONS: Final[Mapping[str, Option]] = {field.name: field.metadata["option"] for field in dataclasses.fields(Settings)}


def flag_of(name: str) -> str:
    """Return the flag of a field of Settings."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """Return the environment variable of a field of Settings."""
    return ENVIRONMENT_PREFIX + name.upper()


def load(flags: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """Build Settings from raw texts.

    Args:
        flags: field name -> text, of the flags that were given.
        environment: the process environment; an empty variable counts as absent.

    Raises:
        ConfigError: a value is unusable, or two settings contradict each other.
    """
    values: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        variable = variable_of(name)
        if name in flags:
            values[name] = _parse(flag_of(name), flags[name], option)
        elif environment.get(variable) and not _is_service_link(option, environment[variable]):
            values[name] = _parse(variable, environment[variable], option)
    if values.get("kubernetes") and environment.get(NAMESPACE_VARIABLE):
        # As the Go routers' chart sets it, from the pod's own.
        values.setdefault(
            "namespace", _parse(NAMESPACE_VARIABLE, environment[NAMESPACE_VARIABLE], OPTIONS["namespace"])
        )
    if "streaming" in values:
        _apply_streaming(values, flags)
    _apply_compat(values)
    _apply_verbosity(values)
    settings = Settings(**values)
    _check(settings)
    return settings


def _is_service_link(option: Option, text: str) -> bool:
    """Tell whether Kubernetes has set a port's variable, for a Service called bbr-grpc, say: no operator's word."""
    return option.parse in (options.port, options.port_or_none) and text.startswith("tcp://")


def _apply_streaming(values: dict[str, Any], flags: Mapping[str, str]) -> None:
    """Let the Go routers' spelling stand for --assume-body-mode; of two that differ, a flag wins over a variable."""
    meant = BodyMode.FULL_DUPLEX_STREAMED if values["streaming"] else BodyMode.BUFFERED
    if values.setdefault("assume_body_mode", meant) == meant:
        return
    if ("streaming" in flags) == ("assume_body_mode" in flags):
        raise ConfigError("--streaming and --assume-body-mode contradict each other: leave one out")
    if "streaming" in flags:
        values["assume_body_mode"] = meant


def _apply_compat(values: dict[str, Any]) -> None:
    """Give what is not set the value that it has in the router whose answers are wanted."""
    compat = values.get("compat", Compat.NONE)
    if compat is not Compat.NONE:
        values.setdefault("unknown_model", UnknownModel.EMPTY)
    if compat is Compat.GIE:
        values.setdefault("assume_body_mode", BodyMode.BUFFERED)


def _apply_verbosity(values: dict[str, Any]) -> None:
    """Let the Go routers' spelling stand for how much is logged, where that is not said in ours."""
    verbosity = values.get("v", 0)
    if verbosity >= _DEBUG_VERBOSITY:
        values.setdefault("log_level", "debug")
    if verbosity >= _TRACE_VERBOSITY:
        values.setdefault("access_log", "all")


def _parse(source: str, text: str, option: Option) -> Any:
    try:
        return option.parse(text)
    except ValueError as error:
        raise ConfigError(f"{source}: {text!r} {error}") from None


def _check(settings: Settings) -> None:
    for one, other in itertools.combinations(("grpc_port", "grpc_health_port", "metrics_port"), 2):
        port = getattr(settings, one)
        if port == getattr(settings, other):
            raise ConfigError(f"{flag_of(one)} and {flag_of(other)} are both {port}: they must differ")
    for given, missing in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if getattr(settings, given) and not getattr(settings, missing):
            raise ConfigError(f"{flag_of(given)} needs {flag_of(missing)} as well: a certificate and its key")
    for name in ("tls_cert", "tls_client_ca"):
        if getattr(settings, name) and not settings.secure_serving:
            raise ConfigError(f"{flag_of(name)} and --secure-serving=false contradict each other: leave one out")
    if settings.tls_client_san and not settings.tls_client_ca:
        raise ConfigError("--tls-client-san needs --tls-client-ca as well: whose certificates name clients")
    for name in ("namespace", "kubeconfig", "discover_routes", "metrics_endpoint_auth"):
        if getattr(settings, name) and not settings.kubernetes:
            raise ConfigError(f"{flag_of(name)} needs --kubernetes")
    if settings.access_log_sample and settings.access_log != "errors":
        raise ConfigError(f"--access-log-sample needs --access-log=errors, and not {settings.access_log}")
    if settings.busy_poll and settings.transport != "uv":
        raise ConfigError(f"--busy-poll needs --transport=uv, and not {settings.transport}")
    _check_headers(settings)
    _check_default_model(settings)
    if settings.max_connection_age and not settings.drain_seconds:
        raise ConfigError(
            "--max-connection-age needs --drain-seconds of more than 0: requests of a connection that is too old would "
            "be cut off"
        )


def _check_headers(settings: Settings) -> None:
    models, base_models = (
        {name.lower() for name in each} for each in (settings.model_header, settings.base_model_header)
    )
    for name in models & base_models:
        raise ConfigError(f"--model-header and --base-model-header are both {name}: they must differ")
    for name in (models | base_models).intersection(settings.strip_header or ()):
        raise ConfigError(f"--strip-header: {name} is a routing header, which has rules of its own")
    if settings.discover_routes and (models, base_models) != ({MODEL_HEADER.lower()}, {BASE_MODEL_HEADER.lower()}):
        raise ConfigError("--discover-routes knows routes by the default --model-header and --base-model-header only")


def _check_default_model(settings: Settings) -> None:
    wanted = [
        f"{flag_of(name)}=default"
        for name in ("unknown_model", "missing_model")
        if getattr(settings, name).value == "default"
    ]
    if wanted and not settings.default_model:
        raise ConfigError(f"{wanted[0]} needs --default-model: the model to route as")
