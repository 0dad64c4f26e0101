"""Configurations of real Envoys for `bbr doctor`, and its findings, whose evidence is looked up again."""

import copy
import re
import threading
import time
from functools import cache
from typing import Any

import yaml

from bbr.commands.doctor import admin
from bbr.commands.doctor.examine import examine
from bbr.commands.doctor.finding import Finding, Severity
from bbr.commands.doctor.gateway import Gateway, read
from bbr.commands.doctor.node import Evidence
from bbr.models.registry import Registry
from bench.harness import envoy
from deploy.local.gateway import render
from deploy.local.topology import DEFAULT_PORTS
from tests.support.stack import DEADLINE_SECONDS

Config = dict[str, Any]

EXT_PROC = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3"
OFF = {"@type": f"{EXT_PROC}.ExtProcPerRoute", "disabled": True}
ON: Config = {"@type": f"{EXT_PROC}.ExtProcPerRoute", "overrides": {}}
OUT = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
LIMIT = 64 << 20


@cache
def rendered(body_mode: Any) -> Config:
    """Return the local stack's configuration as it is."""
    config: Config = yaml.safe_load(render(DEFAULT_PORTS, body_mode))
    return config


def demo(body_mode: Any = "FULL_DUPLEX_STREAMED") -> Config:
    """Return the local stack's configuration, on free ports, without health checks."""
    config = copy.deepcopy(rendered(body_mode))
    for each in (config["admin"], *config["static_resources"]["listeners"]):
        each["address"]["socket_address"]["port_value"] = 0
    del cluster(config)["health_checks"]  # there is no router to find healthy
    return config


def hcm(config: Config) -> Config:
    found: Config = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def entry(config: Config) -> Config:
    found: Config = hcm(config)["http_filters"][0]
    return found


def bbr(config: Config) -> Config:
    found: Config = entry(config)["typed_config"]
    return found


def mode(config: Config) -> Config:
    found: Config = bbr(config)["processing_mode"]
    return found


def host(config: Config) -> Config:
    found: Config = hcm(config)["route_config"]["virtual_hosts"][0]
    return found


def routes(config: Config) -> list[Config]:
    found: list[Config] = host(config)["routes"]
    return found


def cluster(config: Config, name: str = "bbr") -> Config:
    return next(each for each in config["static_resources"]["clusters"] if each["name"] == name)


def per_route(place: Config, setting: Config, name: str = "bbr") -> None:
    place.setdefault("typed_per_filter_config", {})[name] = setting


def diagnose(gateway: envoy.Gateway, registry: Registry | None = None, **options: Any) -> list[Finding]:
    """Return the doctor's findings, each of whose evidence is where it says."""
    answers = admin.fetch(f"http://127.0.0.1:{gateway.admin}")
    found = read(answers.config_dump, answers.clusters, answers.stats, answers.server_info)
    findings = examine(found, registry, max_body_bytes=LIMIT, **{"secure_serving": False, **options})
    for each in findings:
        assert each.evidence, each
        assert each.fix, each
        for evidence in each.evidence:
            assert matches(evidence, answers), evidence
    return findings


def matches(evidence: Evidence, answers: admin.Answers) -> bool:
    """Look the evidence up, by its path, with other code than the doctor's."""
    if evidence.document == "table":
        return True
    value = getattr(answers, evidence.document)
    if evidence.document == "stats":
        return {"name": evidence.path, "value": evidence.value} in value["stats"]
    for key, index, quoted in re.findall(r"\.(\w+)|\[(\d+)\]|\[\"([^\"]+)\"\]", evidence.path):
        if value is not None:
            value = value[int(index)] if index else value.get(key or quoted)
    if isinstance(value, dict | list):
        return evidence.value == ("{...}" if isinstance(value, dict) else "[...]")
    if isinstance(value, str) and len(value) > 300:
        value = f"{value[:300]}..."
    return bool(value == evidence.value)


def bad(findings: list[Finding]) -> set[str]:
    return {each.id for each in findings if each.severity is not Severity.INFO}


def no_endpoints(config: Config) -> None:
    cluster(config)["load_assignment"]["endpoints"] = []


def endpoint(config: Config, index: int = 0) -> Config:
    endpoints: list[Config] = cluster(config)["load_assignment"]["endpoints"][0]["lb_endpoints"]
    while len(endpoints) <= index:
        endpoints.append(copy.deepcopy(endpoints[0]))
        endpoints[-1]["endpoint"]["address"]["socket_address"]["port_value"] += 1
    return endpoints[index]


def answers(config: Config, **others: Any) -> admin.Answers:
    """Return what an Envoy with this bootstrap would answer, as far as the doctor reads it."""
    static = config["static_resources"]
    types = "type.googleapis.com/envoy.admin.v3"
    listeners = [{"listener": each} for each in static["listeners"]]
    clusters = [{"cluster": each} for each in static["clusters"]]
    configs = [
        {"@type": f"{types}.ClustersConfigDump", "static_clusters": clusters},
        {"@type": f"{types}.ListenersConfigDump", "static_listeners": listeners},
    ]
    return admin.Answers({"configs": configs}, **others)


def saved(config: Config, **others: Any) -> Gateway:
    """Return the gateway that the doctor reads out of those answers."""
    found = answers(config, **others)
    return read(found.config_dump, found.clusters, found.stats, found.server_info)


def found_in(admin_url: str, table: Registry, *, secure_serving: bool = False) -> list[Finding]:
    """Return what the doctor finds in a running Envoy, once Envoy has seen that the router is there.

    It may have checked the router's health before that, and asks again after a second.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        answers = admin.fetch(admin_url)
        gateway = read(answers.config_dump, answers.clusters, answers.stats, answers.server_info)
        found = examine(gateway, table, max_body_bytes=LIMIT, secure_serving=secure_serving)
        if all(each.id != "endpoints-unhealthy" for each in found) or time.monotonic() >= deadline:
            return found
        threading.Event().wait(0.1)


# How kgateway turns a filter off by route: another one, on there, sets metadata that the filter looks at.
SWITCH = "off"
_UNLESS: Config = {"filter": "off", "path": [{"key": "disable"}]}
_TRUE: Config = {"value": {"bool_match": True}, "invert": True}
SWITCHED_ON: Config = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}


def switch() -> Config:
    """Return the filter that sets the metadata, in no chain by itself."""
    kind = "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config"
    metadata = [{"metadata_namespace": "off", "value": {"disable": True}}]
    return {"name": SWITCH, "typed_config": {"@type": kind, "metadata": metadata}, "disabled": True}


def looking(typed_config: Config) -> Config:
    """Return external authorization that does not act if the metadata is set."""
    return typed_config | {"filter_enabled_metadata": _UNLESS | _TRUE}


def wrapped(typed_config: Config) -> Config:
    """Return any filter within a matcher, by which it does not act if the metadata is set."""
    of = "type.googleapis.com/envoy"
    action = {
        "@type": f"{of}.extensions.filters.http.composite.v3.ExecuteFilterAction",
        "typed_config": {"name": "own", "typed_config": typed_config},
    }
    metadata = {"@type": f"{of}.extensions.matching.common_inputs.network.v3.DynamicMetadataInput", **_UNLESS}
    told = {"@type": f"{of}.extensions.matching.input_matchers.metadata.v3.Metadata", **_TRUE}
    single = {
        "input": {"name": "disable", "typed_config": metadata},
        "custom_match": {"name": "told", "typed_config": told},
    }
    matcher = {
        "predicate": {"single_predicate": single},
        "on_match": {"action": {"name": "act", "typed_config": action}},
    }
    composite = {"@type": f"{of}.extensions.filters.http.composite.v3.Composite"}
    return {
        "@type": f"{of}.extensions.common.matching.v3.ExtensionWithMatcher",
        "extension_config": {"name": "composite", "typed_config": composite},
        "xds_matcher": {"matcher_list": {"matchers": [matcher]}},
    }
