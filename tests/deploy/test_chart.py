"""The chart: what its values become, what it refuses, and what it tells."""

import json
import re
import shutil
import tarfile

import pytest
import yaml

import bbr
from bbr import cli
from bbr.config import go_flags
from bbr.models.entries import Alias, Origin
from bbr.models.steps import finish
from bbr.sources import configmap
from deploy.render import helm
from deploy.render.schemas import Schemas
from tests.support.tools import needs

pytestmark = [needs("helm"), needs("helm4")]

CASES = dict(helm.cases())
TWO = [CASES["two-models"]]


def documents(values=(), settings=None, **options):
    return helm.documents(helm.render("helm", values, settings, **options))


def one(found, kind, name=None):
    (document,) = (each for each in found if each["kind"] == kind and name in (None, each["metadata"]["name"]))
    return document


def router(found):
    return one(found, "Deployment", "body-based-router")["spec"]["template"]["spec"]["containers"][0]


def identities(found):
    return {(each["kind"], each["metadata"]["name"]) for each in found}


def test_another_model_is_one_entry_of_a_list(tmp_path):
    values = yaml.safe_load(CASES["two-models"].read_text("utf-8"))
    values["models"].append({"baseModel": "google/gemma-2b-it", "pool": {"selector": {"app": "gemma"}}})
    (third := tmp_path / "values.yaml").write_text(yaml.safe_dump(values), "utf-8")
    settings = {"provider.name": "gke"}
    before, after = documents(TWO, settings), documents([third], settings)
    new = [each for each in after if each not in before and each["kind"] != "Pod"]  # the Pod of `helm test` asks for it
    assert [each for each in before if each not in after and each["kind"] != "Pod"] == []
    assert {(each["kind"], each["metadata"]["name"]) for each in new} == {
        ("ConfigMap", "gemma-2b-it-allowlist"),
        ("InferencePool", "gemma-2b-it-pool"),
        ("HTTPRoute", "gemma-2b-it-model-route"),
        ("HealthCheckPolicy", "gemma-2b-it-pool"),
        ("GCPBackendPolicy", "gemma-2b-it-pool"),
        *((kind, "gemma-2b-it-epp") for kind in ("ServiceAccount", "ConfigMap", "Deployment", "Service")),
        *((kind, f"gemma-2b-it-epp-{what}") for kind in ("Role", "RoleBinding") for what in ("pods", "pool")),
    }


@pytest.mark.parametrize(
    ("base_model", "name"),
    [
        ("Qwen/Qwen2.5-3B-Instruct", "qwen2-5-3b-instruct"),
        ("llama3:8b", "llama3-8b"),
        ("org/3b_Model.", "m-3b-model"),
        ("模型", "m"),
        ("a" * 60, "a" * 40),
        ("a" * 39 + "-b", "a" * 39),
    ],
)
def test_a_models_objects_are_named_after_it(tmp_path, base_model, name):
    values = {"models": [{"baseModel": base_model, "pool": {"selector": {"app": "a"}}}]}
    (file := tmp_path / "values.yaml").write_text(yaml.safe_dump(values), "utf-8")
    found = documents([file])
    assert one(found, "InferencePool")["metadata"]["name"] == f"{name}-pool"
    assert one(found, "HTTPRoute")["spec"]["rules"][0]["matches"][0]["headers"][0]["value"] == base_model


def test_routes_by_the_requested_model_have_a_match_for_each_name(tmp_path):
    adapters = [f"lora-{number}" for number in range(99)]
    model = {"baseModel": "base", "adapters": adapters, "pool": {"selector": {"a": "b"}}, "route": {"header": "model"}}
    (file := tmp_path / "values.yaml").write_text(json.dumps({"models": [model]}), "utf-8")
    rules = one(documents([file]), "HTTPRoute")["spec"]["rules"]
    assert [len(rule["matches"]) for rule in rules] == [64, 36]  # 64 is the most that a rule may have
    headers = [header for rule in rules for match in rule["matches"] for header in match["headers"]]
    assert [header["value"] for header in headers] == ["base", *adapters]
    assert {header["name"] for header in headers} == {"X-Gateway-Model-Name"}
    model["adapters"] = [f"lora-{number}" for number in range(128)]
    file.write_text(json.dumps({"models": [model]}), "utf-8")
    with pytest.raises(helm.HelmError, match=r"base has 129 names, and a route matches 128 at most"):
        documents([file])


@pytest.mark.parametrize("program", helm.HELMS)
@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        ("replicaCount", "3", "additional properties 'replicaCount' not allowed"),
        ("bbr.nmae", "x", "at '/bbr': additional properties 'nmae' not allowed"),
        ("bbr.name", "Router", "at '/bbr/name': 'Router' does not match pattern"),
        ("provider.name", "gcp", "at '/provider/name': value must be one of 'none', 'gke', 'istio'"),
        ("provider.supportedEvents.requestBody", "false", "requestBody': value must be true"),
        ("models[0].basemodel", "x", "at '/models/0': additional properties 'basemodel' not allowed"),
        ("models[0].pool.timeoutSeconds", "0", "at '/models/0/pool/timeoutSeconds': minimum: got 0, want 1"),
        ("models[0].name", "phi-3-mini-4k-instruct", "models: two entries have the name phi-3-mini-4k-instruct"),
        ("models[0].epp.name", "phi-3-mini-4k-instruct-epp", "two entries have the endpoint picker phi-3-mini"),
        ("models[0].epp.replicas", "2", "epp.replicas must be 1. Of several pickers of a pool only the one that leads"),
        ("epp.configApi", "v1", "at '/epp/configApi': value must be one of 'auto', 'llm-d', 'gie'"),
        ("models[2].baseModel", "gemma", "models: gemma needs pool.selector, the labels of its model servers' pods"),
        ("bbr.flags.grpc-port", "9", "bbr.flags.grpc-port: this flag is set by bbr.port"),
        ("bbr.flags.max-body-byte", "9", "bbr.flags.max-body-byte: the router has no flag of this name"),
        ("bbr.port", "9005", "bbr.healthCheckPort and bbr.metricsPort must differ: they are 9005, 9005 and 9090"),
        (
            "bbr.metricsPort",
            "9005",
            "bbr.healthCheckPort and bbr.metricsPort must differ: they are 9004, 9005 and 9005",
        ),
        ("epp.flags.pool-name", "a", "epp.flags.pool-name: the chart sets this flag"),
        ("bbr.resources.limits.memory", "1000m", "1000m is less than 1Mi"),
        ("provider.istio.envoyFilter.operation", "INSERT_AFTER", "INSERT_AFTER needs anchorSubFilter"),
    ],
)
def test_refuses_values_by_name(program, setting, value, why):
    settings = {"provider.name": "istio", setting: value}
    with pytest.raises(helm.HelmError) as refused:
        helm.render(program, TWO, settings)
    assert why in str(refused.value)


LLM_D, GIE = "llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"


@pytest.mark.parametrize(
    ("settings", "api"),
    [
        ({}, GIE),  # the case's image is of that project
        ({"epp.image": "ghcr.io/llm-d/llm-d-router-endpoint-picker:v0.10.0"}, LLM_D),
        ({"epp.image": "mirror.example.com/picker:1"}, LLM_D),
        ({"epp.image": "mirror.example.com/picker:1", "epp.configApi": "gie"}, GIE),
        ({"epp.configApi": "llm-d"}, LLM_D),
    ],
)
def test_the_pickers_config_is_of_the_api_that_its_image_reads(settings, api):
    config = yaml.safe_load(one(documents(TWO, settings), "ConfigMap", "qwen-epp")["data"]["default-plugins.yaml"])
    assert config["apiVersion"] == api
    handled = [config["parser"]] if api == GIE else config["requestHandler"]["parsers"]
    named = [each["pluginRef"] for each in handled]
    assert named == (["openai-parser"] if api == GIE else [*named[:-1], "passthrough-parser"])
    assert set(named) <= {plugin["type"] for plugin in config["plugins"]}


@pytest.mark.parametrize(
    ("provider", "setting", "value"),
    [
        ("gke", "bbr.secureServing", "false"),
        ("gke", "bbr.flags.secure-serving", "false"),
        ("envoy-gateway", "bbr.secureServing", "true"),
        ("kgateway", "bbr.secureServing", "true"),
        ("agentgateway", "bbr.flags.secure-serving", "true"),
    ],
)
def test_refuses_a_transport_that_the_gateway_does_not_speak(provider, setting, value):
    with pytest.raises(helm.HelmError, match=rf"bbr\.secureServing: {value} is not for {provider}"):
        documents(settings={"provider.name": provider, setting: value})


@pytest.mark.parametrize(
    ("provider", "settings", "secure"),
    [
        ("none", {}, "true"),
        ("gke", {}, "true"),
        ("istio", {}, "true"),
        ("istio", {"bbr.secureServing": "false"}, "false"),
        ("none", {"bbr.flags.secure-serving": "false"}, "false"),  # where the Go routers' values have it
        ("envoy-gateway", {}, "false"),
        ("kgateway", {}, "false"),
        ("agentgateway", {}, "false"),
    ],
)
def test_router_service_and_gateway_agree_on_tls(provider, settings, secure):
    found = documents(settings={"provider.name": provider, **settings})
    assert [each for each in router(found)["args"] if "secure" in each] == [f"--secure-serving={secure}"]
    port = one(found, "Service")["spec"]["ports"][0]
    assert port["appProtocol"] == {"true": "HTTP2", "false": "kubernetes.io/h2c"}[secure]
    assert ("--tls" in one(found, "Pod")["spec"]["containers"][0]["args"]) == (secure == "true")
    if provider == "istio":
        mode = one(found, "DestinationRule")["spec"]["trafficPolicy"]["tls"]["mode"]
        assert mode == {"true": "SIMPLE", "false": "DISABLE"}[secure]


@pytest.mark.parametrize(
    ("memory", "flag"),
    [
        ("1Gi", ["--max-buffered-bytes=536870912"]),
        ("1.5Gi", ["--max-buffered-bytes=805306368"]),
        ("800M", ["--max-buffered-bytes=400000000"]),
        ("1073741824", ["--max-buffered-bytes=536870912"]),
        ("null", []),
    ],
)
def test_half_of_the_memory_is_for_bodies(memory, flag):
    found = documents(settings={"bbr.resources.limits.memory": memory})
    assert [each for each in router(found)["args"] if "buffered" in each] == flag


def test_flags_keep_their_numbers(tmp_path):
    (file := tmp_path / "values.yaml").write_text("bbr: {flags: {max-body-bytes: 33554432, access-log: 0.5}}")
    assert router(documents([file]))["args"][-2:] == ["--access-log=0.5", "--max-body-bytes=33554432"]


@pytest.mark.parametrize(
    ("case", "image"),
    [
        ("bare", f"bbr:{bbr.__version__}"),
        ("go-v1.4", "registry.example.com/llm/bbr:main"),
        ("go-main", "registry.example.com/llm/bbr:main"),
    ],
)
def test_an_image_may_be_spelled_as_in_either_chart_of_the_go_routers(case, image):
    assert router(documents([CASES[case]]))["image"] == image


def test_a_plugin_is_passed_on_as_the_go_routers_chart_does():
    arguments = router(documents([CASES["go-main"]]))["args"]
    (plugin,) = (each for each in arguments if each.startswith("--plugin="))
    kind, name, text = plugin.removeprefix("--plugin=").split(":", 2)
    assert (kind, name) == ("body-field-to-header", "model")
    assert json.loads(text) == {"fieldName": "model", "headerName": "X-Gateway-Model-Name"}


def test_a_custom_config_is_read_by_the_router_as_the_payload_processors_chart_has_it(tmp_path):
    found = documents([CASES["ipp"]])
    text = one(found, "ConfigMap", "payload-processor-config")["data"]["custom-ipp-config.yaml"]
    (tmp_path / "custom-ipp-config.yaml").write_text(text, "utf-8")
    pod = one(found, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (argument,) = (each for each in container["args"] if each.startswith("--config"))
    assert argument == "--config-file=/config/custom-ipp-config.yaml"
    line = go_flags.read(["serve", argument.replace("/config/", f"{tmp_path}/")], {})
    assert line.settings == {
        "model_header": "X-Model",
        "base_model_header": "X-Gateway-Base-Model-Name",
        "assume_body_mode": "full-duplex",
    }
    assert pod["volumes"] == [{"name": "config", "configMap": {"name": "payload-processor-config"}}]
    assert container["volumeMounts"] == [{"name": "config", "mountPath": "/config", "readOnly": True}]
    assert "--discover-routes=true" not in container["args"]


def test_another_custom_config_starts_other_pods(tmp_path):
    def annotations(*settings):
        template = one(documents([CASES["ipp"], *settings]), "Deployment")["spec"]["template"]
        return template["metadata"]["annotations"]

    (file := tmp_path / "values.yaml").write_text("bbr: {customConfig: {preProcessing: {plugins: []}}}")
    assert annotations() != annotations(file)
    assert annotations().keys() == {"bbr/config"}


def test_variables_are_those_of_the_chart_and_of_the_operator():
    (container,) = one(documents([CASES["ipp"]]), "Deployment")["spec"]["template"]["spec"]["containers"]
    found = {each["name"]: each for each in container["env"]}
    assert list(found)[:3] == ["NAMESPACE", "GATEWAY_NAME", "HOST_IP"]
    assert found["GATEWAY_NAME"]["value"] == "my-gateway"
    assert found["HOST_IP"]["valueFrom"] == {"fieldRef": {"fieldPath": "status.hostIP"}}
    assert found["OTEL_TRACES_SAMPLER_ARG"]["value"] == "0.1"
    assert "env" not in router(documents(settings={"bbr.multiNamespace": "true"}))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (
            "customConfig: {plugins: [{type: headers-guard}]}",
            "bbr.customConfig.plugins: headers-guard is of the type headers-guard, which this router does not have",
        ),
        (
            "customConfig: {plugins: [{type: model-selector, name: mine}]}",
            "bbr.customConfig.plugins: mine is of the type model-selector, which this router does not have; known: b",
        ),
        ("customConfig: {plugins: [{name: mine}]}", "at '/bbr/customConfig/plugins/0': missing property 'type'"),
        ("customConfig: {kind: EndpointPickerConfig}", "at '/bbr/customConfig/kind': value must be 'PayloadProcessor"),
        (
            "{customConfig: {plugins: []}, plugins: [{type: base-model-to-header, name: b}]}",
            "bbr.customConfig and bbr.plugins contradict each other",
        ),
        ("flags: {config-file: /x}", "bbr.flags.config-file: this flag is set by bbr.customConfig"),
        ("flags: {config-text: x}", "bbr.flags.config-text: this flag is set by bbr.customConfig"),
        ("env: [{name: NAMESPACE, value: x}]", "bbr.env: NAMESPACE occurs twice, or is set by the chart"),
        ("env: [{name: A, value: x}, {name: A, value: z}]", "bbr.env: A occurs twice, or is set by the chart"),
        ("env: [{name: A, value: 1}]", "at '/bbr/env/0/value': got number, want string"),
        ("env: [{name: A=B}]", "at '/bbr/env/0/name': 'A=B' does not match pattern"),
        ("env: [{name: A, value: x, valueFrom: {}}]", "at '/bbr/env/0': 'not' failed"),
        ("env: {A: x}", "at '/bbr/env': got object, want array"),
    ],
)
def test_refuses_a_custom_config_and_variables_by_name(tmp_path, values, why):
    values = values if values.startswith("{") else f"{{{values}}}"
    (file := tmp_path / "values.yaml").write_text(f"bbr: {values}")
    with pytest.raises(helm.HelmError) as refused:
        documents([file])
    assert why in str(refused.value)


@pytest.mark.parametrize("provider", ["gke", "kgateway"])
def test_the_test_asks_the_router_for_each_model_by_flags_that_there_are(provider):
    found = documents(TWO, {"provider.name": provider})
    asked = [container["args"] for container in one(found, "Pod")["spec"]["containers"]]
    models = [vars(cli.parser(arguments[:1]).parse_args(arguments))["model"] for arguments in asked]
    assert models == [["Qwen/Qwen2.5-3B-Instruct", "microsoft/Phi-3-mini-4k-instruct"]]


@pytest.mark.parametrize(
    ("settings", "told", "untold"),
    [
        ({"provider.name": "none"}, "provider.name is none", "bbr doctor"),
        ({"provider.name": "gke"}, "needs some minutes for new health checks", "bbr doctor"),
        ({"provider.name": "istio"}, "bbr doctor --envoy-admin http://127.0.0.1:PORT --secure-serving=true", "NOTE"),
        ({"provider.name": "kgateway", "catchAll.enabled": "false"}, "NOTE: catchAll.enabled is false", "minutes"),
        ({"provider.name": "envoy-gateway"}, "without Envoy AI Gateway, and\nthe cluster does not", "catchAll.enabled"),
        ({"provider.name": "envoy-gateway", "backends": "pools"}, "only if Envoy AI Gateway is installed", "catchAll"),
        ({"provider.name": "istio", "provider.supportedEvents.responseBody": "true"}, "That is ignored", "AI Gateway"),
        (
            {"provider.name": "kgateway", "bbr.tls.secretName": "tls"},
            "bbr.tls.secretName is not used",
            "AI Gateway",
        ),
        (
            {"provider.name": "gke", "bbr.tls.secretName": "tls"},
            "routes 2 model(s)",
            "bbr.tls.secretName",
        ),
        ({"provider.name": "gke", "aliases.x": "y-?"}, "NOTE: the model y-? is taken literally", "the model Qwen"),
        ({"provider.name": "gke", "aliases.x.y*": "1"}, "NOTE: the model y* is taken literally", "the model Qwen"),
        ({"provider.name": "gke", "allow.sql-lora[0]": "a"}, "NOTE: some models have lists of who may use", "minutes."),
        ({"provider.name": "gke", "aliases.x*": "phi"}, "routes 2 model(s)", "taken literally"),
        ({"provider.name": "istio", "provider.attach": "false"}, "again with provider.attach=true", "bbr doctor"),
        ({"provider.name": "istio"}, "bbr doctor --envoy-admin", "provider.attach"),
        ({"provider.name": "agentgateway"}, "describe httproutes", "bbr doctor"),
    ],
)
def test_notes_tell_what_to_check_next(tmp_path, settings, told, untold):
    # Helm prints notes only to who has a cluster: a copy of the chart has them in an object.
    shutil.copytree(helm.CHART, chart := tmp_path / "chart")
    notes = '{{ include (print .Template.BasePath "/NOTES.txt") . | quote }}'
    (chart / "templates/notes.yaml").write_text(
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: notes}}\ndata: {{notes: {notes}}}\n"
    )
    text = one(documents(TWO, settings, chart=chart), "ConfigMap", "notes")["data"]["notes"]
    services = settings["provider.name"] in ("kgateway", "envoy-gateway") and "backends" not in settings
    how = "Service qwen-pool" if services else "qwen-pool, picked by qwen-epp"
    assert f"Qwen/Qwen2.5-3B-Instruct -> {how}; adapters: sql-lora, 1" in text
    assert "helm -n models test bbr" in text
    assert told in text
    assert untold not in text


def test_dashboard_and_alerts_are_those_of_the_repository():
    found = documents([CASES["everything"]])
    dashboards = helm.ROOT / "deploy/dashboards"
    assert one(found, "ConfigMap", "router-dashboard")["data"]["bbr.json"] == (dashboards / "bbr.json").read_text(
        "utf-8"
    )
    alerts = one(found, "ConfigMap", "router-alerts")["data"]["bbr.yaml"]
    assert yaml.safe_load(alerts) == yaml.safe_load((dashboards / "alerts.yaml").read_text("utf-8"))


@pytest.mark.parametrize("program", helm.HELMS)
def test_alerts_may_be_a_rule_of_prometheus_operator(program):
    settings = {"bbr.alerts.enabled": "true", "bbr.alerts.kind": "PrometheusRule", "bbr.alerts.labels.release": "p"}
    found = helm.documents(helm.render(program, settings=settings))
    rule = one(found, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((helm.ROOT / "deploy/dashboards/alerts.yaml").read_text("utf-8"))
    assert rule["metadata"]["labels"]["release"] == "p"
    assert not any(each["metadata"]["name"].endswith("-alerts") for each in found)
    assert [fault for each in found for fault in Schemas().faults(each)] == []


@pytest.mark.parametrize("program", helm.HELMS)
@pytest.mark.parametrize("kind", ["ConfigMap", "PrometheusRule"])
def test_alerts_and_dashboard_lead_to_ones_own_copy_of_the_page(program, kind):
    page = "https://docs.example.com/reference/alerts.html"
    settings = {"bbr.alerts.enabled": "true", "bbr.alerts.kind": kind, "bbr.dashboard.enabled": "true"}
    found = helm.documents(helm.render(program, settings={**settings, "bbr.runbook": page}))
    if kind == "PrometheusRule":
        groups = one(found, "PrometheusRule")["spec"]["groups"]
    else:
        groups = yaml.safe_load(one(found, "ConfigMap", "body-based-router-alerts")["data"]["bbr.yaml"])["groups"]
    urls = {rule["alert"]: rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"]}
    assert urls == {name: f"{page}#{name.lower()}" for name in urls}
    dashboard = json.loads(one(found, "ConfigMap", "body-based-router-dashboard")["data"]["bbr.json"])
    told = " ".join(panel.get("description", "") for panel in dashboard["panels"])
    assert set(re.findall(r"https://\S+?#\w+", told)) == set(urls.values())
    assert "docs/reference/alerts.md" not in told


@pytest.mark.parametrize("written", ["docs", "ftp://example.com/a", "https://example.com/#a", 'https://a"b'])
def test_an_address_that_nobody_can_open_is_rejected(written):
    with pytest.raises(helm.HelmError, match="/bbr/runbook"):
        helm.render("helm", settings={"bbr.runbook": written})


@pytest.mark.parametrize("program", helm.HELMS)
def test_a_package_has_the_dashboard(tmp_path, program):
    helm.run(program, "package", str(helm.CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("bbr-*.tgz")
    with tarfile.open(package) as archive:
        inside = {member.name: member for member in archive}
        dashboard = archive.extractfile(inside["bbr/dashboards/bbr.json"])
        assert dashboard.read() == (helm.ROOT / "deploy/dashboards/bbr.json").read_bytes()
    assert not [name for name in inside if "/ci/" in name]


def test_a_program_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(helm.HelmError, match=r"helm is not installed; `make helm`"):
        helm.run("helm", "version")


def test_is_started_as_the_image_is():
    # The image's entry point is /bbr, so the arguments begin with a command.
    arguments = router(documents(TWO))["args"]
    assert vars(cli.parser(arguments[:1]).parse_args(arguments))["command"] == "serve"


@pytest.mark.parametrize(("provider", "used"), [("gke", True), ("kgateway", False)])
def test_a_certificate_is_mounted_where_it_is_served(provider, used):
    found = documents(settings={"provider.name": provider, "bbr.tls.secretName": "router-tls"})
    pod = one(found, "Deployment")["spec"]["template"]["spec"]
    assert ("--tls-cert=/tls/tls.crt" in router(found)["args"]) == used
    assert [volume["secret"]["secretName"] for volume in pod.get("volumes", ())] == ["router-tls"] * used
    assert [mount["mountPath"] for mount in router(found).get("volumeMounts", ())] == ["/tls"] * used


def test_the_chart_is_for_this_version():
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["appVersion"] == bbr.__version__


@pytest.mark.parametrize("tool", ["helm", "helm4"])
def test_aliases_are_a_config_map_that_the_router_reads(tool):
    found = helm.documents(helm.render(tool, [CASES["everything"]]))
    config_map = one(found, "ConfigMap", "router-aliases")
    assert config_map["metadata"]["labels"][configmap.LABELS[0]] == configmap.LABEL_VALUE
    (declared,) = finish(configmap.parse(config_map["data"], Origin()))
    assert declared.aliases == (Alias("chat", "qwen", (("qwen", 1_000_000),)), Alias("gpt", "qwen"))
    assert not any("aliases" in each["metadata"]["name"] for each in documents(TWO))


def test_encoded_bodies_go_on_decoded_where_there_are_pickers():
    flag = "--forward-decoded=true"
    assert router(documents(TWO))["args"].count(flag) == 1
    assert flag not in router(documents([CASES["bare"]]))["args"]
    assert flag not in router(documents(TWO, {"bbr.flags.forward-decoded": "false"}))["args"]


def test_patterns_are_adapters_and_aliases(tmp_path):
    values = yaml.safe_load(CASES["two-models"].read_text("utf-8"))
    values["models"][0]["adapters"] = ["*-lora"]
    values["aliases"] = {"claude-*": values["models"][1]["baseModel"]}
    (file := tmp_path / "values.yaml").write_text(yaml.safe_dump(values), "utf-8")
    found = documents([file])
    declared = [
        finish(configmap.parse(each["data"], Origin()))[0]
        for each in found
        if each["metadata"]["name"].endswith(("-allowlist", "-aliases"))
    ]
    assert any(model.adapters == ("*-lora",) for each in declared for model in each.models)
    assert any(alias.name == "claude-*" for each in declared for alias in each.aliases)
    values["models"][0]["route"] = {"header": "model"}
    file.write_text(yaml.safe_dump(values), "utf-8")
    with pytest.raises(helm.HelmError, match="has adapters that are patterns, and a route that matches each name"):
        documents([file])
    values["aliases"] = {"*claude*": "x"}
    file.write_text(yaml.safe_dump(values), "utf-8")
    with pytest.raises(helm.HelmError, match=r"'\*claude\*' does not match pattern"):
        documents([file])
