"""Values of the chart in all their legal spellings, the chart inside another, and clusters with rules of their own."""

import json
import re
import shutil
from decimal import ROUND_CEILING, Decimal

import pytest
import yaml

from bbr import cli
from bbr.config import options
from bbr.models.entries import Origin
from bbr.models.merging import merging
from bbr.models.steps import finish
from bbr.sources import configmap
from bbr.sources.scopes import SCOPE_LABEL
from deploy.render import helm, schemas
from tests.support.tools import needs

pytestmark = [needs("helm"), needs("helm4")]

CASES = dict(helm.cases())
MIB = 1 << 20


def rendering(program, tmp_path):
    """Return what renders the chart by a Helm with the two models' values and others over them."""

    def with_values(values="", *arguments, chart=helm.CHART):
        (file := tmp_path / "given.yaml").write_text(values, "utf-8")
        files = [f"--values={CASES['two-models']}", f"--values={file}"] if chart == helm.CHART else []
        text = helm.run(program, "template", "bbr", str(chart), "--namespace=models", *files, *arguments)
        return helm.documents(text)

    return with_values


@pytest.fixture(params=helm.HELMS)
def render(request, tmp_path):
    """Render the chart by each Helm."""
    return rendering(request.param, tmp_path)


@pytest.fixture
def render_once(tmp_path):
    """Render the chart by one Helm: there are many values, and both have the same functions."""
    return rendering("helm", tmp_path)


def pods(found):
    """Return the specs of all pods: the router's, the pickers', that of `helm test`."""
    specs = [each["spec"]["template"]["spec"] for each in found if each["kind"] == "Deployment"]
    return specs + [each["spec"] for each in found if each["kind"] == "Pod"]


def router(found):
    (one,) = (
        each for each in found if each["metadata"]["name"] == "body-based-router" and each["kind"] == "Deployment"
    )
    return one["spec"]


# A quantity as it may stand in YAML -> its value. The rules are those of Kubernetes' resource.ParseQuantity.
QUANTITIES = {
    "0.5": "0.5",
    ".5": "0.5",
    '".5"': "0.5",
    '"5."': "5",
    "2": "2",
    "0": "0",
    '"0"': "0",
    "+1": "1",
    '"+1"': "1",
    '"007"': "7",
    "100m": "0.1",
    "1.5": "1.5",
    "100n": "0.0000001",
    "100u": "0.0001",
    "1k": "1e3",
    "1M": "1e6",
    "1G": "1e9",
    "1T": "1e12",
    "1P": "1e15",
    '"1E"': "1e18",
    "1Ki": "1024",
    "1.5Mi": "1572864",
    "1Gi": "1073741824",
    ".5Gi": "536870912",
    "1Ti": "1099511627776",
    "1Pi": "1125899906842624",
    "1Ei": "1152921504606846976",
    "1e9": "1e9",
    '"1e9"': "1e9",
    '"1E9"': "1e9",
    '"1e+9"': "1e9",
    '"12.5e7"': "1.25e8",
    '"1e-1"': "0.1",
    "1073741824": "1073741824",
    '"1073741824"': "1073741824",
    "6442450944": "6442450944",
}


def test_every_legal_quantity_is_taken_as_it_is(render):
    given = "".join(f"\n    example.com/r{number}: {written}" for number, written in enumerate(QUANTITIES))
    resources = f"\n  resources:\n   requests: {given}\n   limits: {given}"
    found = render(f"bbr: {resources}\nepp: {resources}")
    for container in (pod["containers"][0] for pod in pods(found)[:3]):
        for kind in ("requests", "limits"):
            for number, written in enumerate(QUANTITIES):
                wanted, there = (
                    yaml.safe_load(f"- {written}")[0],
                    container["resources"][kind][f"example.com/r{number}"],
                )
                assert there == wanted or float(there) == float(wanted)
    validator = schemas.Schemas()
    assert [fault for each in found for fault in validator.faults(each)] == []


@pytest.mark.parametrize("written", QUANTITIES)
def test_half_of_every_legal_memory_limit_is_for_bodies(render_once, written):
    values = f"bbr: {{resources: {{limits: {{memory: {written}}}}}}}"
    memory = int(Decimal(QUANTITIES[written]).to_integral_value(ROUND_CEILING))
    if 0 < memory < MIB:
        with pytest.raises(helm.HelmError, match=r"bbr\.resources\.limits\.memory: \S+ is less than 1Mi"):
            render_once(values)
        return
    flags = [
        each for each in router(render_once(values))["template"]["spec"]["containers"][0]["args"] if "buffered" in each
    ]
    if memory == 0:  # no limit
        assert flags == []
        return
    (flag,) = flags
    half = options.size(flag.removeprefix("--max-buffered-bytes="))  # as the router reads it
    assert half == min(memory // 2, 2 << 30)


@pytest.mark.parametrize(
    "written",
    [
        "-1",
        '"-1"',
        "1gi",
        "1GB",
        "1KI",
        "K",
        '""',
        "1 Gi",
        '"1,5"',
        '"1e"',
        '"1e1.5"',
        '"0x10"',
        "1..5",
        ".",
        "1.5.5",
        "{}",
        "true",
    ],
)
def test_what_is_no_quantity_is_refused_by_name(render_once, written):
    with pytest.raises(helm.HelmError, match=r"at '/bbr/resources/requests/cpu'|/epp/resources"):
        render_once(f"bbr: {{resources: {{requests: {{cpu: {written}}}}}}}")


@pytest.fixture
def parent(tmp_path):
    """A chart that has ours as a dependency, with a condition, as bbr."""
    directory = tmp_path / "parent"
    shutil.copytree(helm.CHART, directory / "charts/bbr")
    dependency = {"name": "bbr", "version": ">=0.0.0", "condition": "bbr.enabled"}
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (directory / "Chart.yaml").write_text(yaml.safe_dump(chart))
    ours = {"enabled": True, "provider": {"name": "istio"}, "models": [{"baseModel": "a", "pool": {"create": False}}]}
    (directory / "values.yaml").write_text(yaml.safe_dump({"bbr": ours, "tags": {"router": True}}))
    return directory


def test_another_chart_may_have_it_under_a_condition(render, parent):
    found = render(chart=parent)
    kinds = {each["kind"] for each in found}
    assert {"Deployment", "EnvoyFilter", "HTTPRoute"} <= kinds
    assert render("", "--set=bbr.enabled=false", chart=parent) == []


def test_a_condition_without_another_chart_is_refused(render):
    assert render("enabled: true") == render()
    with pytest.raises(helm.HelmError, match="enabled: false is a condition that Helm reads for a dependency"):
        render("enabled: false")


OPENSHIFT = "--api-versions=security.openshift.io/v1"


@pytest.mark.parametrize(
    ("values", "arguments", "fixed"),
    [
        ("", (), True),
        ("", (OPENSHIFT,), False),
        ("fixedUserIds: false", (), False),
        ("fixedUserIds: true", (OPENSHIFT,), True),
    ],
)
def test_openshift_gives_user_ids_itself(render, values, arguments, fixed):
    specs = pods(render(values, *arguments))
    assert len(specs) == 4
    for pod in specs:
        contexts = [pod.get("securityContext", {}), *(each["securityContext"] for each in pod["containers"])]
        assert any(context.get("runAsNonRoot") is True for context in contexts)
        users = {context[key] for context in contexts for key in ("runAsUser", "runAsGroup") if key in context}
        assert users == ({65532} if fixed else set())
        assert not any("fsGroup" in context for context in contexts)


def test_a_pickers_own_user_is_kept(render):
    specs = pods(render("epp: {securityContext: {runAsUser: 1000}}"))
    pickers = [pod["containers"][0] for pod in specs if pod["containers"][0]["name"] == "epp"]
    assert [container["securityContext"]["runAsUser"] for container in pickers] == [1000, 1000]


def test_a_new_deployment_under_an_autoscaler_names_no_replicas(render):
    assert "replicas" not in router(render("bbr: {autoscaling: {enabled: true}}"))
    assert router(render("bbr: {replicas: 5}"))["replicas"] == 5


def with_adapters(adapters):
    """Return the values of one model."""
    return json.dumps({"models": [{"baseModel": "base", "adapters": adapters, "pool": {"selector": {"a": "b"}}}]})


def test_a_table_that_no_config_map_holds_fails_when_it_is_rendered(render_once):
    # "- NAME\n" of 200 bytes each: 5242 of them, and "base", are 1,048,404 bytes; one more is too many.
    names = [f"{number:06d}".ljust(197, "x") for number in range(5243)]
    found = render_once(with_adapters(names[:-1]))
    (held,) = (each["data"] for each in found if each["metadata"]["name"] == "base-allowlist")
    assert MIB - 300 < sum(map(len, held.values())) <= MIB
    with pytest.raises(helm.HelmError) as refused:
        render_once(with_adapters(names))
    told = str(refused.value)
    assert "models: the adapters of base: 1048603 bytes, and a ConfigMap holds 1 MiB (1048576) at most" in told
    assert "put the rest into ConfigMaps beside the release" in told


def test_the_rest_of_a_table_may_stand_in_another_config_map():
    declared = []
    for adapter in ("one", "two"):
        data = {"baseModel": "base", "adapters": f"- {adapter}"}
        declared += finish(configmap.parse(data, Origin("ConfigMap", adapter, "models")))
    table, conflicts = finish(merging(declared))
    assert {table.find(name).base_model for name in ("base", "one", "two")} == {"base"}
    assert conflicts == []


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"aliases": {f"{number:06d}".ljust(200, "x"): "a" for number in range(6000)}}, "aliases"),
        ({"epp": {"config": "x" * (MIB + 1)}}, "epp.config"),
        ({"bbr": {"customConfig": {"plugins": [], "more": "x" * MIB}}}, "bbr.customConfig"),
    ],
)
def test_other_texts_that_no_config_map_holds_are_refused(render_once, values, what):
    with pytest.raises(helm.HelmError, match=rf"{what}: \d+ bytes, and a ConfigMap holds 1 MiB \(1048576\) at most: "):
        render_once(json.dumps(values))


def table(found):
    """Return what the router reads of the rendered ConfigMaps, merged."""
    maps = [each for each in found if configmap.LABELS[0] in each["metadata"].get("labels", {})]
    labels = [each["metadata"]["labels"].get(SCOPE_LABEL) for each in maps]
    declared = [
        finish(configmap.parse(each["data"], Origin(), scope=scope))[0]
        for each, scope in zip(maps, labels, strict=True)
    ]
    return finish(merging(declared))


SCOPES = """
scopes:
  team-a:
    hosts: [Team-a.example.com, "*.team-a.example.com"]
    models:
    - {baseModel: Qwen/Qwen2.5-3B-Instruct, adapters: [review]}
    - {baseModel: microsoft/Phi-3-mini-4k-instruct, adapters: [sql-lora]}
    aliases: {gpt: sql-lora}
    allow: {review: [admins], gpt: ["*"]}
  team-b: {hosts: ["*"]}
"""


def test_scopes_are_config_maps_with_their_label(render):
    found = render(SCOPES)
    registry, conflicts = table(found)
    assert conflicts == []
    assert registry.idle_grants() == []
    assert registry.hosts.by_host == {"team-a.example.com": "team-a", "*.team-a.example.com": "team-a", "*": "team-b"}
    team_a = registry.within("team-a")
    assert registry.find("sql-lora").base_model == "Qwen/Qwen2.5-3B-Instruct"
    assert team_a.find("sql-lora").base_model == team_a.find("gpt").base_model == "microsoft/Phi-3-mini-4k-instruct"
    assert registry.find("gpt") is registry.find("review") is None
    assert team_a.grants == {"review": {frozenset({"admins"})}, "gpt": {frozenset({"*"})}}
    names = [each["metadata"]["name"] for each in found if "-scope-" in each["metadata"]["name"]]
    assert names == [f"body-based-router-scope-{name}" for name in ("team-a", "team-a.0", "team-a.1", "team-b")]


def test_a_models_entry_may_be_in_a_scope_alone(render):
    pool = "pool: {selector: {a: b}}"
    found = render(f"models: [{{baseModel: a, scope: team-a, {pool}}}, {{baseModel: b, scope: '', {pool}}}]")
    registry, _ = table(found)
    assert registry.base_models == ("b",)
    assert registry.within("team-a").base_models == ("a",)
    # The test's pod asks for no tenant's host.
    (probe,) = (each for each in found if each["kind"] == "Pod")
    asked = [each for each in probe["spec"]["containers"][0]["args"] if each.startswith("--model=")]
    assert asked == ["--model=b"]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ("scopes: {a: {allow: {x: []}}}", "scopes: x is no model, adapter or alias of the scope a"),
        ("scopes: {Team: {}}", "'Team' does not match pattern"),
        ("scopes: {a: {hosts: ['a.example:80']}}", "'a.example:80' does not match pattern"),
        ("scopes: {a: {host: [a]}}", "additional properties 'host' not allowed"),
        ("scopes: {a: {models: [{adapters: [x]}]}}", "missing property 'baseModel'"),
        (
            "{models: [{baseModel: a, pool: {create: false}, route: {header: model}}], scopes: {a: {models: [MODEL]}}}",
            "scopes: a has a, whose route matches each name by itself",
        ),
    ],
)
def test_scopes_that_are_none(render_once, values, why):
    with pytest.raises(helm.HelmError, match=re.escape(why)):
        render_once(values.replace("MODEL", "{baseModel: a}"))


def test_who_may_use_what_stands_in_the_config_maps_that_declare_it(render):
    values = """
    aliases: {gpt: sql-lora, chat: {sql-lora: 1}}
    allow: {sql-lora: [team-a, "1"], gpt: ["*"], microsoft/Phi-3-mini-4k-instruct: []}
    """
    found = render(values)
    registry, conflicts = table(found)
    assert conflicts == []
    assert registry.idle_grants() == []
    assert registry.grants == {
        "sql-lora": {frozenset({"team-a", "1"})},
        "gpt": {frozenset({"*"})},
        "microsoft/Phi-3-mini-4k-instruct": {frozenset()},
    }
    data = {each["metadata"]["name"]: each["data"] for each in found if each["kind"] == "ConfigMap"}
    assert [name for name, texts in data.items() if "allow" in texts] == [
        "qwen-allowlist",
        "phi-3-mini-4k-instruct-allowlist",
        "body-based-router-aliases",
    ]


def test_a_models_entry_may_have_its_list(render):
    found = render("models: [{baseModel: a, adapters: null, allow: [team-a], pool: {selector: {a: b}}}]")
    assert table(found)[0].grants == {"a": {frozenset({"team-a"})}}
    # The test's pod is nobody's, and a list would refuse it.
    (probe,) = (each for each in found if each["kind"] == "Pod")
    assert not any(each.startswith("--model=") for each in probe["spec"]["containers"][0]["args"])


def test_nothing_is_said_of_access_unless_it_is_wanted(render):
    found = render()
    assert table(found)[0].grants == {}
    arguments = router(found)["template"]["spec"]["containers"][0]["args"]
    assert not any(each.startswith(("--asker", "--genai-metrics", "--body-field")) for each in arguments)


def test_the_router_is_told_who_asks_and_of_the_metrics(render):
    found = render('bbr: {asker: "header:x-team", genaiMetrics: true}')
    arguments = router(found)["template"]["spec"]["containers"][0]["args"]
    assert {"--asker=header:x-team", "--genai-metrics=true"} <= {*arguments}
    parsed = vars(cli.parser(arguments[:1]).parse_args(arguments))
    assert options.asker(parsed["asker"]) == options.asker("header:x-team")


def test_the_router_is_told_which_fields_of_the_body_it_reads(render):
    written = ["service_tier=x-tier", "metadata.session_id=x-session:sha256:early:max-bytes=64"]
    found = render(f"bbr: {{bodyFields: {json.dumps(written)}}}")
    arguments = router(found)["template"]["spec"]["containers"][0]["args"]
    told = [each for each in arguments if each.startswith("--body-field")]
    assert told == [f"--body-field={each}" for each in written]
    parsed = vars(cli.parser(arguments[:1]).parse_args(arguments))
    assert options.body_fields(",".join(parsed["body_field"])) == options.body_fields(",".join(written))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ("allow: {sql-lroa: [a]}", "allow: sql-lroa is no model, adapter or alias of these values"),
        (
            "models: [{baseModel: a, allow: [x], pool: {selector: {a: b}}}]\nallow: {a: [x]}",
            "allow: a has a list in its entry of models too: leave one out",
        ),
        ("allow: {sql-lora: team-a}", "at '/allow/sql-lora': got string, want array"),
        ('allow: {sql-lora: ["a,b"]}', "at '/allow/sql-lora/0': 'a,b' does not match pattern"),
        ('allow: {sql-lora: [""]}', "at '/allow/sql-lora/0'"),
        ('allow: {sql-lora: [" a"]}', "at '/allow/sql-lora/0': ' a' does not match pattern"),
        ("bbr: {asker: x-team}", "at '/bbr/asker': 'x-team' does not match pattern"),
        ("bbr: {flags: {asker: 'header:a'}}", "bbr.flags.asker: this flag is set by bbr.asker"),
        ("bbr: {bodyFields: [user]}", "at '/bbr/bodyFields/0': 'user' does not match pattern"),
        ("bbr: {bodyFields: ['a=x:md5']}", "at '/bbr/bodyFields/0': 'a=x:md5' does not match pattern"),
        ("bbr: {bodyFields: ['a=x,b=y']}", "at '/bbr/bodyFields/0': 'a=x,b=y' does not match pattern"),
        ("bbr: {flags: {body-field: 'a=x'}}", "bbr.flags.body-field: this flag is set by bbr.bodyFields"),
        ("bbr: {flags: {genai-metrics: true}}", "bbr.flags.genai-metrics: this flag is set by bbr.genaiMetrics"),
    ],
)
def test_lists_that_would_do_nothing_are_refused_by_name(render, values, why):
    with pytest.raises(helm.HelmError) as refused:
        render(values)
    assert why in str(refused.value)


def rules(found):
    """Return what the router's role lets it read, as group/resource."""
    (role,) = (each for each in found if each["kind"].endswith("Role") and each["metadata"]["name"].endswith("-reader"))
    return {
        f"{group}/{resource}" for rule in role["rules"] for group in rule["apiGroups"] for resource in rule["resources"]
    }


POOLS = {f"{group}/inferencepools" for group in ("inference.networking.k8s.io", "inference.networking.x-k8s.io")}


def test_model_servers_are_asked_if_it_is_wanted_by_a_router_that_may_find_them(render):
    before, after = (
        render(),
        render("bbr: {discoverRoutes: false, discoverAdapters: {enabled: true, intervalSeconds: 3}}"),
    )
    assert rules(before) == {"/configmaps", "gateway.networking.k8s.io/httproutes"}
    assert rules(after) == rules(before) | {"/pods"} | POOLS
    arguments = router(after)["template"]["spec"]["containers"][0]["args"]
    assert {"--discover-adapters=true", "--discover-interval=3"} <= {*arguments}
    assert not any("discover-adapters" in each for each in router(before)["template"]["spec"]["containers"][0]["args"])
    assert "volumes" not in router(after)["template"]["spec"]


def test_the_token_of_model_servers_is_mounted_where_it_is_read(render):
    pod = router(render("bbr: {discoverAdapters: {enabled: true, tokenSecretName: a}}"))["template"]["spec"]
    (container,) = pod["containers"]
    assert "--discover-token-file=/model-servers/token" in container["args"]
    assert {"name": "model-servers", "mountPath": "/model-servers", "readOnly": True} in container["volumeMounts"]
    secret = {"secretName": "a", "items": [{"key": "token", "path": "token"}]}
    assert {"name": "model-servers", "secret": secret} in pod["volumes"]
    pod = router(render("bbr: {discoverAdapters: {tokenSecretName: a}}"))["template"]["spec"]
    assert "volumes" not in pod


def test_model_servers_are_asked_over_https_with_the_authorities_where_they_are_read(render):
    values = "bbr: {discoverAdapters: {enabled: true, https: true, caSecretName: a, serverName: vllm.b.svc}}"
    pod = router(render(values))["template"]["spec"]
    (container,) = pod["containers"]
    assert {"--discover-ca=/model-servers-ca/ca.crt", "--discover-server-name=vllm.b.svc"} <= {*container["args"]}
    assert {"name": "model-servers-ca", "mountPath": "/model-servers-ca", "readOnly": True} in container["volumeMounts"]
    secret = {"secretName": "a", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    assert {"name": "model-servers-ca", "secret": secret} in pod["volumes"]
    for values in ("enabled: true, caSecretName: a, serverName: b", "https: true, caSecretName: a, serverName: b"):
        pod = router(render(f"bbr: {{discoverAdapters: {{{values}}}}}"))["template"]["spec"]
        assert "volumes" not in pod
        assert not any("discover-ca" in each or "server-name" in each for each in pod["containers"][0]["args"])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (
            "bbr: {discoverAdapters: {enabled: true}, flags: {model-header: x}}",
            "works only with the usual routing headers",
        ),
        ("bbr: {discoverAdapters: {intervalSeconds: 0.5}}", "at '/bbr/discoverAdapters/intervalSeconds': minimum"),
        ("bbr: {discoverAdapters: true}", "at '/bbr/discoverAdapters': got boolean, want object"),
        (
            "bbr: {flags: {discover-interval: 3}}",
            "bbr.flags.discover-interval: this flag is set by bbr.discoverAdapters",
        ),
    ],
)
def test_discovery_that_cannot_work_is_refused(render, values, why):
    with pytest.raises(helm.HelmError) as refused:
        render(values)
    assert why in str(refused.value)
