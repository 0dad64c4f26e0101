"""A gateway as the doctor sees it: listeners, filters, routes and clusters out of Envoy's admin answers.

Pure. What Envoy does with per-route settings is repeated here as experiments with Envoy 1.40 showed it
(tests/integration/test_doctor.py repeats them).
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from bbr.commands.doctor.node import Node
from bbr.commands.doctor.switches import turns_off
from bbr.headers import BASE_MODEL_HEADER, MODEL_HEADER

ROUTING_HEADERS: Final = {name.lower(): name for name in (BASE_MODEL_HEADER, MODEL_HEADER)}

_ROUTER_NAMES: Final = re.compile(r"(?<![a-z])(bbr|ipp)(?![a-z])|body-based-rout|payload-process", re.IGNORECASE)
_PICKER_NAMES: Final = re.compile(r"(?<![a-z])epp(?![a-z])|endpoint-?picker|inference-?pool", re.IGNORECASE)

# What a route's match may say of paths, and what makes it match less than its path and headers do.
_SPECIFIERS: Final = ("prefix", "path", "path_separated_prefix", "safe_regex")
_NARROW: Final = ("query_parameters", "grpc", "runtime_fraction", "tls_context", "dynamic_metadata", "filter_state")


@dataclass(frozen=True, eq=False)
class Route:
    """A route.

    Attributes:
        node: the route.
        host: its virtual host.
        table: its route configuration.
    """

    node: Node
    host: Node
    table: Node

    @property
    def label(self) -> str:
        """Its name, or that of its virtual host and its place there."""
        place = self.node.path.rpartition("[")[2].rstrip("]")
        return self.node.get("name").text or f"{self.host.get('name').text or 'virtual host'}[{place}]"

    @cached_property
    def wants(self) -> Sequence[Node]:
        """The matches on the router's headers that a client's request can't meet without that header."""
        return [
            each
            for each in self.node.each("match", "headers")
            if each.get("name").text.lower() in ROUTING_HEADERS
            and not each.get("invert_match").is_true
            and not each.get("treat_missing_header_as_empty").is_true
            and each.get("present_match").value is not False
        ]

    def covers(self, other: "Route") -> bool:
        """Tell whether every request that this path and these headers of `other` match, routing headers aside, matches.

        Returns False where that is not certain.
        """
        if self.host.path != other.host.path or self.wants or self._is_narrow:
            return False
        return _covers_path(self._paths, other._paths) and all(each in other._headers for each in self._headers)

    # Read once: each route is compared with many others, and a gateway's tenants may have thousands.

    @cached_property
    def _is_narrow(self) -> bool:
        """Whether it looks at more than paths and headers."""
        return any(self.node.get("match", key) for key in _NARROW)

    @cached_property
    def _paths(self) -> Mapping[str, object]:
        return {key: self.node.get("match", key).value for key in _SPECIFIERS}

    @cached_property
    def path_text(self) -> str | None:
        """What the match says of how paths begin, or are; None if it has no such text."""
        texts = (self._paths[key] for key in ("prefix", "path", "path_separated_prefix"))
        return next((each for each in texts if isinstance(each, str)), None)

    @cached_property
    def _headers(self) -> Sequence[object]:
        return [each.value for each in self.node.each("match", "headers")]

    def settings(self, name: str) -> list[Node]:
        """Return the settings of `name`'s filter here, from the least specific place to the most."""
        places = (self.table, self.host, self.node)
        return [found for place in places if (found := place.get("typed_per_filter_config", name))]


class _Entries:
    """Routes of a virtual host, in order, known by what their paths begin with: of thousands few are compared."""

    def __init__(self) -> None:
        self._routes: list[Route] = []
        self._by_text: defaultdict[str, list[int]] = defaultdict(list)
        self._sizes: set[int] = set()  # of these texts
        self._others: list[int] = []  # without any

    def add(self, route: Route) -> None:
        """Add the next route."""
        text, number = route.path_text, len(self._routes)
        self._routes.append(route)
        if text is None:
            self._others.append(number)
        else:
            self._by_text[text].append(number)
            self._sizes.add(len(text))

    def covering(self, other: Route) -> Route | None:
        """Return the first that covers a route; None if none does."""
        text = other.path_text
        # All that is matched by an expression alone begins with a slash.
        beginnings = {"", "/"} if text is None else {text[:size] for size in self._sizes if size <= len(text)}
        numbers = [*self._others, *(each for begins in beginnings for each in self._by_text.get(begins, ()))]
        return next((each for each in map(self._routes.__getitem__, sorted(numbers)) if each.covers(other)), None)


def _covers_path(mine: Mapping[str, object], others: Mapping[str, object]) -> bool:
    prefix, separated = mine["prefix"], mine["path_separated_prefix"]
    for key in ("prefix", "path", "path_separated_prefix"):
        path = others[key]
        if isinstance(path, str):
            if isinstance(prefix, str):
                return path.startswith(prefix)
            if isinstance(separated, str) and separated and key != "prefix":
                return path == separated or path.startswith(f"{separated}/")
    if prefix in ("", "/"):
        return True
    return any(mine[key] is not None and mine[key] == others[key] for key in _SPECIFIERS)


@dataclass(frozen=True, eq=False)
class Filter:
    """An HTTP filter of a listener.

    Attributes:
        node: the entry of http_filters.
        config: its configuration; of one that a matcher and a composite filter wrap, as kgateway has it, its own.
        switches: filters before it that keep it from acting where they are on.
    """

    node: Node
    config: Node
    switches: Sequence["Filter"] = ()

    @property
    def name(self) -> str:
        """Its name, by which routes refer to it."""
        return self.node.get("name").text

    @property
    def cluster(self) -> Node:
        """The name of the cluster that it calls."""
        return self.config.get("grpc_service", "envoy_grpc", "cluster_name")

    def is_on(self, route: Route | None) -> bool:
        """Tell whether Envoy puts the filter into the chain of a request that has `route` at first, or none.

        The most specific place decides: a FilterConfig with `disabled` takes it out, any other setting puts it in.
        Envoy does not ask again after the router's answer. One that a switch keeps from acting is as good as out.
        """
        if self.switched_off(route):
            return False
        settings = route.settings(self.name) if route else []
        if settings:
            return not (settings[-1].type == "FilterConfig" and settings[-1].get("disabled").is_true)
        return not self.node.get("disabled").is_true

    def switched_off(self, route: Route | None) -> "Filter | None":
        """Return the switch that is on for a request that has `route` at first, or none."""
        return next((each for each in self.switches if each.is_on(route)), None)

    def is_silenced(self, route: Route | None) -> Node | None:
        """Return the setting that keeps the filter from calling on `route`, in whatever chain it is, or None."""
        found = None
        for setting in self.per_route(route):
            if setting.get("disabled").is_true:
                found = setting.get("disabled")
            elif setting.get("overrides"):
                found = None
        return found

    def calls(self, route: Route | None) -> bool:
        """Tell whether a request that has `route` at first, or none, goes by the filter's server."""
        return self.is_on(route) and self.is_silenced(route) is None

    def overridden(self, route: Route | None, *keys: str) -> Node:
        """Return the setting under `keys` that counts on `route`: the most specific override, or the filter's own."""
        for setting in reversed(self.per_route(route)):
            if found := setting.get("overrides", *keys):
                return found
        return self.config.get(*keys)

    def per_route(self, route: Route | None) -> list[Node]:
        """Return its settings on `route`, from the least specific place to the most, without FilterConfigs."""
        settings = route.settings(self.name) if route else []
        inner = [each.get("config") if each.type == "FilterConfig" else each for each in settings]
        return [each for each in inner if each]


@dataclass(frozen=True, eq=False)
class Manager:
    """An HTTP connection manager: what a listener does with requests.

    Attributes:
        node: its configuration.
        listener: its listener.
        filters: its ext_proc filters, in order.
        routes: its routes, in order.
        unseen: what its routes would be read from, where they are not in the dump or can't be judged.
        wanted: the name of the filter that is the router's, or "" if that is not known.
        chain: all its HTTP filters, in order; those of `filters` are among them.
    """

    node: Node
    listener: Node
    filters: Sequence[Filter]
    routes: Sequence[Route]
    unseen: Sequence[Node]
    wanted: str = ""
    chain: Sequence[Filter] = ()

    @property
    def label(self) -> str:
        """The listener, for people."""
        return f"listener {self.listener.get('name').text or '(unnamed)'}"

    @cached_property
    def router(self) -> Filter | None:
        """The filter that calls bbr, or the one that most likely does; None if there is none."""
        if self.wanted:
            return next((each for each in self.filters if each.name == self.wanted), None)
        named = [each for each in self.filters if _ROUTER_NAMES.search(f"{each.name} {each.cluster.text}")]
        others = [each for each in self.filters if not self.is_picker(each)]
        # Of several filters that may call pickers, one may be the router's. A single one is a picker's.
        unclear = [each for each in self.filters if not _PICKER_NAMES.search(each.name)]
        return next(iter([*named, *others, *(unclear if len(self.filters) > 1 else ())]), None)

    @property
    def is_sure(self) -> bool:
        """Whether there is no doubt which filter is the router's."""
        if self.wanted or len(self.filters) < 2:
            return True
        return sum(bool(_ROUTER_NAMES.search(f"{each.name} {each.cluster.text}")) for each in self.filters) == 1

    def is_picker(self, found: Filter) -> bool:
        """Tell whether a filter looks like an endpoint picker: by its name, or by calling another for each route."""
        if _PICKER_NAMES.search(f"{found.name} {found.cluster.text}"):
            return True
        keys = ("grpc_service", "envoy_grpc", "cluster_name")
        return len({found.overridden(route, *keys).text for route in (None, *self.model_routes)}) > 1

    @cached_property
    def model_routes(self) -> Sequence[Route]:
        """Routes that only requests with a routing header take."""
        return [route for route in self.routes if route.wants]

    def can_begin_at(self, route: Route) -> bool:
        """Tell whether a client's own routing headers can have a request begin at a model's route."""
        return not any(each.get("name").text.lower() in self._removed_early for each in route.wants)

    @cached_property
    def _removed_early(self) -> frozenset[str]:
        """Names of headers that are removed from every request before it has a route, in lower case."""
        extensions = self.node.each("early_header_mutation_extensions")
        mutations = [one for each in extensions for one in each.get("typed_config").each("mutations")]
        return frozenset(each.get("remove").text.lower() for each in mutations)

    def entry(self, route: Route) -> Route | None:
        """Return the route that a request for `route` has before the router has set a header; None if none is known."""
        place = route.node.path
        if place not in self._found:
            self._found[place] = self._entries[route.host.path].covering(route)
        return self._found[place]

    @cached_property
    def _found(self) -> dict[str, Route | None]:
        """The entries that were looked for, by the places of routes: many checks ask for them."""
        return {}

    @cached_property
    def _entries(self) -> "Mapping[str, _Entries]":
        """Routes that need no routing header, by the places of their virtual hosts."""
        found: defaultdict[str, _Entries] = defaultdict(_Entries)
        for route in self.routes:
            if not route.wants:
                found[route.host.path].add(route)
        return found


@dataclass(frozen=True, eq=False)
class Cluster:
    """A cluster.

    Attributes:
        node: its configuration.
        status: what /clusters says of it; without value if that was not read.
    """

    node: Node
    status: Node

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.get("name").text

    @property
    def http_options(self) -> Node:
        """Its HttpProtocolOptions."""
        key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        return self.node.get("typed_extension_protocol_options", key)

    def threshold(self, key: str, default: int) -> tuple[int, Node]:
        """Return a circuit breaker's value for the default priority, and where it stands."""
        absent = self.node.get("circuit_breakers", "thresholds")
        for each in self.node.each("circuit_breakers", "thresholds"):
            if each.get("priority").text in ("", "DEFAULT"):
                absent = each
        found = absent.get(key)
        return default if found.number is None else found.number, found


@dataclass(frozen=True, eq=False)
class Gateway:
    """All of it.

    Attributes:
        managers: the connection managers of all listeners.
        clusters: by name.
        stats: counters and gauges by name.
        errors: updates that Envoy refused.
        version: Envoy's, or "".
    """

    managers: Sequence[Manager]
    clusters: Mapping[str, Cluster]
    stats: Mapping[str, int] = field(default_factory=dict)
    errors: Sequence[Node] = ()
    version: str = ""

    def cluster_stats(self, cluster: Cluster) -> dict[str, tuple[str, int]]:
        """Return a cluster's statistics: what each counts -> its full name and value."""
        name = (cluster.node.get("alt_stat_name").text or cluster.name).replace(":", "_")
        return self.stats_below(f"cluster.{name}.")

    def stats_below(self, prefix: str) -> dict[str, tuple[str, int]]:
        """Return the statistics whose names begin with `prefix`: the rest of the name -> full name and value."""
        return {name[len(prefix) :]: (name, value) for name, value in self.stats.items() if name.startswith(prefix)}


def read(
    config_dump: object, clusters: object = None, stats: object = None, server_info: object = None, router: str = ""
) -> Gateway:
    """Read a gateway out of the parsed answers of /config_dump, /clusters, /stats and /server_info.

    Args:
        router: the name of the filter that is the router's, or "".
    """
    dumps = {each.type: each for each in Node("config_dump", config_dump).each("configs")}
    numbers = {
        each.get("name").text: value
        for each in Node("stats", stats).each("stats")
        if (value := each.get("value").number) is not None
    }
    version = Node("server_info", server_info).get("version").text
    return Gateway(
        managers=_managers(dumps, router),
        clusters=_clusters(dumps, clusters),
        stats=numbers,
        errors=[each for dump in dumps.values() for each in _errors(dump)],
        version=version.split("/")[1] if version.count("/") > 1 else version,
    )


def _managers(dumps: Mapping[str, Node], router: str) -> list[Manager]:
    tables = {each.get("name").text: each for each in _resources(dumps, "RoutesConfigDump", "route_config")}
    discovered = {
        found.get("name").text: found.get("typed_config")
        for found in _resources(dumps, "EcdsConfigDump", "ecds_filter")
    }
    return [
        _manager(node, listener, tables, discovered, router)
        for listener in _resources(dumps, "ListenersConfigDump", "listener")
        for node in _managers_of(listener)
    ]


def _clusters(dumps: Mapping[str, Node], statuses: object) -> dict[str, Cluster]:
    status = {each.get("name").text: each for each in Node("clusters", statuses).each("cluster_statuses")}
    unknown = Node("clusters", None)
    return {
        name: Cluster(node, status.get(name, unknown))
        for node in _resources(dumps, "ClustersConfigDump", "cluster")
        if (name := node.get("name").text)
    }


_STATIC: Final = ("static_listeners", "static_route_configs", "static_clusters")
_DYNAMIC: Final = ("dynamic_route_configs", "dynamic_active_clusters", "dynamic_warming_clusters", "ecds_filters")


def _resources(dumps: Mapping[str, Node], type_: str, key: str) -> Iterator[Node]:
    """Give the resources of the dump of a type; `key` is where an entry has its resource."""
    dump = dumps.get(type_, Node("config_dump", None))
    for kind in (*_STATIC, *_DYNAMIC):
        for each in dump.each(kind):
            if found := each.get(key):
                yield found
    for each in dump.each("dynamic_listeners"):
        found = each.get("active_state", key) or each.get("warming_state", key)
        if found:
            yield found


def _errors(dump: Node) -> Iterator[Node]:
    if isinstance(dump.value, dict):
        for kind in dump.value:
            for each in dump.each(kind):
                if details := each.get("error_state", "details"):
                    yield details


def _managers_of(listener: Node) -> Iterator[Node]:
    for chain in (*listener.each("filter_chains"), listener.get("default_filter_chain")):
        for each in chain.each("filters"):
            if each.get("typed_config").type == "HttpConnectionManager":
                yield each.get("typed_config")


def _manager(
    node: Node, listener: Node, tables: Mapping[str, Node], discovered: Mapping[str, Node], router: str
) -> Manager:
    chain: list[Filter] = []
    for each in node.each("http_filters"):
        config = each.get("typed_config") or discovered.get(each.get("name").text, each.get("typed_config"))
        switches = [found for found in chain if turns_off(found.config, config)]
        chain.append(Filter(each, _unwrapped(config), switches))
    filters = [each for each in chain if each.config.type == "ExternalProcessor"]
    unseen = [found for key in ("scoped_routes",) if (found := node.get(key))]
    table = node.get("route_config")
    if name := node.get("rds", "route_config_name"):
        table = tables.get(name.text, table)
        unseen += [] if table else [name]
    routes = []
    for host in table.each("virtual_hosts"):
        routes += [Route(each, host, table) for each in host.each("routes")]
        unseen += [found for key in ("matcher", "vhds") if (found := host.get(key))]
    return Manager(node, listener, filters, routes, unseen, router, chain)


def _unwrapped(config: Node) -> Node:
    """Return the filter's own configuration, out of the matcher and the composite filter that run it."""
    if config.type != "ExtensionWithMatcher":
        return config
    for each in config.walk():
        if each.type == "ExecuteFilterAction" and (found := each.get("typed_config", "typed_config")):
            return found
    return config
