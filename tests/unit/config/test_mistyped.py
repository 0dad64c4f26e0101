import time

import pytest

from bbr.config.mistyped import suggestion, unread_variables


@pytest.mark.parametrize(
    ("word", "remark"),
    [
        ("servee", " (did you mean serve?)"),
        ("chekc", " (did you mean check?)"),
        ("zzz", ""),
        ("", ""),
        ("serve" * 100, ""),
    ],
)
def test_a_word_that_is_like_a_known_one(word, remark):
    assert suggestion(word, ["serve", "check"]) == remark


@pytest.mark.parametrize(
    ("word", "remark"),
    [
        ("--port", " (did you mean --grpc-port or --health-port?)"),
        ("port", " (did you mean --grpc-port or --health-port?)"),
        ("--bind", " (did you mean --bind-address?)"),
        ("--tls", ""),  # too many
        ("--", ""),
        ("--por", ""),
    ],
)
def test_a_word_that_is_a_part_of_known_ones(word, remark):
    known = ["--grpc-port", "--health-port", "--bind-address", *(f"--tls-client-{end}" for end in "abcd")]
    assert suggestion(word, known) == remark


def test_a_mistyped_variable_is_told_without_its_value():
    assert unread_variables({"BBR_GRPC_PROT": "secret", "BBR_XYZ": "1", "HOME": "/", "bbr_x": "1"}) == [
        "BBR_GRPC_PROT is not a variable of bbr (did you mean BBR_GRPC_PORT?); it has no effect",
        "BBR_XYZ is not a variable of bbr; it has no effect",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BBR_GRPC_PORT", "9004"),
        ("BBR_STREAMING", "true"),  # a removed one, which is an error of its own
        ("BBR_COMPILE", "1"),
        # As Kubernetes sets them for Services called bbr and bbr-metrics.
        ("BBR_SERVICE_HOST", "10.0.0.1"),
        ("BBR_SERVICE_PORT", "9004"),
        ("BBR_SERVICE_PORT_EXT_PROC", "9004"),
        ("BBR_PORT", "tcp://10.0.0.1:9004"),
        ("BBR_PORT_9004_TCP", "tcp://10.0.0.1:9004"),
        ("BBR_PORT_9004_TCP_PROTO", "tcp"),
        ("BBR_PORT_9004_TCP_PORT", "9004"),
        ("BBR_PORT_9004_TCP_ADDR", "10.0.0.1"),
        ("BBR_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("BBR_METRICS_PORT_53_UDP", "udp://10.0.0.1:53"),
        ("BBR_ROUTER_PORT", "tcp://10.0.0.1:9004"),
    ],
)
def test_what_is_read_elsewhere_or_set_by_kubernetes_is_not_told(name, value):
    assert unread_variables({name: value}) == []


@pytest.mark.parametrize(("name", "value"), [("BBR_PORT", "9004"), ("BBR_GRCP_PORT", "9004")])
def test_a_port_that_kubernetes_has_not_set_is_told(name, value):
    (said,) = unread_variables({name: value})
    assert said.startswith(f"{name} is not a variable of bbr")


def test_a_long_name_costs_little():
    begun = time.process_time()
    names = {f"BBR_{'A_' * 20_000}{number}": "x" for number in range(20)}
    assert len(unread_variables(names)) == 20
    assert time.process_time() - begun < 2
