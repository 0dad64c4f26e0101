import copy

import pytest

from bbr.commands.doctor import checks_limits
from tests.support.doctor import HTTP_OPTIONS, LIMIT, bbr, cluster, demo, hcm, host, routes, saved

CONFIGS = {name: demo(name) for name in ("FULL_DUPLEX_STREAMED", "BUFFERED")}


def found(edit, body_mode="FULL_DUPLEX_STREAMED", limit=LIMIT):
    config = copy.deepcopy(CONFIGS[body_mode])
    edit(config)
    return {each.id: each for each in checks_limits.check(saved(config), limit)}


def thresholds(config):
    return cluster(config)["circuit_breakers"]["thresholds"][0]


def options(config):
    return cluster(config)["typed_extension_protocol_options"][HTTP_OPTIONS]


def listener(config):
    return config["static_resources"]["listeners"][0]


def buffer_filter(size, **fields):
    typed = {"@type": "x/envoy.extensions.filters.http.buffer.v3.Buffer", "max_request_bytes": size}
    return lambda config: hcm(config)["http_filters"].insert(0, {"name": "buffer", "typed_config": typed, **fields})


def never_idle(config):
    hcm(config)["stream_idle_timeout"] = "0s"


def never_over(config):
    never_idle(config)
    del options(config)["common_http_protocol_options"]


def bounded(**fields):
    def edit(config):
        never_over(config)
        hcm(config).update(fields)

    return edit


def retries_of_envoy_grpc(config):
    service = bbr(config)["grpc_service"]
    service["envoy_grpc"]["retry_policy"] = service.pop("retry_policy")


def budget(config):
    del thresholds(config)["max_retries"]
    thresholds(config)["retry_budget"] = {}


def gone(config):
    config["static_resources"]["clusters"] = []
    never_idle(config)


def http2(config):
    return options(config)["explicit_http_config"]["http2_protocol_options"]


def without_keepalive(config):
    del http2(config)["connection_keepalive"]


def without_http_options(config):
    del cluster(config)["typed_extension_protocol_options"]


def keepalive_by_auto_config(config):
    options(config)["auto_config"] = options(config).pop("explicit_http_config")


@pytest.mark.parametrize(
    ("ids", "edit"),
    [
        ("", lambda _: None),
        ("no-retry-policy", lambda config: bbr(config)["grpc_service"].pop("retry_policy")),
        ("", retries_of_envoy_grpc),
        ("", lambda config: bbr(config).update(grpc_service={"google_grpc": {}})),
        ("retries-capped", lambda config: thresholds(config).pop("max_retries")),
        ("", budget),
        ("no-keepalive", without_keepalive),
        ("no-keepalive", lambda config: http2(config).update(connection_keepalive={"timeout": "5s"})),
        ("", without_http_options),  # which is another mistake
        ("", keepalive_by_auto_config),
        ("", never_idle),
        ("no-stream-deadline", never_over),
        ("no-stream-deadline", gone),
        ("", bounded(request_timeout="60s")),
        ("no-stream-deadline", bounded(request_timeout="0s")),
        ("", bounded(common_http_protocol_options={"max_stream_duration": "60s"})),
        ("buffer-filter-below-body-limit", buffer_filter(LIMIT - 1)),
        ("", buffer_filter(LIMIT)),
        ("", buffer_filter(1, disabled=True)),
        ("", lambda config: listener(config).pop("per_connection_buffer_limit_bytes")),  # full duplex needs none
        ("", lambda config: bbr(config).pop("message_timeout")),  # and knows none
    ],
)
def test_full_duplex(ids, edit):
    assert set(found(edit)) == set(ids.split())


def small_window(config):
    hcm(config)["http2_protocol_options"] = {"initial_stream_window_size": 65535}


def raised_by_routes(config):
    listener(config)["per_connection_buffer_limit_bytes"] = 1
    host(config)["request_body_buffer_limit"] = str(LIMIT)


def raised_by_some_routes(config):
    listener(config)["per_connection_buffer_limit_bytes"] = 1
    routes(config)[0]["request_body_buffer_limit"] = str(LIMIT)


def codec(name, edit):
    def both(config):
        hcm(config)["codec_type"] = name
        edit(config)

    return both


def small_buffer(config):
    listener(config)["per_connection_buffer_limit_bytes"] = LIMIT - 1


@pytest.mark.parametrize(
    ("ids", "edit"),
    [
        ("", lambda _: None),
        ("buffer-below-body-limit", small_buffer),
        ("buffer-below-body-limit", lambda config: listener(config).pop("per_connection_buffer_limit_bytes")),
        ("buffer-below-body-limit", small_window),
        ("buffer-below-body-limit", lambda config: hcm(config).pop("http2_protocol_options")),
        ("", codec("HTTP2", small_buffer)),
        ("", codec("HTTP1", small_window)),
        ("", raised_by_routes),
        ("buffer-below-body-limit", raised_by_some_routes),
        ("message-timeout-short", lambda config: bbr(config).pop("message_timeout")),
        ("message-timeout-short", lambda config: bbr(config).update(message_timeout="0.250s")),
        ("", lambda config: bbr(config).update(message_timeout="1s")),
    ],
)
def test_buffered(ids, edit):
    assert set(found(edit, "BUFFERED")) == set(ids.split())


def test_a_smaller_limit_of_the_routers_needs_smaller_buffers():
    def edit(config):
        del listener(config)["per_connection_buffer_limit_bytes"]
        del hcm(config)["http2_protocol_options"]

    assert found(edit, "BUFFERED", 1 << 20) == {}
    evidence = found(edit, "BUFFERED", 32 << 20)["buffer-below-body-limit"].evidence
    assert [each.note for each in evidence] == ["HTTP/1.1; the default is 1048576", "HTTP/2; the default is 16777216"]


@pytest.mark.parametrize(
    ("key", "value", "is_found"),
    [
        ("max_requests", 1024, True),
        ("max_requests", 1025, False),
        ("max_pending_requests", 100, True),
        (None, 0, False),
    ],
)
def test_circuit_breakers(key, value, is_found):
    config = copy.deepcopy(CONFIGS["BUFFERED"])
    if key:
        thresholds(config)[key] = value
    findings = list(checks_limits.check_cluster(saved(config).clusters["bbr"]))
    assert [each.id for each in findings] == ["circuit-breaker-default"] * is_found


def test_circuit_breakers_that_are_not_set():
    config = copy.deepcopy(CONFIGS["BUFFERED"])
    del cluster(config)["circuit_breakers"]
    (one,) = checks_limits.check_cluster(saved(config).clusters["bbr"])
    assert [(each.value, each.note) for each in one.evidence] == [(None, "1024")] * 2


def test_a_gateway_without_a_router_has_no_limits():
    config = copy.deepcopy(CONFIGS["BUFFERED"])
    hcm(config)["http_filters"] = []
    assert list(checks_limits.check(saved(config), LIMIT)) == []
