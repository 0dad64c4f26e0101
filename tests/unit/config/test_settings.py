import dataclasses
from pathlib import Path

import pytest

from bbr.config import loading
from bbr.config import settings as config
from bbr.config.options import MAX_TEXT_CHARACTERS, SYSTEM_AUTHORITIES
from bbr.config.settings import Settings
from bbr.exchange.asker import Asker
from bbr.exchange.policy import AliasRewrite, BodyMode, ClientSteering, Compat, InvalidJson, OverLimit, UrlModel
from bbr.models.routing import MissingModel, UnknownModel
from bbr.reading.fields import BodyField
from bbr.reading.header_names import MAX_ALWAYS_REMOVED
from bbr.reading.paths import PathPattern
from bbr.reading.templates import parse_templates
from bbr.text import MAX_QUOTED_CHARACTERS, quoted
from bbr.tls.client_names import AllowedName
from tests.unit.config.test_loading import PLAINTEXT, SERVICE_LINK, refusal

OF_A_CLUSTER = ("namespace", "kubeconfig", "discover_routes", "discover_adapters", "metrics_endpoint_auth")
OVER_HTTPS = {"kubernetes": "true", "discover_adapters": "true", "discover_ca": "system"}
# What a setting can't do without.
PARTNERS = {
    **{name: {"kubernetes": "true"} for name in OF_A_CLUSTER},
    **{name: {"kubernetes": "true", "discover_adapters": "true"} for name in ("discover_token_file", "discover_ca")},
    "discover_server_name": OVER_HTTPS,
    "tls_cert": {"secure_serving": "true", "tls_key": "tls.key"},
    "tls_key": {"secure_serving": "true", "tls_cert": "tls.crt"},
    "tls_client_ca": {"secure_serving": "true"},
    "tls_client_san": {"secure_serving": "true", "tls_client_ca": "ca.crt"},
    "unknown_model": {"default_model": "qwen"},
    "missing_model": {"default_model": "qwen"},
}

DUPLEX, BUFFERED = BodyMode.FULL_DUPLEX_STREAMED, BodyMode.BUFFERED


def by_flag(name, text):
    return loading.load({**PLAINTEXT, **PARTNERS.get(name, {}), name: text}, {})


def by_variable(name, text):
    texts = {**PLAINTEXT, **PARTNERS.get(name, {}), name: text}
    return loading.load({}, {config.variable_of(each): value for each, value in texts.items()})


def test_defaults():
    assert dataclasses.asdict(loading.load(PLAINTEXT, {})) == {
        "transport": "uv",
        "bind_address": None,
        "grpc_port": 9004,
        "grpc_health_port": 9005,
        "metrics_port": 9090,
        "metrics_endpoint_auth": False,
        "secure_serving": False,
        "tls_cert": None,
        "tls_key": None,
        "tls_client_ca": None,
        "tls_client_san": None,
        "max_connections": 10_000,
        "max_connection_age": 0.0,
        "models": None,
        "kubernetes": False,
        "namespace": None,
        "kubeconfig": None,
        "sync_timeout": 120.0,
        "discover_routes": False,
        "discover_adapters": False,
        "discover_interval": 10.0,
        "discover_token_file": None,
        "discover_ca": None,
        "discover_server_name": None,
        "unknown_model": UnknownModel.REJECT,
        "missing_model": MissingModel.PASS,
        "default_model": None,
        "include_path": None,
        "exclude_path": None,
        "serve_models_list": 0,
        "asker": None,
        "scope": None,
        "assume_body_mode": DUPLEX,
        "max_body_bytes": 64 << 20,
        "over_limit": OverLimit.REJECT,
        "forward_decoded": False,
        "max_buffered_bytes": 512 << 20,
        "query_model_path": frozenset([b"/v1/realtime"]),
        "path_template": None,
        "url_model": UrlModel.AGREES,
        "max_model_length": 256,
        "on_invalid_json": InvalidJson.REJECT,
        "body_idle_seconds": 60.0,
        "body_min_rate": 512,
        "model_header": ("X-Gateway-Model-Name",),
        "base_model_header": ("X-Gateway-Base-Model-Name",),
        "strip_header": None,
        "client_steering": ClientSteering.NONE,
        "alias_rewrite": AliasRewrite.HEADER,
        "alias_sticky_header": None,
        "body_field": None,
        "trust_client_headers": False,
        "dynamic_metadata": None,
        "busy_poll": 0.0,
        "tracing": False,
        "genai_metrics": False,
        "drain_delay_seconds": 3.0,
        "compat": Compat.NONE,
        "drain_seconds": 25.0,
        "log_level": "info",
        "log_format": "auto",
        "access_log": "errors",
        "access_log_rate": 100,
    }


def test_settings_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        loading.load(PLAINTEXT, {}).grpc_port = 1


USABLE = {
    "transport": {"grpcio": "grpcio", "uv": "uv"},
    "bind_address": {
        "127.0.0.1": "127.0.0.1",
        "0.0.0.0": "0.0.0.0",  # noqa: S104
        "::": "::",
        "::1": "::1",
        "0:0:0:0:0:0:0:1": "::1",
    },
    "grpc_port": {"1": 1, "80": 80, "65535": 65535, "09004": 9004},
    "grpc_health_port": {"1": 1, "65535": 65535},
    "metrics_port": {"0": 0, "1": 1, "65535": 65535},
    "metrics_endpoint_auth": {"true": True, "false": False},
    "secure_serving": {
        **dict.fromkeys(("false", "0", "f", "F", "FALSE", "False"), False),
        **dict.fromkeys(("true", "1", "t", "T", "TRUE", "True"), True),
    },
    "tls_cert": {"/etc/tls/tls.crt": Path("/etc/tls/tls.crt")},
    "tls_key": {"/etc/tls/tls.key": Path("/etc/tls/tls.key")},
    "tls_client_ca": {"/etc/tls/ca.crt": Path("/etc/tls/ca.crt")},
    "tls_client_san": {
        "gateway.example": (AllowedName("gateway.example"),),
        "*.gateways.example, spiffe://cluster.local/ns/gateways/*": (
            AllowedName("*.gateways.example"),
            AllowedName("spiffe://cluster.local/ns/gateways/*"),
        ),
    },
    "max_connections": {"1": 1, "10000": 10_000, "1000000": 1_000_000},
    "max_connection_age": {"0": 0.0, "0.5": 0.5, "1800": 1800.0},
    "models": {"models.yaml": Path("models.yaml"), "/etc/bbr/models": Path("/etc/bbr/models")},
    "kubernetes": {"true": True, "false": False},
    "namespace": {"default": "default", "a": "a", "team-1": "team-1", "a" * 63: "a" * 63},
    "kubeconfig": {"/etc/bbr/kubeconfig": Path("/etc/bbr/kubeconfig")},
    "sync_timeout": {"0": 0.0, "0.5": 0.5, "120": 120.0},
    "discover_routes": {"true": True, "false": False},
    "discover_adapters": {"true": True, "false": False},
    "discover_interval": {"1": 1.0, "2.5": 2.5, "60": 60.0},
    "discover_token_file": {"/etc/token": Path("/etc/token")},
    "discover_ca": {"/etc/ca.crt": Path("/etc/ca.crt"), "system": SYSTEM_AUTHORITIES},
    "discover_server_name": {each: each for each in ("vllm", "vllm.models.svc.cluster.local", "A-1.example", "a" * 63)},
    "unknown_model": {
        "reject": UnknownModel.REJECT,
        "passthrough": UnknownModel.PASSTHROUGH,
        "empty": UnknownModel.EMPTY,
        "default": UnknownModel.DEFAULT,
    },
    "missing_model": {
        "pass": MissingModel.PASS,
        "reject": MissingModel.REJECT,
        "default": MissingModel.DEFAULT,
    },
    "default_model": {"Qwen/Qwen2.5-3B-Instruct": "Qwen/Qwen2.5-3B-Instruct", "模型": "模型"},
    "include_path": {
        "/v1/**": (PathPattern("/v1/**"),),
        "/v1/chat/completions, /v1/embeddings": (PathPattern("/v1/chat/completions"), PathPattern("/v1/embeddings")),
    },
    "exclude_path": {"/v1/files/**": (PathPattern("/v1/files/**"),)},
    "serve_models_list": {"true": 60_000, "1": 60_000, "false": 0, "0": 0, "2": 2, "1MiB": 1 << 20},
    "asker": {
        "header:X-Team": Asker(header="x-team"),
        "metadata:envoy.filters.http.jwt_authn:payload/sub": Asker(
            metadata=("envoy.filters.http.jwt_authn", "payload", "sub")
        ),
        "metadata:a:b": Asker(metadata=("a", "b")),
        "attribute:connection.uri_san_peer_certificate": Asker(attribute="connection.uri_san_peer_certificate"),
    },
    "scope": {
        "host": None,
        "header:X-Tenant": Asker(header="x-tenant"),
        "metadata:a:b/c": Asker(metadata=("a", "b", "c")),
        "attribute:connection.requested_server_name": Asker(attribute="connection.requested_server_name"),
    },
    "assume_body_mode": {"full-duplex": DUPLEX, "buffered": BUFFERED},
    "max_body_bytes": {
        "1": 1,
        "1000": 1000,
        "64KiB": 64 << 10,
        "64Ki": 64 << 10,
        "16MiB": 16 << 20,
        "16Mi": 16 << 20,
        "1Gi": 1 << 30,
        "2GiB": 1 << 31,
        "2147483648": 1 << 31,
    },
    "over_limit": {"reject": OverLimit.REJECT, "pass": OverLimit.PASS},
    "max_buffered_bytes": {"1": 1, "2GiB": 1 << 31},
    "query_model_path": {
        "none": frozenset(),
        "/": frozenset([b"/"]),
        "/v1/realtime,/a%20b": frozenset([b"/v1/realtime", b"/a%20b"]),
    },
    "url_model": {"agrees": UrlModel.AGREES, "wins": UrlModel.WINS},
    "path_template": {
        "/model/{model}/invoke": parse_templates("/model/{model}/invoke"),
        "/model/{model}/invoke,/**/models/{model}:*": parse_templates("/model/{model}/invoke /**/models/{model}:*"),
    },
    "max_model_length": {"1": 1, "256": 256, "4096": 4096},
    "on_invalid_json": {"reject": InvalidJson.REJECT, "pass-stripped": InvalidJson.PASS_STRIPPED},
    "body_min_rate": {"0": 0, "1": 1, "4KiB": 4096},
    "body_idle_seconds": {"0.001": 0.001, "60": 60.0, "999999": 999999.0},
    "model_header": {
        "X-Model": ("X-Model",),
        "none": (),
        "X-Model, x-other,x-model": ("x-model", "x-other"),
    },
    "base_model_header": {
        "x-base": ("x-base",),
        "none": (),
        "X-Gateway-Base-Model-Name": ("X-Gateway-Base-Model-Name",),
    },
    "strip_header": {
        "x-tenant": ("x-tenant",),
        "X-Tenant": ("x-tenant",),
        "x-tenant,x-user": ("x-tenant", "x-user"),
        "x-tenant, x-user": ("x-tenant", "x-user"),
        "X-Llm-D-*,x-user": ("x-llm-d-*", "x-user"),
    },
    "forward_decoded": {"true": True, "false": False},
    "client_steering": {level.value: level for level in ClientSteering},
    "alias_rewrite": {how.value: how for how in AliasRewrite},
    "body_field": {
        "user=X-User": (BodyField("user", "X-User"),),
        "metadata.session_id=x-session:sha256:max-bytes=4096": (
            BodyField("metadata.session_id", "x-session", hashed=True, max_bytes=4096),
        ),
        "user=x-a:early:log, user=x-b:early:whole": (
            BodyField("user", "x-a", early=True, logged=True),
            BodyField("user", "x-b"),
        ),
        "metadata.a=x-llm-d-inference-fairness-id,metadata.b=x-b": (
            BodyField("metadata.a", "x-llm-d-inference-fairness-id"),
            BodyField("metadata.b", "x-b"),
        ),
    },
    "alias_sticky_header": {"X-Session-Id": "x-session-id", "user": "user"},
    "trust_client_headers": {"true": True, "false": False},
    "dynamic_metadata": {"bbr": "bbr", "com.example.bbr_2-x": "com.example.bbr_2-x"},
    "busy_poll": {"0": 0.0, "0.0005": 0.0005, "1": 1.0},
    "tracing": {"true": True, "false": False},
    "genai_metrics": {"true": True, "false": False},
    "drain_delay_seconds": {"0": 0.0, "2.5": 2.5},
    "compat": {"none": Compat.NONE, "gie": Compat.GIE, "ipp": Compat.IPP},
    "drain_seconds": {"0": 0.0, "0.5": 0.5, "25": 25.0, "999999.999999": 999999.999999},
    "log_level": {level: level for level in ("debug", "info", "warning", "error")},
    "log_format": {form: form for form in ("auto", "json", "text")},
    "access_log": {which: which for which in ("off", "errors", "all", "0", "0.01", "0.000000001", "1", "1.0")},
    "access_log_rate": {"0": 0, "1": 1, "1000000": 1_000_000},
}

KNOWN_OPTIONS = "sha256, early, whole, log or max-bytes=N (1 to 4096)"
NOT_A_PORT = "is not a port (1 to 65535)"
NOT_A_SIZE = "is not a size in bytes (a whole number, or one with KiB, MiB or GiB)"
NOT_A_HEADER = "is not a header name, or several with commas between"
NOT_SECONDS = "is not a number of seconds from 0 to 999999"

UNUSABLE = {
    "transport": dict.fromkeys(("", "h2", "GRPCIO"), "is not one of uv, grpcio"),
    "bind_address": dict.fromkeys(
        ("", "localhost", "[::1]", "127.0.0.1:9004", "127.0.0", "256.0.0.1", "*", "127.1"), "is not an IP address"
    ),
    "grpc_port": dict.fromkeys(
        ("", "0", "65536", "-1", "+1", "9004.0", "0x2000", "9_004", " 9004", "tcp://10.0.0.1:9004", "٩", "000001"),
        NOT_A_PORT,
    ),
    "grpc_health_port": dict.fromkeys(("", "0", "65536", "http"), NOT_A_PORT),
    "metrics_port": dict.fromkeys(("", "00", "65536", "http"), NOT_A_PORT),
    "metrics_endpoint_auth": dict.fromkeys(("", "maybe"), "is neither true nor false"),
    "secure_serving": dict.fromkeys(("", "no", "yes", "tRUE", "2"), "is neither true nor false"),
    "tls_cert": {"": "is not the name of a file"},
    "tls_key": {"": "is not the name of a file"},
    "tls_client_ca": {"": "is not the name of a file"},
    "tls_client_san": dict.fromkeys(
        ("", "gateway.example,", "10.0.0.1:443", "*", "a.*.b", "spiffe://", "spiffe://a/*/b", "spiffe:///*"),
        "is neither a DNS name, perhaps with *. at its beginning, nor a URI (scheme://...), perhaps with /* at its end",
    ),
    "max_connections": dict.fromkeys(
        ("", "0", "-1", "1000001", "1e3", "10k", "٩", "00000001"), "is not a number from 1 to 1000000"
    ),
    "max_connection_age": dict.fromkeys(("", "-1", "30m", "1e3"), NOT_SECONDS),
    "models": {"": "is not the name of a file"},
    "kubernetes": dict.fromkeys(("", "in-cluster"), "is neither true nor false"),
    "namespace": dict.fromkeys(
        ("", "*", "A", "a_b", "-a", "a-", "a/b", "a.b", "a" * 64, "a\n"),
        "is not the name of a Kubernetes namespace (lower-case letters, digits, dashes, at most 63)",
    ),
    "kubeconfig": {"": "is not the name of a file"},
    "sync_timeout": dict.fromkeys(("", "-1", "2m"), NOT_SECONDS),
    "discover_routes": dict.fromkeys(("", "both"), "is neither true nor false"),
    "discover_adapters": dict.fromkeys(("", "both"), "is neither true nor false"),
    "discover_interval": {
        **dict.fromkeys(("", "-1", "1m"), NOT_SECONDS),
        **dict.fromkeys(("0", "0.9", "60.1"), "is not from 1 to 60 seconds"),
    },
    "discover_token_file": {"": "is not the name of a file"},
    "discover_ca": {"": "is not the name of a file"},
    "discover_server_name": dict.fromkeys(
        ("", "*.example", "a_b", "-a", "a-", "a..b", "a.", "a:443", "a" * 64, "a\n", ".".join(["a"] * 128)),
        "is not the name of a server (letters, digits, dashes and dots, at most 253)",
    ),
    "unknown_model": dict.fromkeys(("", "404", "Reject"), "is not one of reject, passthrough, empty, default"),
    "missing_model": dict.fromkeys(("", "empty"), "is not one of pass, reject, default"),
    "default_model": {
        "": "is not a model's name: it is an empty string. Name a model, or leave the field out",
        " a": "is not a model's name: it cannot be used as a model name: it begins or ends with a blank",
    },
    "include_path": {
        "v1": "must begin with a slash",
        "": "must begin with a slash",
        ",".join(["/a"] * 65): "has 65 path patterns; at most 64 are allowed",
    },
    "exclude_path": {
        "/a,": "has '', which must begin with a slash",
        f"/a,/{'x' * 300}": f"has '/{'x' * 255}...', which must not be longer than 256 characters",
    },
    "forward_decoded": dict.fromkeys(("", "on"), "is neither true nor false"),
    "serve_models_list": {
        **dict.fromkeys(("", "on"), f"is neither true nor false, and {NOT_A_SIZE}"),
        "3GiB": "is neither true nor false, and is not between 1 byte and 2GiB",
    },
    "asker": dict.fromkeys(
        (
            *("", "x-team", "header:", "header:a b", "metadata:a", "metadata:a:", "metadata::b", "metadata:a:b//c"),
            *(
                "metadata:" + "x" * 511 + ":b",
                "attribute:",
                "attribute:a-b",
                "attribute:a..b",
                "attribute:" + "x" * 129,
            ),
        ),
        "is none of header:NAME, metadata:NAMESPACE:KEY and attribute:NAME, as in header:x-team, "
        "metadata:envoy.filters.http.jwt_authn:payload/sub and attribute:connection.uri_san_peer_certificate",
    ),
    "scope": dict.fromkeys(
        ("", "Host", "host:x", "x-tenant", "header:", "metadata:a", "attribute:"),
        "is none of host, header:NAME, metadata:NAMESPACE:KEY and attribute:NAME, as in header:x-team, "
        "metadata:envoy.filters.http.jwt_authn:payload/sub and attribute:connection.uri_san_peer_certificate",
    ),
    "assume_body_mode": dict.fromkeys(
        ("", "BUFFERED", "full_duplex", "streamed", "none"), "is not one of full-duplex, buffered"
    ),
    "max_body_bytes": {
        **dict.fromkeys(("", "-1", "1.5MiB", "8MB", "8M", "8 MiB", "8mib", "8B", "1e6", "9" * 16), NOT_A_SIZE),
        **dict.fromkeys(("0", "0MiB", "2147483649", "3GiB", "9" * 15), "is not between 1 byte and 2GiB"),
    },
    "over_limit": dict.fromkeys(("", "PASS", "drop"), "is not one of reject, pass"),
    "max_buffered_bytes": {"0": "is not between 1 byte and 2GiB", "1GB": NOT_A_SIZE},
    "query_model_path": dict.fromkeys(
        ("", "v1", "/a,", "/a?model=x", "/a#b", "/a b", "/" + "a" * 512, "none,/a"),
        "is neither none nor a URL path (it begins with / and has no ? or #), or several with commas",
    ),
    "url_model": {"": "is not one of agrees, wins", "body": "is not one of agrees, wins"},
    "path_template": {
        "": "names no template; give a path with {model}, a vendor's name, or several with commas",
        ",": "names no template; give a path with {model}, a vendor's name, or several with commas",
        "/v1": "must have {model} exactly once",
    },
    "max_model_length": dict.fromkeys(("", "0", "4097", "-1", "1KiB", "٩"), "is not a length from 1 to 4096 bytes"),
    "on_invalid_json": dict.fromkeys(("", "pass", "REJECT"), "is not one of reject, pass-stripped"),
    "body_min_rate": dict.fromkeys(("", "-1", "fast"), NOT_A_SIZE),
    "body_idle_seconds": {
        **dict.fromkeys(("0", "0.0"), "is not more than 0 seconds"),
        **dict.fromkeys(("", "1m"), NOT_SECONDS),
    },
    "model_header": {
        **dict.fromkeys(("", "x y", "x-a,", ",", "x:y", ":path"), NOT_A_HEADER),
        "Content-Length": "names content-length, which every request needs",
    },
    "base_model_header": {"none,": NOT_A_HEADER, "x-a,Host": "names host, which every request needs"},
    "strip_header": {
        **dict.fromkeys(
            ("", "x y", "x-a,", ",", "x:y", ":path", "é", "x\n"),
            NOT_A_HEADER,
        ),
        **dict.fromkeys(("*", "x-*-y", "x-**", "*x"), "has a * that is not at the end of a name"),
        "x-a,é*": NOT_A_HEADER,
        "Host": "names host, which every request needs",
        "ho*": "covers host, which every request needs",
        "content_*": "covers content-length, which every request needs",
        "x-a,Content-Length": "names content-length, which every request needs",
        "X-Gateway-Model-Name": "names x-gateway-model-name, a routing header, which has rules of its own",
    },
    "trust_client_headers": dict.fromkeys(("", "please"), "is neither true nor false"),
    "dynamic_metadata": dict.fromkeys(
        ("", "a b", "é", "x" * 129), "is not a metadata namespace (letters, digits, points, dashes, underscores)"
    ),
    "busy_poll": {"": NOT_SECONDS, "-1": NOT_SECONDS, "1.000001": "is more than 1 second"},
    "tracing": dict.fromkeys(("", "otlp"), "is neither true nor false"),
    "genai_metrics": dict.fromkeys(("", "otlp"), "is neither true nor false"),
    "drain_delay_seconds": {"-1": NOT_SECONDS},
    "alias_rewrite": dict.fromkeys(("", "on", "Header"), "is not one of off, header, body"),
    "body_field": {
        **dict.fromkeys(
            ("", "user", "=x", "user=x,", "a.b.c=x", ".a=x", "a.=x", "us er=x", "é=x", "a" * 65 + "=x"),
            "is not FIELD=HEADER, as in user=x-user or metadata.session_id=x-session:sha256",
        ),
        **dict.fromkeys(("model=x", "Model=x", "model.x=x"), "has the field model, which --model-header is for"),
        **dict.fromkeys(("user=", "user=:path"), "names no header behind =; pseudo-headers such as :path can't be set"),
        **dict.fromkeys(("user=x y", "user=é", "user=x=y"), NOT_A_HEADER),
        "user=Host": "names host, which every request needs",
        "user=content-length": "names content-length, which every request needs",
        "user=TE": "sets te, which a client's body must not do",
        "user=X-Gateway-Model-Name": "sets x-gateway-model-name, which a client's body must not do",
        "user=x-gateway-destination-endpoint": "sets x-gateway-destination-endpoint, which a client's body must not do",
        "user=x-prefiller-host-port": "sets x-prefiller-host-port, which a client's body must not do",
        "user=x-envoy-retry-on": "sets x-envoy-retry-on; gateways keep the x-envoy- headers to themselves",
        **{
            f"user=x:{word}": f"has the option {word!r}, which is not {KNOWN_OPTIONS}"
            for word in ("md5", "", "max-bytes", "max-bytes=0", "max-bytes=4097", "log=1")
        },
        "a=x,b=X": "sets the header x twice",
        ",".join(f"f{number}=x-{number}" for number in range(9)): "has 9 fields; at most 8 are allowed",
        "user=x,User=y": "has two spellings of User, which some servers take for one",
        "metadata=x,metadata.user=y": "has metadata both as a field and as an object with fields",
    },
    "alias_sticky_header": dict.fromkeys(("", "a,b", ":path", "x" * 128), "is not a header name"),
    "client_steering": dict.fromkeys(("", "some", "NONE"), "is not one of none, priority, all"),
    "compat": dict.fromkeys(("", "go", "GIE"), "is not one of none, gie, ipp"),
    "drain_seconds": dict.fromkeys(
        ("", "-1", "1e3", "nan", "inf", "5s", ".5", "1.", "1000000", "0.0000001"), NOT_SECONDS
    ),
    "log_level": dict.fromkeys(("", "DEBUG", "trace", "10"), "is not one of debug, info, warning, error"),
    "log_format": dict.fromkeys(("", "JSON", "logfmt"), "is not one of auto, json, text"),
    "access_log": dict.fromkeys(
        ("", "on", "true", "ALL", "-0.1", "1.1", "2", "1%", "1e-3", "nan", ".5", "0.0000000001", "0,01"),
        "is not one of off, errors, all, or a ratio from 0 to 1, as in 0.01",
    ),
    "access_log_rate": dict.fromkeys(("", "-1", "00", "1.5", "1000001"), "is not a number from 1 to 1000000"),
}


@pytest.mark.parametrize("table", [USABLE, UNUSABLE], ids=["usable", "unusable"])
def test_tables_cover_every_setting(table):
    assert table.keys() == config.OPTIONS.keys() == {field.name for field in dataclasses.fields(Settings)}


@pytest.mark.parametrize("load", [by_flag, by_variable], ids=["flag", "variable"])
@pytest.mark.parametrize("name", USABLE)
def test_usable(load, name):
    found = {text: getattr(load(name, text), name) for text in USABLE[name]}
    assert found == USABLE[name]
    assert {text: type(value) for text, value in found.items()} == {text: type(USABLE[name][text]) for text in found}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_is_named(name):
    flag, variable = config.flag_of(name), config.variable_of(name)
    others = {each: value for each, value in PLAINTEXT.items() if each != name}
    for text, why in UNUSABLE[name].items():
        assert refusal({**PLAINTEXT, name: text}) == f"{flag}: {quoted(text)} {why}"
        if text not in ("", SERVICE_LINK):
            assert refusal(others, {variable: text}) == f"{variable}: {quoted(text)} {why}"


@pytest.mark.parametrize("name", config.OPTIONS)
def test_a_long_text_is_refused_before_it_is_read_and_not_repeated(name):
    text = "x" * (MAX_TEXT_CHARACTERS + 1)
    why = f"{'x' * MAX_QUOTED_CHARACTERS}...' has {MAX_TEXT_CHARACTERS + 1} characters; at most 65536 are allowed"
    assert refusal({**PLAINTEXT, name: text}) == f"{config.flag_of(name)}: '{why}"


def test_names_of_headers_are_as_many_as_one_answer_may_remove():
    # 30 are removed anyway: two routing headers, the destination, 27 that steer.
    names = [f"x-{number}" for number in range(55)]
    fine = by_flag("strip_header", ",".join(names[:54]))
    assert len(fine.strip_header) == MAX_ALWAYS_REMOVED - 30
    for flags in (
        {"strip_header": ",".join(names)},
        {"strip_header": ",".join(names[2:]), "model_header": "X-0", "base_model_header": "X-1"},
        {"strip_header": ",".join(names[1:]), "body_field": "user=X-0"},
    ):
        assert refusal({**PLAINTEXT, **flags}).startswith(
            "--model-header, --base-model-header, --strip-header and --body-field: with the headers that are removed "
            "anyway these are 85; at most 84 are allowed"
        )
    assert by_flag("strip_header", ",".join([*names[:54], *(f"y-{number}-*" for number in range(99))]))
    flags = {"client_steering": "all", "strip_header": ",".join(f"x-{number}" for number in range(81))}
    assert loading.load({**PLAINTEXT, **flags}, {})


def test_a_default_model_that_is_not_utf_8_is_named():
    assert refusal({"default_model": "a\udcff"}) == (
        "--default-model: 'a\\udcff' is not a model's name: it is not UTF-8"
    )


def test_names():
    for name in config.OPTIONS:
        assert config.flag_of(name) == "--" + name.replace("_", "-")
        assert config.variable_of(name) == "BBR_" + name.upper()


@pytest.mark.parametrize("name", config.OPTIONS)
def test_default_is_what_the_help_says(name):
    option, field = config.OPTIONS[name], Settings.__dataclass_fields__[name]
    assert field.default == (option.parse(option.default) if option.default else None)
    assert option.help
    assert option.metavar


def test_only_booleans_are_switches():
    assert {name for name, option in config.OPTIONS.items() if option.switch} == {
        "secure_serving",
        "metrics_endpoint_auth",
        "trust_client_headers",
        "kubernetes",
        "discover_routes",
        "discover_adapters",
        "serve_models_list",
        "forward_decoded",
        "tracing",
        "genai_metrics",
    }


def test_only_lists_are_repeatable():
    assert {name for name, option in config.OPTIONS.items() if option.repeatable} == {
        "strip_header",
        "model_header",
        "base_model_header",
        "include_path",
        "exclude_path",
        "query_model_path",
        "path_template",
        "tls_client_san",
        "body_field",
    }


SHARES = [("off", None), ("errors", 0.0), ("0", 0.0), ("0.01", 0.01), ("1", 1.0), ("all", 1.0)]


@pytest.mark.parametrize(("text", "share"), SHARES)
def test_the_share_of_requests_to_log(text, share):
    assert loading.load({"access_log": text}, {}).access_log_share == share
