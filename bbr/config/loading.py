"""Flags and environment variables -> one Settings, or an error that names the flag, the value and the rule."""

import itertools
from collections.abc import Mapping
from typing import Any, Final

from bbr.config import options, removed
from bbr.config.options import Option
from bbr.config.settings import OPTIONS, ConfigError, Settings, flag_of, variable_of
from bbr.exchange.policy import AliasRewrite, BodyMode, ClientSteering, Compat
from bbr.headers import BASE_MODEL_HEADER, MODEL_HEADER
from bbr.models.routing import UnknownModel
from bbr.text import quoted

NAMESPACE_VARIABLE: Final = "NAMESPACE"


def load(flags: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """Build Settings from raw texts.

    Args:
        flags: field name -> text, of the flags that were given.
        environment: the process environment; an empty variable counts as absent.

    Raises:
        ConfigError: a value is unusable, two settings contradict each other, or a variable is of a removed setting.
    """
    _refuse_removed(environment)
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
    _apply_compat(values)
    settings = Settings(**values)
    _check(settings)
    return settings


def _refuse_removed(environment: Mapping[str, str]) -> None:
    for name in removed.REPLACEMENTS:
        if environment.get(variable_of(name)):
            raise ConfigError(f"{variable_of(name)}: {removed.sentence(name)}")


def _is_service_link(option: Option, text: str) -> bool:
    """Tell whether Kubernetes set a port's variable (for a Service called bbr-grpc, say), and not an operator."""
    return option.parse in (options.port, options.port_or_none) and text.startswith("tcp://")


def _apply_compat(values: dict[str, Any]) -> None:
    """Give settings that nobody has set the defaults of the Go router whose answers are wanted."""
    compat = values.get("compat", Compat.NONE)
    if compat is not Compat.NONE:
        values.setdefault("unknown_model", UnknownModel.EMPTY)
        values.setdefault("client_steering", ClientSteering.ALL)
        values.setdefault("alias_rewrite", AliasRewrite.OFF)
    if compat is Compat.GIE:
        values.setdefault("assume_body_mode", BodyMode.BUFFERED)


def _parse(source: str, text: str, option: Option) -> Any:
    if len(text) > options.MAX_TEXT_CHARACTERS:
        why = f"has {len(text)} characters; at most {options.MAX_TEXT_CHARACTERS} are allowed"
        raise ConfigError(f"{source}: {quoted(text)} {why}")
    try:
        return option.parse(text)
    except ValueError as error:
        raise ConfigError(f"{source}: {quoted(text)} {error}") from None


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
        raise ConfigError("--tls-client-san needs --tls-client-ca: without it no client shows a certificate")
    for name in ("namespace", "kubeconfig", "discover_routes", "discover_adapters", "metrics_endpoint_auth"):
        if getattr(settings, name) and not settings.kubernetes:
            raise ConfigError(f"{flag_of(name)} needs --kubernetes")
    for name in ("discover_token_file", "discover_ca"):
        if getattr(settings, name) and not settings.discover_adapters:
            raise ConfigError(f"{flag_of(name)} needs --discover-adapters")
    if settings.discover_server_name and not settings.discover_ca:
        raise ConfigError("--discover-server-name needs --discover-ca: without it no server shows a certificate")
    if settings.busy_poll and settings.transport != "uv":
        raise ConfigError(f"--busy-poll needs --transport=uv, not {settings.transport}")
    if settings.compat is not Compat.NONE and settings.alias_rewrite is not AliasRewrite.OFF:
        raise ConfigError("--alias-rewrite and --compat contradict each other: leave one out")
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
    for field in settings.body_field or ():
        if field.header.lower() in models | base_models:
            raise ConfigError(f"--body-field: {field.header} is a routing header, which has rules of its own")
    try:
        fields = [field.header for field in settings.body_field or ()]
        options.check_header_count(settings.client_steering, models, base_models, settings.strip_header or (), fields)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    usual = (models, base_models) == ({MODEL_HEADER.lower()}, {BASE_MODEL_HEADER.lower()})
    for name in ("discover_routes", "discover_adapters"):
        if getattr(settings, name) and not usual:
            raise ConfigError(f"{flag_of(name)} works only with the default --model-header and --base-model-header")


def _check_default_model(settings: Settings) -> None:
    wanted = [
        f"{flag_of(name)}=default"
        for name in ("unknown_model", "missing_model")
        if getattr(settings, name).value == "default"
    ]
    if wanted and not settings.default_model:
        raise ConfigError(f"{wanted[0]} needs --default-model: the model to route as")
