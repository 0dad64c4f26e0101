"""Routes of the chart for some hosts alone, as a real gateway's controller and its data plane take them."""

import contextlib

import pytest

from deploy.lab import controllers, releases, setting
from tests.lab.test_gateway import RESOLVED, settled
from tests.lab.traffic import POOLS, Chat, ask, outcome

pytestmark = pytest.mark.gateways
PLAIN = "llm.example.com"
OURS = [PLAIN, "*.llm.example.com"]
QWENS = "qwen.example.com"
FOREIGN = "other.example.com"
# Gateways whose catch-all answers what no model's route matches.
ANSWERS = ("envoy-gateway", "kgateway")


@contextlib.contextmanager
def installed(lab, gateway, controller, **more):
    """The chart with other values, and afterwards as it was."""
    values = setting.values(controller.provider) | controller.values()
    try:
        releases.install(lab, "helm", setting.RELEASE, values | more)
        settled(lab, "httproutes", RESOLVED)
        yield
    finally:
        releases.install(lab, "helm", setting.RELEASE, values)
        for name in POOLS:
            lab.wait(f"an answer of {name}", lambda name=name: outcome(ask(gateway, Chat(name)), name) == "right")


def routed(lab, gateway, host, name):
    """Wait until a host answers for a model; the data plane learns of the routes in its own time."""
    lab.wait(f"{name} on {host}", lambda: outcome(ask(gateway, Chat(name), host=host), name) == "right")


def refused(lab, gateway, host, name):
    lab.wait(f"no {name} on {host}", lambda: ask(gateway, Chat(name), host=host).status_code == 404)
    return ask(gateway, Chat(name), host=host)


def test_all_models_are_served_for_the_hosts_of_the_gateway_alone(lab, gateway, controller):
    with installed(lab, gateway, controller, inferenceGateway={"name": controllers.GATEWAY, "hostnames": OURS}):
        for host in (PLAIN, "eu.llm.example.com"):
            for name in POOLS:
                routed(lab, gateway, host, name)
        for host in (FOREIGN, "example.com", "llm.example.com.evil.example"):
            refused(lab, gateway, host, "sql-lora")
        if controller.provider in ANSWERS:
            answer = refused(lab, gateway, PLAIN, "nobody-has-it")
            assert answer.json()["error"]["code"] == "model_not_found"


def test_a_model_with_a_host_of_its_own_is_served_there_alone(lab, gateway, controller):
    values = setting.values(controller.provider) | controller.values()
    models = [
        {**each, "route": {**each.get("route", {}), "hostnames": [QWENS]}} if each["name"] == "qwen" else each
        for each in values["models"]
    ]
    with installed(lab, gateway, controller, models=models):
        routed(lab, gateway, QWENS, "sql-lora")
        routed(lab, gateway, FOREIGN, "phi-lora")
        refused(lab, gateway, FOREIGN, "sql-lora")
        # The host has a route of its own, so requests for it do not meet routes without hosts.
        answer = refused(lab, gateway, QWENS, "phi-lora")
        if controller.provider in ANSWERS:
            assert answer.json()["error"]["code"] == "model_not_found"
