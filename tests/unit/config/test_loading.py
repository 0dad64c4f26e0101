import pytest

from bbr.config import loading, removed
from bbr.config import settings as config
from bbr.config.settings import ConfigError

PLAINTEXT = {"secure_serving": "false"}
SERVICE_LINK = "tcp://10.0.0.1:9004"


def refusal(flags, environment=None):
    with pytest.raises(ConfigError) as caught:
        loading.load(flags, environment or {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


PRECEDENCE = [
    pytest.param({}, {}, 9004, id="default"),
    pytest.param({}, {"BBR_GRPC_PORT": "7"}, 7, id="a variable wins over the default"),
    pytest.param({"grpc_port": "8"}, {"BBR_GRPC_PORT": "7"}, 8, id="a flag wins over the variable"),
    pytest.param({"grpc_port": "8"}, {"BBR_GRPC_PORT": "bad"}, 8, id="an overruled variable is not read"),
    pytest.param({}, {"BBR_GRPC_PORT": ""}, 9004, id="an empty variable is absent"),
    pytest.param({}, {"GRPC_PORT": "7", "bbr_grpc_port": "7"}, 9004, id="other names mean nothing"),
    pytest.param({}, {"BBR_GRPC_PORT": SERVICE_LINK}, 9004, id="the service link of a Service called bbr-grpc"),
    pytest.param({}, {"BBR_SERVICE_HOST": "10.0.0.1", "BBR_PORT": "tcp://10.0.0.1:9004"}, 9004, id="service links"),
]


@pytest.mark.parametrize(("flags", "environment", "port"), PRECEDENCE)
def test_precedence(flags, environment, port):
    assert loading.load({**PLAINTEXT, **flags}, environment).grpc_port == port


@pytest.mark.parametrize("name", removed.REPLACEMENTS)
def test_a_variable_of_a_removed_setting_is_refused(name):
    variable = config.variable_of(name)
    assert refusal({}, {variable: "1"}) == f"{variable}: {removed.sentence(name)}"
    loading.load({}, {variable: ""})


@pytest.mark.parametrize(
    "flags",
    [
        {"grpc_port": "7", "grpc_health_port": "7"},
        {"grpc_port": "9005"},
        {"grpc_health_port": "9004"},
        {"grpc_port": "9090"},
        {"metrics_port": "9005"},
        {"grpc_health_port": "9090"},
        {"metrics_port": "7", "grpc_health_port": "7"},
    ],
    ids=lambda flags: " ".join(f"{name}={port}" for name, port in flags.items()),
)
def test_ports_must_differ(flags):
    port = next(iter(flags.values()))
    defaults = {"grpc_port": "9004", "grpc_health_port": "9005", "metrics_port": "9090"}
    one, other = (config.flag_of(name) for name, each in (defaults | flags).items() if each == port)
    assert refusal({**PLAINTEXT, **flags}) == f"{one} and {other} are both {port}: they must differ"


def test_tls_is_served_unless_it_is_turned_down():
    assert loading.load({}, {}).secure_serving


CONTRADICTIONS = [
    pytest.param({"tls_cert": "tls.crt"}, "--tls-cert needs --tls-key as well: a certificate and its key", id="no key"),
    pytest.param(
        {"tls_key": "tls.key"}, "--tls-key needs --tls-cert as well: a certificate and its key", id="no certificate"
    ),
    pytest.param(
        {"tls_cert": "tls.crt", "tls_key": "tls.key", **PLAINTEXT},
        "--tls-cert and --secure-serving=false contradict each other: leave one out",
        id="a certificate for plaintext",
    ),
    pytest.param(
        {"tls_client_ca": "ca.crt", **PLAINTEXT},
        "--tls-client-ca and --secure-serving=false contradict each other: leave one out",
        id="clients' certificates for plaintext",
    ),
    pytest.param(
        {"tls_client_san": "gateway.example"},
        "--tls-client-san needs --tls-client-ca: without it no client shows a certificate",
        id="names of clients that show no certificate",
    ),
    pytest.param(
        {"max_connection_age": "60", "drain_seconds": "0"},
        "--max-connection-age needs --drain-seconds of more than 0: requests of a connection that is too old would be "
        "cut off",
        id="an age without a drain",
    ),
    pytest.param(
        {"compat": "gie", "alias_rewrite": "header"},
        "--alias-rewrite and --compat contradict each other: leave one out",
        id="aliases of a router that has none",
    ),
    pytest.param(
        {"busy_poll": "0.001", "transport": "grpcio"},
        "--busy-poll needs --transport=uv, not grpcio",
        id="busy polling by grpcio",
    ),
    pytest.param(
        {"model_header": "X-M", "base_model_header": "x-a,x-m"},
        "--model-header and --base-model-header are both x-m: they must differ",
        id="one header for both",
    ),
    pytest.param(
        {"model_header": "X-M", "strip_header": "x-m"},
        "--strip-header: x-m is a routing header, which has rules of its own",
        id="a routing header to strip",
    ),
    pytest.param(
        {"model_header": "X-M", "body_field": "user=x-m"},
        "--body-field: x-m is a routing header, which has rules of its own",
        id="a routing header for a field",
    ),
    pytest.param(
        {"model_header": "X-M", "discover_routes": "true", "kubernetes": "true"},
        "--discover-routes works only with the default --model-header and --base-model-header",
        id="routes by other headers",
    ),
    pytest.param(
        {"model_header": "X-M", "discover_adapters": "true", "kubernetes": "true"},
        "--discover-adapters works only with the default --model-header and --base-model-header",
        id="pools by other headers",
    ),
    pytest.param({"discover_adapters": "true"}, "--discover-adapters needs --kubernetes", id="pools of nothing"),
    pytest.param(
        {"discover_token_file": "token"}, "--discover-token-file needs --discover-adapters", id="a token for nobody"
    ),
    pytest.param({"discover_ca": "system"}, "--discover-ca needs --discover-adapters", id="nobody to ask"),
    pytest.param(
        {"discover_server_name": "a"},
        "--discover-server-name needs --discover-ca: without it no server shows a certificate",
        id="no name to verify",
    ),
    pytest.param({"namespace": "default"}, "--namespace needs --kubernetes", id="a namespace of nothing"),
    pytest.param({"kubeconfig": "config"}, "--kubeconfig needs --kubernetes", id="a kubeconfig for nothing"),
    pytest.param({"metrics_endpoint_auth": "true"}, "--metrics-endpoint-auth needs --kubernetes", id="no cluster"),
    pytest.param({"discover_routes": "true"}, "--discover-routes needs --kubernetes", id="routes of nothing"),
    pytest.param(
        {**PLAINTEXT, "unknown_model": "default"},
        "--unknown-model=default needs --default-model: the model to route as",
        id="no default for unknown models",
    ),
    pytest.param(
        {**PLAINTEXT, "missing_model": "default"},
        "--missing-model=default needs --default-model: the model to route as",
        id="no default for missing models",
    ),
]


@pytest.mark.parametrize(("flags", "sentence"), CONTRADICTIONS)
def test_settings_that_contradict_each_other_are_refused(flags, sentence):
    assert refusal(flags) == sentence
    assert refusal({}, {config.variable_of(name): text for name, text in flags.items()}) == sentence


KUBERNETES = {**PLAINTEXT, "kubernetes": "true"}


@pytest.mark.parametrize(
    ("flags", "environment", "namespace"),
    [
        (KUBERNETES, {"NAMESPACE": "ours"}, "ours"),
        (KUBERNETES, {"NAMESPACE": ""}, None),
        (KUBERNETES, {"NAMESPACE": "ours", "BBR_NAMESPACE": "theirs"}, "theirs"),
        ({**KUBERNETES, "namespace": "theirs"}, {"NAMESPACE": "ours"}, "theirs"),
        (PLAINTEXT, {"NAMESPACE": "ours"}, None),
        (PLAINTEXT, {"NAMESPACE": "of anything else"}, None),
    ],
)
def test_the_go_routers_variable_names_the_namespace(flags, environment, namespace):
    assert loading.load(flags, environment).namespace == namespace


def test_the_go_routers_variable_is_checked():
    assert refusal(KUBERNETES, {"NAMESPACE": "Ours"}).startswith("NAMESPACE: 'Ours' is not the name of a Kubernetes")
