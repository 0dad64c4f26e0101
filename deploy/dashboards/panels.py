"""The panels of the Grafana dashboard: what is asked, in which unit, and from which value on it is worth a look."""

from typing import Final, NamedTuple

# Which routers: by the labels that Prometheus gives to what it scrapes.
SELECTED: Final = 'job=~"$job", instance=~"$instance"'
RATE: Final = "[$__rate_interval]"

# The page with a section for each alert.
RUNBOOK: Final = "docs/reference/alerts.md"

# Grafana's names of colours.
FINE, LOOK, BAD = "green", "orange", "red"
# What a series is called -> its colour, wherever it is drawn.
COLOURS: Final = {
    "routed": "green",
    "refused": "orange",
    "fault": "red",
    "failed": "red",
    "pending": "purple",
    "limit": "red",
    "p50": "light-blue",
    "p90": "blue",
    "p99": "dark-blue",
}

# Drawn as a dashed line.
LIMITS: Final = ("limit",)

_FAILED: Final = ', outcome=~"refused|fault"'
_PER_MINUTE: Final = "suffix:/min"


class Query(NamedTuple):
    """An expression, and what its series are called."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """A graph, or a tile with one number.

    Attributes:
        title: in a few words.
        unit: Grafana's id of it.
        what: shown at the panel's (i): what it tells, and what to do when it looks bad.
        queries: what is shown.
        rare: nothing may be there to show, on a good day.
        steps: (value, colour): from each value on the colour counts; fine below the first. A graph shows them as dashed
            lines.
        falling: the steps are for falling values: bad below the first, fine from the last one on.
        stat: a tile with the latest value, and with the time behind it.
        replica: its series are replicas, each of which leads to its status page.
        decimals: of the number; Grafana chooses if None.
        words: value -> (text, colour) in its place.
        stacked: its series add up.
        alerts: the rules of alerts.yaml that are about the same; the panel's description names where each is explained.
    """

    title: str
    unit: str
    what: str
    queries: tuple[Query, ...]
    rare: bool = False
    steps: tuple[tuple[float, str], ...] = ()
    falling: bool = False
    stat: bool = False
    replica: bool = False
    decimals: int | None = None
    words: tuple[tuple[str, tuple[str, str]], ...] = ()
    stacked: bool = False
    alerts: tuple[str, ...] = ()


def rate(metric: str, by: str = "", where: str = "") -> str:
    """Return a rate per second, summed over the selected routers."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{SELECTED}{where}}}{RATE}))"


def per_minute(metric: str, by: str = "", where: str = "") -> str:
    """Return a rate per minute, for what is rare."""
    return f"60 * {rate(metric, by, where)}"


def quantiles(histogram: str, *shares: float) -> tuple[Query, ...]:
    """Return a histogram's quantiles."""
    buckets = rate(f"{histogram}_bucket", "le")
    return tuple(Query(f"histogram_quantile({share}, {buckets})", f"p{share * 100:g}") for share in shares)


def gauge(metric: str, legend: str, how: str = "sum") -> Query:
    """Return a gauge over the selected routers."""
    return Query(f"{how} ({metric}{{{SELECTED}}})", legend)


_SHARE: Final = Query(f"{rate('bbr_requests_total', where=_FAILED)} / {rate('bbr_requests_total')}", "failed")
_SHARE_STEPS: Final = ((0.01, LOOK), (0.05, BAD))
_HELD: Final = f"sum (bbr_buffered_bytes{{{SELECTED}}}) / sum (bbr_buffered_bytes_limit{{{SELECTED}}})"
_DAYS: Final = f"(min (bbr_certificate_expiry_timestamp_seconds{{{SELECTED}}}) - time()) / 86400"
_WRONG: Final = (
    f"max (bbr_table_broken_objects{{{SELECTED}}}) + max (bbr_table_conflicts{{{SELECTED}}}) "
    f"+ (sum (max by (kind) (bbr_route_mismatches{{{SELECTED}}})) or vector(0))"
)

# The tiles on top: whether all is well, before anything else.
TILES: Final[tuple[Panel, ...]] = (
    Panel(
        "Requests",
        "reqps",
        "All requests, whatever their outcome.",
        (Query(rate("bbr_requests_total"), "requests"),),
        stat=True,
    ),
    Panel(
        "Failed",
        "percentunit",
        "Requests that were rejected, or whose gateway broke the ext_proc protocol. Amber from 1% on, red from 5% on. "
        "Rejected requests by reason says why.",
        (_SHARE,),
        stat=True,
        rare=True,
        steps=_SHARE_STEPS,
        decimals=2,
        alerts=("BbrRefusals",),
    ),
    Panel(
        "Router's own time, p99",
        "s",
        "The router's own work until its decision. Above 1 ms the processor is busy, or bodies are very large.",
        quantiles("bbr_request_busy_seconds", 0.99),
        stat=True,
        steps=((0.001, LOOK), (0.01, BAD)),
        alerts=("BbrSlow",),
    ),
    Panel(
        "Bodies held",
        "percentunit",
        "Share of the memory that all replicas may use for bodies (--max-buffered-bytes). At 100% clients get 503: add "
        "replicas.",
        (Query(_HELD, "held"),),
        stat=True,
        steps=((0.6, LOOK), (0.85, BAD)),
        decimals=1,
        alerts=("BbrBuffersNearlyFull", "BbrNoRoomForBodies"),
    ),
    Panel(
        "Faults of the model table",
        "none",
        "Objects with errors, entries that are ignored, models and routes that do not match. The status page has the "
        "names.",
        (Query(_WRONG, "faults"),),
        stat=True,
        steps=((1, LOOK),),
        decimals=0,
        alerts=("BbrTableBroken", "BbrTableConflicts", "BbrRouteMismatch"),
    ),
    Panel(
        "Failing sources",
        "none",
        "Sources of the model table that the router cannot follow. It routes by what it knew last. The status page has "
        "the reason.",
        (Query(f"sum (max by (source) (bbr_source_failing{{{SELECTED}}})) or vector(0)", "failing"),),
        stat=True,
        steps=((1, BAD),),
        decimals=0,
        alerts=("BbrSourceFailing", "BbrSourceStale", "BbrTaskFailing"),
    ),
    Panel(
        "Certificate",
        "d",
        "Time until the first certificate of a replica expires.",
        (Query(_DAYS, "left"),),
        stat=True,
        rare=True,
        steps=((7, LOOK), (21, FINE)),
        falling=True,
        decimals=0,
        alerts=("BbrCertificateExpires",),
    ),
    Panel(
        "Replicas",
        "none",
        "All replicas that Prometheus scrapes. A click opens the status page of one, if your browser can reach it.",
        (Query(f"bbr_ready{{{SELECTED}}}", "{{instance}}"),),
        stat=True,
        replica=True,
        steps=((1, FINE),),
        falling=True,
        words=(("0", ("not ready", BAD)), ("1", ("ready", FINE))),
        alerts=("BbrNotReady", "BbrGone"),
    ),
)

ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Requests": (
        Panel(
            "Requests by outcome",
            "reqps",
            "`refused`: rejected with an error. `pending`: the client left before the router had decided. `fault`: the "
            "gateway broke the ext_proc protocol.",
            (Query(rate("bbr_requests_total", "outcome"), "{{outcome}}"),),
            stacked=True,
            alerts=("BbrGatewayMisconfigured",),
        ),
        Panel(
            "Routed requests by base model",
            "reqps",
            "Which base models requests go to. An empty name: the table does not have it (no table, or passthrough).",
            (Query(rate("bbr_requests_total", "base_model", ', outcome="routed"'), "{{base_model}}"),),
            stacked=True,
        ),
        Panel(
            "Rejected requests by reason",
            _PER_MINUTE,
            "Why clients got an error: the bbr:<reason> of the gateway's access log. /help of the admin port says what "
            "to do about each reason. For `model-not-found` the status page lists the names.",
            (Query(per_minute("bbr_request_reasons_total", "reason", ', outcome="refused"'), "{{reason}}"),),
            rare=True,
            alerts=("BbrUnknownModels", "BbrRefusals"),
        ),
        Panel(
            "Share of requests that failed",
            "percentunit",
            "Requests that were rejected, or whose gateway broke the ext_proc protocol.",
            (_SHARE,),
            rare=True,
            steps=_SHARE_STEPS,
            alerts=("BbrRefusals",),
        ),
        Panel(
            "Request bodies",
            "Bps",
            "Bytes of request bodies that gateways sent to the router.",
            (Query(rate("bbr_request_body_bytes_sum"), "received"),),
        ),
        Panel(
            "Size of a request body",
            "bytes",
            "Quantiles, as exact as the buckets of the histogram.",
            quantiles("bbr_request_body_bytes", 0.5, 0.9, 0.99),
        ),
    ),
    "Speed": (
        Panel(
            "Router's own time",
            "s",
            "The router's own work until its decision, without the time that it waits for the body.",
            quantiles("bbr_request_busy_seconds", 0.5, 0.9, 0.99),
            alerts=("BbrSlow",),
        ),
        Panel(
            "Time to a decision",
            "s",
            "From a request's first message to the router's decision. It contains the time of a slow client's upload.",
            quantiles("bbr_request_duration_seconds", 0.5, 0.9, 0.99),
        ),
        Panel(
            "Processor in use",
            "percentunit",
            "A router runs on one processor. Above 80% of it add replicas.",
            (Query(f"rate(process_cpu_seconds_total{{{SELECTED}}}{RATE})", "{{instance}}"),),
            replica=True,
            steps=((0.8, LOOK),),
            alerts=("BbrBusy",),
        ),
    ),
    "Pressure": (
        Panel(
            "Bodies held",
            "bytes",
            "Bytes of bodies whose model is not known yet, and the limit (--max-buffered-bytes), of all replicas.",
            (gauge("bbr_buffered_bytes", "held"), gauge("bbr_buffered_bytes_limit", "limit")),
            alerts=("BbrBuffersNearlyFull", "BbrNoRoomForBodies"),
        ),
        Panel(
            "Connections and streams",
            "none",
            "Each worker of a gateway has a connection. Each request is a stream.",
            (gauge("bbr_connections", "connections"), gauge("bbr_streams", "streams")),
            alerts=("BbrConnectionsTurnedAway",),
        ),
        Panel(
            "Faults of peers",
            _PER_MINUTE,
            "Streams and connections that the router ended because a peer broke the rules of HTTP/2 or TLS, and what "
            "it rejected at a limit. Normally there are none.",
            (
                Query(per_minute("bbr_stream_resets_total", "reason"), "stream: {{reason}}"),
                Query(per_minute("bbr_connection_failures_total", "layer, reason"), "connection: {{layer}} {{reason}}"),
                Query(per_minute("bbr_connections_turned_away_total"), "turned away"),
                Query(per_minute("bbr_buffer_refusals_total"), "no room for a body"),
            ),
            rare=True,
            alerts=("BbrPeerFaults",),
        ),
        Panel(
            "Memory",
            "bytes",
            "Resident memory of each replica.",
            (Query(f"process_resident_memory_bytes{{{SELECTED}}}", "{{instance}}"),),
            replica=True,
        ),
        Panel(
            "Files and sockets",
            "none",
            "Open files and sockets of the replica that has the most, and the lowest limit.",
            (gauge("process_open_fds", "open", "max"), gauge("process_max_fds", "limit", "min")),
            alerts=("BbrFilesNearlyExhausted",),
        ),
        Panel(
            "Long bodies",
            _PER_MINUTE,
            "Requests that went on before their body had ended, and messages that came after the end of a body "
            "(envoyproxy/envoy#46237).",
            (
                Query(per_minute("bbr_requests_routed_early_total"), "routed early"),
                Query(per_minute("bbr_late_body_messages_total"), "late messages"),
            ),
        ),
    ),
    "Model table": (
        Panel(
            "Names in the table",
            "none",
            "The smallest number of all replicas. All should have the same number.",
            (gauge("bbr_models", "names", "min"), gauge("bbr_base_models", "base models", "min")),
            alerts=("BbrTablesDiffer",),
        ),
        Panel(
            "Faults of the model table",
            "none",
            "Objects with errors, entries that are ignored, routes and models that do not match. /debug/models lists "
            "them.",
            (
                gauge("bbr_table_broken_objects", "broken objects", "max"),
                gauge("bbr_table_conflicts", "conflicts", "max"),
                Query(f"max by (kind) (bbr_route_mismatches{{{SELECTED}}})", "{{kind}}"),
            ),
            alerts=("BbrTableBroken", "BbrTableConflicts", "BbrRouteMismatch"),
        ),
        Panel(
            "Replicas",
            "none",
            "How many replicas Prometheus scrapes, how many are ready, and how many have had a complete table.",
            (
                gauge("bbr_ready", "scraped", "count"),
                gauge("bbr_ready", "ready"),
                gauge("bbr_table_synced", "complete table"),
            ),
            alerts=("BbrNotReady", "BbrGone"),
        ),
        Panel(
            "Age of the table",
            "s",
            "Time since the last change of the table: the shortest and the longest of all replicas. If they are far "
            "apart, a replica does not follow its source.",
            (gauge("bbr_table_age_seconds", "least", "min"), gauge("bbr_table_age_seconds", "most", "max")),
            alerts=("BbrTablesDiffer",),
        ),
        Panel(
            "Certificate, days left",
            "d",
            "Time until the first certificate of a replica expires.",
            (Query(_DAYS, "days left"),),
            rare=True,
            steps=((7, LOOK), (21, FINE)),
            falling=True,
            alerts=("BbrCertificateExpires",),
        ),
    ),
}
