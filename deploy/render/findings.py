"""What is wrong with rendered objects although each of them is valid: they must fit each other, and the router.

Each rule is a function from the objects to findings. Where an object names a thing that is elsewhere by intent (a
picker of somebody else's), the caller says so.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from bbr.admin import authorization
from bbr.config import go_flags as dropin
from bbr.config import loading
from bbr.config import settings as config
from bbr.models.steps import finish
from bbr.sources import configmap, scopes
from bbr.sources.discovery import Discovery
from bbr.sources.kubernetes import KubernetesSource
from bbr.sources.model_servers import ModelServers
from bbr.sources.objects import SourceError
from bbr.sources.table import Table
from bbr.system.worker_process import WorkerProcess

Document = dict[str, Any]

POOL_GROUP: Final = "inference.networking.k8s.io"
_BASE_HEADER: Final = "x-gateway-base-model-name"
_MODEL_HEADER: Final = "x-gateway-model-name"
_EVERY_HOST: Final = "every host"
_LABEL: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
# Whose names become DNS labels or label values.
_LABELLED: Final = frozenset({"Service", "Deployment", "InferencePool", "HTTPRoute", "ServiceAccount", "Pod"})
# Rights of a picker: (group, resource), each to get, list and watch.
_PICKER_RIGHTS: Final = (
    ("", "pods"),
    (POOL_GROUP, "inferencepools"),
    ("inference.networking.x-k8s.io", "inferenceobjectives"),
    ("inference.networking.x-k8s.io", "inferencemodelrewrites"),
    ("llm-d.ai", "inferenceobjectives"),
    ("llm-d.ai", "inferencemodelrewrites"),
)


class Finding(NamedTuple):
    """What is wrong.

    Attributes:
        rule: its name.
        where: kind/name of the object.
        what: a sentence.
    """

    rule: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.what}"


class Objects:
    """Rendered objects, by kind and name.

    Args:
        documents: all of one namespace.
        outside: names of Services and pools that are there already.
    """

    def __init__(self, documents: Iterable[Document], outside: Iterable[str] = ()) -> None:
        self.all = list(documents)
        self.outside = frozenset(outside)

    def of(self, *kinds: str) -> list[Document]:
        """Return those of some kinds."""
        return [each for each in self.all if each["kind"] in kinds]

    def get(self, kind: str, name: str) -> Document | None:
        """Return one."""
        return next((each for each in self.of(kind) if each["metadata"]["name"] == name), None)

    def has(self, kind: str, name: str) -> bool:
        """Tell whether one is there."""
        return name in self.outside or self.get(kind, name) is not None

    def selected(self, labels: dict[str, str]) -> list[Document]:
        """Return the Deployments whose pods have all labels."""
        return [
            each for each in self.of("Deployment") if labels.items() <= _template(each)["metadata"]["labels"].items()
        ]

    def behind(self, service: str) -> Document | None:
        """Return the Deployment of a Service."""
        found = self.get("Service", service)
        selected = self.selected(found["spec"]["selector"]) if found else []
        return selected[0] if selected else None

    def routers(self) -> list[Document]:
        """Return the Deployments of the router."""
        return [each for each in self.of("Deployment") if _container(each)["name"] == "bbr"]

    def names(self) -> dict[str, str]:
        """Return the table as a router of these ConfigMaps has it: name -> base model."""
        found: dict[str, str] = {}
        for each in self.of("ConfigMap"):
            if any((each["metadata"].get("labels") or {}).get(label) == "true" for label in configmap.LABELS):
                origin = configmap.origin("", each["metadata"]["name"], None)
                scope = (each["metadata"].get("labels") or {}).get(scopes.SCOPE_LABEL)
                for declaration in finish(configmap.parse(each["data"], origin, scope=scope)):
                    for model in declaration.models:
                        found |= dict.fromkeys((model.name, *model.adapters), model.name)
        return found


def _where(document: Document) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def _template(deployment: Document) -> Document:
    template: Document = deployment["spec"]["template"]
    return template


def _container(deployment: Document) -> Document:
    container: Document = _template(deployment)["spec"]["containers"][0]
    return container


def _flags(container: Document) -> dict[str, str]:
    given = (argument.removeprefix("--").partition("=") for argument in container["args"] if argument.startswith("--"))
    return {name: value for name, _, value in given}


def pickers(objects: Objects) -> Iterator[Finding]:
    """Each pool has a picker of its own, which picks in that pool."""
    taken: dict[str, str] = {}
    for pool in objects.of("InferencePool"):
        name, reference = pool["metadata"]["name"], pool["spec"]["endpointPickerRef"]
        picker = reference["name"]
        if picker in taken:
            yield Finding("picker-shared", _where(pool), f"its picker {picker} is that of {taken[picker]} too")
        taken[picker] = name
        if picker in objects.outside:
            continue
        service, deployment = objects.get("Service", picker), objects.behind(picker)
        if service is None or deployment is None:
            yield Finding("picker-missing", _where(pool), f"there is no Service {picker} with a Deployment behind it")
            continue
        flags = _flags(_container(deployment))
        if flags.get("pool-name") != name:
            yield Finding("picker-of-another", _where(deployment), f"picks in {flags.get('pool-name')}, not in {name}")
        if flags.get("pool-namespace") != pool["metadata"]["namespace"]:
            yield Finding("picker-of-another", _where(deployment), f"picks in namespace {flags.get('pool-namespace')}")
        if reference["port"]["number"] not in {port["port"] for port in service["spec"]["ports"]}:
            yield Finding("port-mismatch", _where(pool), f"Service {picker} has no port {reference['port']['number']}")
        if reference.get("failureMode") != "FailClose":
            yield Finding("fails-open", _where(pool), "without a picker, requests go to any pod")


def table(objects: Objects) -> Iterator[Finding]:
    """Each ConfigMap of the table can be read by the router."""
    try:
        objects.names()
    except SourceError as error:
        yield Finding("table-unreadable", "ConfigMap", str(error))


def routes(objects: Objects) -> Iterator[Finding]:
    """Each header value in a route is a name of the table, and each base model has a route to a pool."""
    try:
        names = objects.names()
    except SourceError:
        return
    routed = set()
    for route in objects.of("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for header in (header for match in rule["matches"] for header in match.get("headers", ())):
                value = header["value"]
                if value not in names or (header["name"].lower() == _BASE_HEADER and names[value] != value):
                    yield Finding("route-unknown-model", _where(route), f"no model {value} is in the table")
                elif header["name"].lower() not in (_BASE_HEADER, _MODEL_HEADER):
                    yield Finding("route-unknown-header", _where(route), f"the router does not set {header['name']}")
                else:
                    routed.add(names[value])
            for backend in rule.get("backendRefs", ()):
                kind = backend.get("kind", "Service")
                if not objects.has(kind, backend["name"]):
                    yield Finding("route-without-pool", _where(route), f"there is no {kind} {backend['name']}")
    for base in sorted(set(names.values()) - routed) if objects.of("HTTPRoute") else ():
        yield Finding("model-unrouted", "HTTPRoute", f"no route takes {base}")


def _model_services(objects: Objects) -> list[Document]:
    """Return the Services that models' routes point at: what they select is not the chart's."""
    rules = [rule for route in objects.of("HTTPRoute") for rule in route["spec"]["rules"]]
    routed = [rule for rule in rules if any(match.get("headers") for match in rule["matches"])]
    names = {backend["name"] for rule in routed for backend in rule.get("backendRefs", ()) if "kind" not in backend}
    return [service for service in objects.of("Service") if service["metadata"]["name"] in names]


def selectors(objects: Objects) -> Iterator[Finding]:
    """What selects pods selects those of one Deployment."""
    for each in objects.of("Service", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor", "Deployment"):
        if each in _model_services(objects):
            continue
        spec = each["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        if len(objects.selected(selector.get("matchLabels", selector))) != 1:
            yield Finding("selector-mismatch", _where(each), f"{selector} does not select the pods of one Deployment")
    for each in objects.of("HorizontalPodAutoscaler"):
        if objects.get("Deployment", each["spec"]["scaleTargetRef"]["name"]) is None:
            yield Finding("selector-mismatch", _where(each), "it scales a Deployment that is not there")


def ports(objects: Objects) -> Iterator[Finding]:
    """Ports are those of the containers behind them, and what calls a Service calls a port that it has."""
    for deployment in objects.of("Deployment"):
        container = _container(deployment)
        open_ports = {port["containerPort"] for port in container["ports"]}
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            asked = container.get(probe, {}).get("grpc", {}).get("port")
            if asked is not None and asked not in open_ports:
                yield Finding("port-mismatch", _where(deployment), f"{probe} asks at {asked}, which is not open")
    for service in objects.of("Service"):
        if service in _model_services(objects):
            continue
        behind = objects.behind(service["metadata"]["name"])
        named = {port["name"] for port in _container(behind)["ports"]} if behind else set()
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in named:
                yield Finding("port-mismatch", _where(service), f"no container has a port {port['targetPort']}")
    for caller, name, number in _calls(objects):
        called = objects.get("Service", name)
        if called is None or number not in {port["port"] for port in called["spec"]["ports"]}:
            yield Finding("port-mismatch", _where(caller), f"it calls {name}:{number}, which no Service has")
    yield from _checked_ports(objects)


def _checked_ports(objects: Objects) -> Iterator[Finding]:
    for policy in objects.of("HealthCheckPolicy"):
        target, (check,) = policy["spec"]["targetRef"], _checks(policy)
        if target["kind"] == "Service":
            deployment = objects.behind(target["name"])
            right = {port["containerPort"] for port in _container(deployment)["ports"]} if deployment else set()
        else:
            pools = [pool for pool in objects.of("InferencePool") if pool["metadata"]["name"] == target["name"]]
            right = {port["number"] for pool in pools for port in pool["spec"]["targetPorts"]} or {check["port"]}
        if check["port"] not in right:
            yield Finding("port-mismatch", _where(policy), f"it checks port {check['port']}, which is not open")


def _checks(policy: Document) -> list[Document]:
    return [value for key, value in policy["spec"]["default"]["config"].items() if key.endswith("HealthCheck")]


def _calls(objects: Objects) -> Iterator[tuple[Document, str, int]]:
    """Yield what calls which port of which Service, by the attachments to gateways."""
    for each in objects.all:
        if each["kind"] in ("HTTPRoute", "InferencePool"):
            continue
        for key, value in _walk(each.get("spec", {})):
            if key == "backendRef" or (key == "backendRefs" and isinstance(value, list)):
                for reference in value if isinstance(value, list) else [value]:
                    yield each, reference["name"], reference["port"]
            elif key == "cluster_name":
                _, port, _, host = value.split("|")
                yield each, host.partition(".")[0], int(port)


def _walk(value: object) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values in a document, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def references(objects: Objects) -> Iterator[Finding]:
    """What objects name is there."""
    for each in objects.all:
        spec = each.get("spec", {})
        named = [spec["targetRef"]] if each["kind"] in ("HealthCheckPolicy", "GCPBackendPolicy") else []
        if each["kind"] == "DestinationRule":
            named.append({"kind": "Service", "name": spec["host"].partition(".")[0]})
        if each["kind"] == "TrafficPolicy":
            named.append({"kind": "GatewayExtension", **spec["extProc"]["extensionRef"]})
        if each["kind"] == "HTTPRoute":
            filters = [each for rule in spec["rules"] for each in rule.get("filters", ())]
            named += [each["extensionRef"] for each in filters if each["type"] == "ExtensionRef"]
        for reference in named:
            if not objects.has(reference["kind"], reference["name"]):
                what = f"there is no {reference['kind']} {reference['name']}"
                yield Finding("reference-missing", _where(each), what)


# What calls the router: by kind, what must be said, since the default is to fail open, or to send responses.
_ATTACHMENTS: Final = {
    "GCPRoutingExtension": ("failOpen", "supportedEvents"),
    "EnvoyFilter": ("failure_mode_allow", "response_header_mode"),
    "EnvoyExtensionPolicy": ("failOpen",),
    "GatewayExtension": ("failOpen", "responseHeaderMode"),
    "AgentgatewayPolicy": ("failureMode", "responseHeaderMode"),
}
_OPEN: Final = {"failOpen": True, "failure_mode_allow": True, "failureMode": "FailOpen"}
# Values that keep a response from the router; None: the key itself sends it there.
_RESPONSES: Final = {
    "response": None,
    "responseBodySendMode": None,
    **dict.fromkeys(
        ("response_header_mode", "response_trailer_mode", "responseHeaderMode", "responseTrailerMode"), "SKIP"
    ),
    **dict.fromkeys(("response_body_mode", "responseBodyMode"), "NONE"),
}


def attachments(objects: Objects) -> Iterator[Finding]:
    """A gateway fails closed and sends no responses."""
    for each in objects.of(*_ATTACHMENTS):
        said = set()
        for key, value in _walk(each["spec"]):
            said.add(key)
            if key in _OPEN and value == _OPEN[key]:
                yield Finding("fails-open", _where(each), f"{key} is {value}")
            if key in _RESPONSES and str(value).upper() != _RESPONSES[key]:
                yield Finding("response-events", _where(each), f"{key} is {value}")
            if key == "supportedEvents" and any(event.startswith("Response") for event in value):
                yield Finding("response-events", _where(each), f"{key} is {value}")
        for key in set(_ATTACHMENTS[each["kind"]]) - said:
            rule = "fails-open" if key in _OPEN else "response-events"
            yield Finding(rule, _where(each), f"{key} is not said")


def catch_alls(objects: Objects) -> Iterator[Finding]:
    """Where a gateway calls the router by route, each host has a route for what is not routed yet."""
    if not objects.of("EnvoyExtensionPolicy", "TrafficPolicy"):
        return
    hosts, caught = set(), set()
    for route in objects.of("HTTPRoute"):
        named = route["spec"].get("hostnames", [_EVERY_HOST])
        hosts.update(named)
        matches = [match for rule in route["spec"]["rules"] for match in rule["matches"]]
        if any(match["path"]["value"] == "/" and not match.get("headers") for match in matches):
            caught.update(named)
    # Each host that a route names is a virtual host of its own: there, a catch-all without hosts is not.
    for host in sorted((hosts or {_EVERY_HOST}) - caught):
        yield Finding("catch-all-missing", "HTTPRoute", f"{host}: the router is never called for what has no route yet")


def rights(objects: Objects) -> Iterator[Finding]:
    """Service accounts have the rights that the programs use."""
    for deployment in objects.of("Deployment"):
        account = _template(deployment)["spec"]["serviceAccountName"]
        if objects.get("ServiceAccount", account) is None:
            yield Finding("account-missing", _where(deployment), f"there is no ServiceAccount {account}")
        for group, resource, verb, everywhere in _needed(deployment):
            if not _allowed(objects, account, group, resource, verb, everywhere=everywhere):
                scope = " in all namespaces" if everywhere else ""
                yield Finding(
                    "right-missing", _where(deployment), f"{account} may not {verb} {group}/{resource}{scope}"
                )


def _needed(deployment: Document) -> Iterator[tuple[str, str, str, bool]]:
    """Yield group, resource, verb, and whether it is of the cluster, for what a Deployment's program asks."""
    container = _container(deployment)
    flags = _flags(container)
    if container["name"] != "bbr":
        yield from (
            (group, resource, verb, False) for group, resource in _PICKER_RIGHTS for verb in ("get", "list", "watch")
        )
        return
    one_namespace = any(variable["name"] == "NAMESPACE" for variable in container.get("env", ()))
    source = KubernetesSource(
        Table(),
        _unused,
        WorkerProcess(),
        namespace="n" if one_namespace else None,
        discover_routes=flags.get("discover-routes") == "true",
    )
    paths = [reflector.path for reflector in source.reflectors]
    if flags.get("discover-adapters") == "true":
        paths += [
            reflector.path for reflector in Discovery(Table(), _unused, WorkerProcess(), ModelServers()).reflectors
        ]
        paths.append("/api/v1/pods")
    for path in paths:
        group, resource = _resource(path)
        yield from ((group, resource, verb, not one_namespace) for verb in ("list", "watch"))
    if flags.get("metrics-endpoint-auth") == "true":
        for path in (authorization.TOKEN_REVIEWS, authorization.ACCESS_REVIEWS):
            yield (*_resource(path), "create", True)


def _unused() -> Any:
    raise AssertionError("nothing is asked of a cluster here")


def _resource(path: str) -> tuple[str, str]:
    """Return group and resource of a path of the API."""
    parts = path.strip("/").split("/")
    return ("" if parts[0] == "api" else parts[1]), parts[-1]


def _allowed(objects: Objects, account: str, group: str, resource: str, verb: str, *, everywhere: bool) -> bool:
    kinds = ("ClusterRoleBinding",) if everywhere else ("ClusterRoleBinding", "RoleBinding")
    for binding in objects.of(*kinds):
        if all(subject["name"] != account for subject in binding["subjects"]):
            continue
        reference = binding["roleRef"]
        if reference["name"] == "system:auth-delegator":  # comes with the cluster
            if verb == "create" and resource in ("tokenreviews", "subjectaccessreviews"):
                return True
            continue
        role = objects.get(reference["kind"], reference["name"])
        for rule in role["rules"] if role else ():
            if group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]:
                return True
    return False


def names(objects: Objects) -> Iterator[Finding]:
    """Names and label values are short enough for what is made of them, and no object is there twice."""
    seen = set()
    for each in objects.all:
        name = each["metadata"]["name"]
        form = _LABEL if each["kind"] in _LABELLED else _SUBDOMAIN
        if not form.fullmatch(name) and not name.startswith("system:"):
            yield Finding("name-unfit", _where(each), f"{len(name)} characters, or not a DNS name")
        if (each["kind"], name) in seen:
            yield Finding("object-twice", _where(each), "it is there twice")
        seen.add((each["kind"], name))
        for key, value in _walk(each):
            if key in ("labels", "matchLabels"):
                for label, text in (value or {}).items():
                    if not isinstance(text, str) or not _LABEL_VALUE.fullmatch(text):
                        yield Finding("name-unfit", _where(each), f"label {label}: {text!r} can't be a label's value")


def arguments(objects: Objects) -> Iterator[Finding]:
    """The router's arguments are flags of `bbr serve` with usable values."""
    for deployment in objects.routers():
        try:
            line = dropin.read(_with_mounted(objects, deployment), {})
            given = dict(line.settings)
            for flag, value in _flags({"args": line.arguments}).items():
                if flag.replace("-", "_") in config.OPTIONS:
                    given[flag.replace("-", "_")] = value
                else:
                    yield Finding("flag-unknown", _where(deployment), f"--{flag} is not a flag of bbr serve")
            loading.load(given, {})
        except config.ConfigError as error:
            yield Finding("flag-unusable", _where(deployment), str(error))


def _with_mounted(objects: Objects, deployment: Document) -> list[str]:
    """Return the router's arguments, the file of --config-file replaced by the text that a ConfigMap mounts there."""
    container, volumes = _container(deployment), _template(deployment)["spec"].get("volumes", ())
    maps = {each["name"]: each["configMap"]["name"] for each in volumes if "configMap" in each}
    texts = {}
    for mount in container.get("volumeMounts", ()):
        found = objects.get("ConfigMap", maps.get(mount["name"], ""))
        for name, text in (found["data"] if found else {}).items():
            texts[f"--{dropin.CONFIG_FILE}={mount['mountPath']}/{name}"] = f"--{dropin.CONFIG_TEXT}={text}"
    return [texts.get(argument, argument) for argument in container["args"]]


RULES: Final[tuple[Callable[[Objects], Iterator[Finding]], ...]] = (
    pickers,
    table,
    routes,
    selectors,
    ports,
    references,
    attachments,
    catch_alls,
    rights,
    names,
    arguments,
)


def findings(documents: Iterable[Document], outside: Iterable[str] = ()) -> list[Finding]:
    """Return what is wrong.

    Args:
        documents: all objects of one namespace.
        outside: names of Services and pools that are there already: endpoint pickers of somebody else's.
    """
    objects = Objects(documents, outside)
    return [finding for rule in RULES for finding in rule(objects)]
