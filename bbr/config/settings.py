"""What an operator can decide: one frozen Settings. `loading` makes it of flags and environment variables.

Each setting is declared once, as a field of Settings: its flag is `--field-name`, its environment variable
BBR_FIELD_NAME. A flag wins over the environment, the environment over the default.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bbr.config import options
from bbr.config.options import Group, Option
from bbr.exchange.asker import Asker
from bbr.exchange.policy import AliasRewrite, BodyMode, ClientSteering, Compat, InvalidJson, OverLimit, UrlModel
from bbr.headers import BASE_MODEL_HEADER, MODEL_HEADER
from bbr.models.routing import MissingModel, UnknownModel
from bbr.reading.fields import BodyField
from bbr.reading.paths import PathPattern
from bbr.reading.templates import Template
from bbr.tls.client_names import AllowedName

ENVIRONMENT_PREFIX: Final = "BBR_"

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
LOG_FORMATS: Final = ("auto", "json", "text")

# Declare a setting in one of the groups of `--help`.
_port = partial(options.setting, Group.PORTS)
_table = partial(options.setting, Group.TABLE)
_reading = partial(options.setting, Group.READING)
_answer = partial(options.setting, Group.ANSWERS)
_body = partial(options.setting, Group.BODIES)
_life = partial(options.setting, Group.LIFE)
_log = partial(options.setting, Group.LOGS)
_rare = partial(options.setting, Group.RARE)


class ConfigError(Exception):
    """A setting is unusable; the message names the flag or variable, the value, and the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """How the process serves, whatever it answers: its ports and TLS, its end, its logs and traces."""

    bind_address: str | None = _port(options.address, "", "IP address to listen on (default: all)")
    grpc_port: int = _port(options.port, "9004", "port for ext_proc and for gRPC health checks")
    grpc_health_port: int = _port(options.port, "9005", "port for gRPC health checks only; it is always plaintext")
    metrics_port: int = _port(
        options.port_or_none,
        "9090",
        "port for metrics, health checks, debug pages and the status page; it is plaintext HTTP; 0 turns it off",
    )
    metrics_endpoint_auth: bool = _port(
        options.boolean,
        "false",
        "show /metrics, /debug and the status page only to clients whose bearer token the cluster allows to get them "
        "(TokenReview and SubjectAccessReview; the router's service account needs create on both). Needs --kubernetes",
    )
    secure_serving: bool = _port(options.boolean, "true", "serve TLS on the ext_proc port; false makes it plaintext")
    tls_cert: Path | None = _port(
        options.file,
        "",
        "PEM file with the server's certificate and chain; it is read again when it changes (default: a self-signed "
        "certificate, made at the start)",
    )
    tls_key: Path | None = _port(
        options.file, "", "PEM file with the unencrypted key of --tls-cert; it is read again when it changes"
    )
    tls_client_ca: Path | None = _port(
        options.file,
        "",
        "PEM file with the authorities that sign client certificates; it is read again when it changes. Clients "
        "without such a certificate are rejected (default: clients need no certificate)",
    )
    tls_client_san: tuple[AllowedName, ...] | None = _port(
        options.client_names,
        "",
        "a subject alternative name that a client certificate must have: a DNS name, in which * as the first label "
        "matches any label, or a URI, in which /* at the end matches any rest; may be given several times, or with "
        "commas (default: any certificate that --tls-client-ca signed)",
    )

    drain_delay_seconds: float = _life(
        options.seconds,
        "3",
        "how long the router still accepts requests after SIGTERM, while health checks already say NOT_SERVING, so "
        "that gateways stop sending requests before the port closes; ends early if no gateway is connected",
    )
    drain_seconds: float = _life(
        options.seconds,
        "25",
        "how long running requests may take to finish after SIGTERM and --drain-delay-seconds, or on a connection that "
        "is older than --max-connection-age",
    )
    max_connection_age: float = _life(
        options.seconds,
        "0",
        "a connection older than this (plus or minus a tenth) accepts no new requests and closes after its last one, "
        "at most --drain-seconds later, so that the gateway connects again, perhaps to another replica; 0 turns it "
        "off",
    )

    log_level: str = _log(
        options.words(*LOG_LEVELS),
        "info",
        "the least severe level to log: debug, info, warning or error. For requests see --access-log",
    )
    log_format: str = _log(
        options.words(*LOG_FORMATS),
        "auto",
        "json writes one object per line; text is for people; auto is text if stderr is a terminal, else json",
    )
    access_log: str = _log(
        options.logged_requests,
        "errors",
        "the requests to log, at every --log-level: off; errors (requests that were rejected or broke the protocol); a "
        "share from 0 to 1, as in 0.01, which logs errors and that share of the other requests, chosen at random; all",
    )
    access_log_rate: int = _log(
        options.lines,
        "100",
        "the most lines per second for rejected requests, and the same for other requests; a line says how many were "
        "left out; 0 sets no limit",
    )
    tracing: bool = _log(
        options.boolean,
        "false",
        "send a span for each request to an OpenTelemetry collector; the OTEL_* variables name the collector, the "
        "service and the sampler. Needs body-based-router[otel]",
    )
    genai_metrics: bool = _rare(
        options.boolean,
        "false",
        "count requests by OpenTelemetry's attributes for generative AI too (operation, provider, requested model), "
        "and measure the time to the first token if the gateway sends responses to the router; at most 2,000 series "
        "each",
    )

    max_connections: int = _rare(
        options.count,
        "10000",
        "the most connections on the ext_proc port; one more replaces the connection that has been idle longest",
    )
    busy_poll: float = _rare(
        options.busy_poll,
        "0",
        "keep polling for this long (at most 1) after each event instead of sleeping. Single requests are answered "
        "faster, but a whole processor is in use as long as requests come more often than that. Needs --transport=uv",
    )
    transport: str = _rare(
        options.words("uv", "grpcio"),
        "uv",
        "the gRPC server: uv is bbr's own HTTP/2; grpcio is Python's gRPC library, which costs many times as much",
    )

    @property
    def access_log_share(self) -> float | None:
        """The share of requests to log besides errors, 0 to 1; None if not even errors are logged."""
        return options.logged_share(self.access_log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ProcessSettings):
    """All that an operator can decide, checked. `bbr serve --help` groups the settings and keeps their order."""

    models: Path | None = _table(
        options.file_or_directory,
        "",
        "the model table: a YAML or JSON file, or a directory of such files; they are read again when they change "
        "(default: no table; every model is its own base model)",
    )
    kubernetes: bool = _table(
        options.boolean,
        "false",
        "read the model table from the cluster's ConfigMaps whose label inference.networking.k8s.io/bbr-managed or "
        'inference.llm-d.ai/ipp-managed is "true", and follow their changes; may be combined with --models. '
        "Needs body-based-router[kubernetes]",
    )
    namespace: str | None = _table(
        options.namespace,
        "",
        "with --kubernetes, read this namespace only (default: the variable NAMESPACE, or all namespaces)",
    )
    kubeconfig: Path | None = _table(
        options.file,
        "",
        "with --kubernetes, the file that names the API server and the credentials for it (default: the pod's service "
        "account, the variable KUBECONFIG, or ~/.kube/config)",
    )
    discover_routes: bool = _table(
        options.boolean,
        "false",
        "with --kubernetes, read HTTPRoutes too, and report base models that no route names and routes for models that "
        "are not in the table",
    )
    discover_adapters: bool = _table(
        options.boolean,
        "false",
        "with --kubernetes, ask the model servers of InferencePools for the LoRA adapters that they have loaded (GET "
        "/v1/models), and route to those too. What the table declares counts first. Needs the right to read "
        "InferencePools, HTTPRoutes and pods",
    )
    unknown_model: UnknownModel = _table(
        options.choice(UnknownModel),
        "reject",
        "what happens to a request for a model that is not in the table: reject answers 404; passthrough treats the "
        "name as a base model; empty sets an empty X-Gateway-Base-Model-Name, as the Go routers do; default routes it "
        "like a request for --default-model",
    )
    missing_model: MissingModel = _table(
        options.choice(MissingModel),
        "pass",
        "what happens to a request whose body was read and names no model: pass sends it on without routing headers; "
        "reject answers 400; default routes it like a request for --default-model, and treats null and an empty name "
        "as no model",
    )
    default_model: str | None = _table(
        options.model_name,
        "",
        "the base model, adapter or alias for --unknown-model=default and --missing-model=default",
    )
    asker: Asker | None = _table(
        options.asker,
        "",
        "where the gateway says which client sends a request, for models that not every client may use (`allow` in the "
        "table). header:NAME is a request header with one name, or several with commas; the gateway must set it, or "
        "remove the client's own, before the router sees the request. metadata:NAMESPACE:KEY/KEY is a value in the "
        "gateway's dynamic metadata, attribute:NAME is an attribute of the request; no client can write those "
        "(default: no client is known)",
    )
    scope: Asker | None = _table(
        options.scope,
        "host",
        "what tells the scope of a request, if the table has `scopes`. host: the host that the client asks for, which "
        "it can choose if the gateway lets it. header:NAME, metadata:NAMESPACE:KEY/KEY and attribute:NAME: where the "
        "gateway tells the scope's name, as for --asker",
    )
    serve_models_list: int = _table(
        options.models_list,
        "false",
        "answer GET /v1/models and GET /v1/models/{id} from the table. Everybody who reaches the router through the "
        "gateway can read the list, perhaps without authentication. If the list is longer than a size, as in 1MiB, the "
        "request passes; true stands for 60000 bytes, since Google's gateways accept 64 KB",
    )

    include_path: tuple[PathPattern, ...] | None = _reading(
        options.path_patterns,
        "",
        "read only the bodies of these URL paths, as in /v1/chat/completions or /v1/**; other requests pass without "
        "routing headers. * matches characters within one segment, ** matches any segments; may be given several "
        "times, or with commas (default: every path)",
    )
    exclude_path: tuple[PathPattern, ...] | None = _reading(
        options.path_patterns,
        "",
        "do not read the bodies of these URL paths, even if --include-path matches; such requests pass without routing "
        "headers",
    )
    query_model_path: frozenset[bytes] = _reading(
        options.query_paths,
        "/v1/realtime",
        "a URL path, compared exactly, on which ?model= names the model; may be given several times, or with commas; "
        "none turns it off",
    )
    path_template: tuple[Template, ...] | None = _reading(
        options.templates,
        "",
        "URL paths that name the model, as in /openai/deployments/{model}/chat/completions, /**/models/{model}:* or "
        "/model/{model}/invoke; azure-openai, openai-engines, gemini and bedrock stand for all paths of these APIs. "
        "{model} may contain slashes, escaped or not, unless the template ends with **; may be given several times, or "
        "with commas",
    )
    url_model: UrlModel = _reading(
        options.choice(UrlModel),
        "agrees",
        "what happens to a request whose URL and body name different models: agrees answers 400; wins routes it by the "
        "URL, as Azure OpenAI does by the deployment. Use wins only if the servers go by the URL too: a server that "
        "goes by the body would run a model that was not routed",
    )
    on_invalid_json: InvalidJson = _reading(
        options.choice(InvalidJson),
        "reject",
        "what happens to a body that is not strict JSON (broken, NaN, a lone surrogate, a byte order mark): reject "
        "answers 400; pass-stripped sends it on without routing headers",
    )

    model_header: tuple[str, ...] = _answer(
        options.routing_headers,
        MODEL_HEADER,
        "the header that gets the requested model; may be given several times, or with commas; none sets no header",
    )
    base_model_header: tuple[str, ...] = _answer(
        options.routing_headers,
        BASE_MODEL_HEADER,
        "the header that gets the base model; may be given several times, or with commas; none sets no header. A "
        "client's own routing headers are removed, under the two default names too",
    )
    strip_header: tuple[str, ...] | None = _answer(
        options.header_names,
        "",
        "a client's header to remove from every request, besides the routing headers, x-gateway-destination-endpoint "
        "and those of --client-steering; a * at the end matches any rest, as in x-llm-d-*; may be given several times, "
        "or with commas",
    )
    client_steering: ClientSteering = _answer(
        options.choice(ClientSteering),
        "none",
        "which of a client's headers may steer endpoint pickers and the sidecars of model servers: none removes them "
        "all; priority keeps those for priority, fairness and latency objectives, for gateways that set these "
        "themselves; all (DANGEROUS) lets a client choose another model than the one that was routed, and the "
        "addresses that a sidecar connects to. With --compat the default is all",
    )
    body_field: tuple[BodyField, ...] | None = _answer(
        options.body_fields,
        "",
        "a field of JSON bodies whose value goes into a header, as in user=x-user or "
        "metadata.session_id=x-session:sha256; may be given several times, or with commas, at most 8. A client's own "
        "copy of the header is removed. Options: sha256 (the header gets the hexadecimal digest); max-bytes=N (default "
        "256; a longer value gets 400); whole (the default: a body over 256 KiB waits for the field) or early (it "
        "does not: the field is looked for in the first 256 KiB only); log (the access log has the header's value)",
    )
    dynamic_metadata: str | None = _answer(
        options.metadata_namespace,
        "",
        "also give the gateway the requested model, the base model and the outcome as dynamic metadata in this "
        "namespace, for its access log and rate limits (Envoy: metadata_options.receiving_namespaces.untyped)",
    )
    compat: Compat = _answer(
        options.choice(Compat),
        "none",
        "DANGEROUS: answer like a Go router where bbr differs on purpose: gie (the body-based router of the Gateway "
        "API Inference Extension) or ipp (llm-d's payload processor). Requests that name no model then keep a client's "
        "own routing headers",
    )
    trust_client_headers: bool = _answer(
        options.boolean,
        "false",
        "DANGEROUS: keep a client's own routing headers in requests that name no model. Everybody who reaches the "
        "gateway can then choose any pool, and evade every rule that authorises models by these headers",
    )

    max_body_bytes: int = _body(
        options.size,
        "64MiB",
        "the largest JSON body or form, before and after decoding; larger ones get 413 (see --over-limit); bodies of "
        "other types have no limit",
    )
    over_limit: OverLimit = _body(
        options.choice(OverLimit),
        "reject",
        "what happens to a body over --max-body-bytes that has named no model so far: reject answers 413; pass "
        "sends it on without routing headers",
    )
    forward_decoded: bool = _body(
        options.boolean,
        "false",
        "decode encoded bodies (gzip, deflate, br, zstd) and send them on without Content-Encoding, if the router "
        "reads their type. Endpoint pickers reject encoded bodies, and some model servers do too",
    )
    max_buffered_bytes: int = _body(
        options.size,
        "512MiB",
        "the memory for everything that clients and gateways make the router hold: bodies, unfinished messages, "
        "waiting answers, calls, connections; when it is used up, new bodies get 503 with Retry-After, and the request "
        "that holds the most ends",
    )
    body_idle_seconds: float = _body(
        options.positive_seconds,
        "60",
        "how long a body may make no progress before the client gets 408. If the gateway collects the whole body "
        "before it sends it, the router sees no progress and waits five times as long",
    )
    body_min_rate: int = _body(
        options.size_or_none,
        "512",
        "the bytes per second that a body must bring until its model is known, measured over periods of "
        "--body-idle-seconds; a slower one gets 408. 0 allows any rate. It does not apply if the gateway collects the "
        "whole body before it sends it",
    )

    sync_timeout: float = _rare(
        options.seconds,
        "120",
        "with --kubernetes, how long the first complete list of ConfigMaps may take. Health checks say NOT_SERVING "
        "until then; after this time the router exits with status 1, so that the pod is seen to fail; 0 waits forever",
    )
    discover_interval: float = _rare(
        options.poll_seconds,
        "10",
        "with --discover-adapters, the time from one poll of a model server to the next, 1 to 60 seconds; up to a "
        "quarter more, at random",
    )
    discover_token_file: Path | None = _rare(
        options.file,
        "",
        "with --discover-adapters, a file with the bearer token that model servers ask for; it is read again for each "
        "poll. Every pod of a pool gets to see the token",
    )
    discover_ca: Path | None = _rare(
        options.authorities,
        "",
        "with --discover-adapters, ask model servers over HTTPS, and verify their certificates by the authorities in "
        "this PEM file, which is read again for each poll; system stands for those that the system trusts (default: "
        "ask over plain HTTP)",
    )
    discover_server_name: str | None = _rare(
        options.server_name,
        "",
        "with --discover-ca, the name that the model servers' certificates are for (default: the pod's address)",
    )
    alias_sticky_header: str | None = _rare(
        options.header_name,
        "",
        "for an alias with several models: requests with equal values in this header get the same model, in every "
        "replica; requests without it are spread at random (default: all requests are)",
    )
    alias_rewrite: AliasRewrite = _rare(
        options.choice(AliasRewrite),
        "header",
        "how a model server learns the real model of a request for an alias or for --default-model, whose body has "
        "another name: header sets x-llm-d-model-name-rewrite and x-gateway-model-name-rewrite, and the endpoint "
        "picker replaces the name in the body; off does nothing, for servers that know the aliases; body replaces the "
        "name in JSON bodies, for servers without such a picker (aliases in forms and encoded bodies are then "
        "rejected; see --forward-decoded). With --compat the default is off",
    )
    assume_body_mode: BodyMode = _rare(
        options.body_mode,
        "full-duplex",
        "the body mode to assume for a gateway that does not name its mode: full-duplex or buffered",
    )
    max_model_length: int = _rare(options.model_length, "256", "the longest model name; a longer one gets 400")


OPTIONS: Final[Mapping[str, Option]] = {field.name: field.metadata["option"] for field in dataclasses.fields(Settings)}


def flag_of(name: str) -> str:
    """Return the flag of a field of Settings."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """Return the environment variable of a field of Settings."""
    return ENVIRONMENT_PREFIX + name.upper()
