"""The panels of the Grafana dashboard: what is asked, in which unit, and from which value on it is worth a look."""

from typing import Final, NamedTuple

# Which routers: by the labels that Prometheus gives to what it scrapes.
SELECTED: Final = 'job=~"$job", instance=~"$instance"'
RATE: Final = "[$__rate_interval]"

# Grafana's names of colours: what is fine, what is worth a look, what is bad.
FINE, LOOK, BAD = "green", "orange", "red"
# What a series is called -> its colour, wherever it is drawn.
COLOURS: Final = {
    "routed": "green",
    "refused": "orange",
    "fault": "red",
    "failed": "red",
    "pending": "purple",
    "bound": "red",
    "allowed": "red",
    "p50": "light-blue",
    "p90": "blue",
    "p99": "dark-blue",
}

# Series that are what others may reach: drawn as a dashed line.
LIMITS: Final = ("bound", "allowed")

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
        "All requests, whatever became of them.",
        (Query(rate("bbr_requests_total"), "requests"),),
        stat=True,
    ),
    Panel(
        "Failed",
        "percentunit",
        "Refused, or ended by a fault of the gateway's. From 1% on worth a look, from 5% on bad: see Refusals by "
        "reason.",
        (_SHARE,),
        stat=True,
        rare=True,
        steps=_SHARE_STEPS,
        decimals=2,
    ),
    Panel(
        "Router's own time, p99",
        "s",
        "Processor time until the decision. Above 1 ms the processor is busy, or bodies are very large.",
        quantiles("bbr_request_busy_seconds", 0.99),
        stat=True,
        steps=((0.001, LOOK), (0.01, BAD)),
    ),
    Panel(
        "Bodies held",
        "percentunit",
        "Of what all replicas may hold (--max-buffered-bytes). Near 100% bodies find no room: add replicas.",
        (Query(_HELD, "held"),),
        stat=True,
        steps=((0.6, LOOK), (0.85, BAD)),
        decimals=1,
    ),
    Panel(
        "Wrong with the table",
        "none",
        "Objects that can't be used, claims that are ignored, models and routes that do not fit. The status page has "
        "the names.",
        (Query(_WRONG, "wrong"),),
        stat=True,
        steps=((1, LOOK),),
        decimals=0,
    ),
    Panel(
        "Sources that fail",
        "none",
        "What the router can't follow just now; requests are routed by what was known last. See the status page.",
        (Query(f"sum (max by (source) (bbr_source_failing{{{SELECTED}}})) or vector(0)", "failing"),),
        stat=True,
        steps=((1, BAD),),
        decimals=0,
    ),
    Panel(
        "Certificate",
        "d",
        "Until the first of the replicas' certificates expires.",
        (Query(_DAYS, "left"),),
        stat=True,
        rare=True,
        steps=((7, LOOK), (21, FINE)),
        falling=True,
        decimals=0,
    ),
    Panel(
        "Replicas",
        "none",
        "Each one that is scraped. A click leads to its status page, where the browser reaches it.",
        (Query(f"bbr_ready{{{SELECTED}}}", "{{instance}}"),),
        stat=True,
        replica=True,
        steps=((1, FINE),),
        falling=True,
        words=(("0", ("not ready", BAD)), ("1", ("ready", FINE))),
    ),
)

ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Requests": (
        Panel(
            "Requests by outcome",
            "reqps",
            "What became of requests. `pending`: the client left before the router had decided; `fault`: the gateway "
            "broke the ext_proc protocol.",
            (Query(rate("bbr_requests_total", "outcome"), "{{outcome}}"),),
            stacked=True,
        ),
        Panel(
            "Routed requests by base model",
            "reqps",
            "Which pools the requests go to. An empty name: the table does not hold it (no table, or passthrough).",
            (Query(rate("bbr_requests_total", "base_model", ', outcome="routed"'), "{{base_model}}"),),
            stacked=True,
        ),
        Panel(
            "Refusals by reason",
            _PER_MINUTE,
            "Why clients got an error: the bbr:<reason> of the gateway's access log. `model-not-found`: see the status "
            "page for the names; its /help says what to do about each.",
            (Query(per_minute("bbr_request_reasons_total", "reason", ', outcome="refused"'), "{{reason}}"),),
            rare=True,
        ),
        Panel(
            "Share of requests that failed",
            "percentunit",
            "Refused, and ended by faults of the gateway's.",
            (_SHARE,),
            rare=True,
            steps=_SHARE_STEPS,
        ),
        Panel(
            "Request bodies",
            "Bps",
            "Bytes of bodies that the router was shown.",
            (Query(rate("bbr_request_body_bytes_sum"), "received"),),
        ),
        Panel(
            "Size of a request body",
            "bytes",
            "Quantiles, as far as the buckets tell.",
            quantiles("bbr_request_body_bytes", 0.5, 0.9, 0.99),
        ),
    ),
    "Speed": (
        Panel(
            "What the router took for a request",
            "s",
            "Processor time until the decision, from the last message that it needed: what bbr adds by itself.",
            quantiles("bbr_request_busy_seconds", 0.5, 0.9, 0.99),
        ),
        Panel(
            "From a request's first message to its decision",
            "s",
            "With the time that the body took to come: a slow client's upload is in it.",
            quantiles("bbr_request_duration_seconds", 0.5, 0.9, 0.99),
        ),
        Panel(
            "Processor in use",
            "percentunit",
            "A router runs on one; above 80% of one, add replicas.",
            (Query(f"rate(process_cpu_seconds_total{{{SELECTED}}}{RATE})", "{{instance}}"),),
            replica=True,
            steps=((0.8, LOOK),),
        ),
    ),
    "Pressure": (
        Panel(
            "Bodies held",
            "bytes",
            "Bytes of bodies that wait for their model, and the bound (--max-buffered-bytes), summed.",
            (gauge("bbr_buffered_bytes", "held"), gauge("bbr_buffered_bytes_limit", "bound")),
        ),
        Panel(
            "Connections and streams",
            "none",
            "Each of a gateway's workers has a connection; each request is a stream.",
            (gauge("bbr_connections", "connections"), gauge("bbr_streams", "streams")),
        ),
        Panel(
            "Faults of peers",
            _PER_MINUTE,
            "Streams reset and connections ended for a fault, by its name; none is normal.",
            (
                Query(per_minute("bbr_stream_resets_total", "reason"), "stream: {{reason}}"),
                Query(per_minute("bbr_connection_failures_total", "layer, reason"), "connection: {{layer}} {{reason}}"),
                Query(per_minute("bbr_connections_turned_away_total"), "turned away"),
                Query(per_minute("bbr_buffer_refusals_total"), "no room for a body"),
            ),
            rare=True,
        ),
        Panel(
            "Memory",
            "bytes",
            "Resident set of each replica.",
            (Query(f"process_resident_memory_bytes{{{SELECTED}}}", "{{instance}}"),),
            replica=True,
        ),
        Panel(
            "Files and sockets",
            "none",
            "Open now, and allowed, of the replica that has most.",
            (gauge("process_open_fds", "open", "max"), gauge("process_max_fds", "allowed", "min")),
        ),
        Panel(
            "Bodies in pieces",
            _PER_MINUTE,
            "Requests routed before their body had ended, and messages after its end (envoyproxy/envoy#46237).",
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
            "The least of all replicas: they should have the same.",
            (gauge("bbr_models", "names", "min"), gauge("bbr_base_models", "base models", "min")),
        ),
        Panel(
            "What is wrong with it",
            "none",
            "Objects that can't be used, claims that lost to others, routes and models that do not fit: "
            "/debug/models has them.",
            (
                gauge("bbr_table_broken_objects", "broken objects", "max"),
                gauge("bbr_table_conflicts", "conflicts", "max"),
                Query(f"max by (kind) (bbr_route_mismatches{{{SELECTED}}})", "{{kind}}"),
            ),
        ),
        Panel(
            "Replicas",
            "none",
            "Those that are scraped, those that take requests, and those whose table is complete.",
            (
                gauge("bbr_ready", "scraped", "count"),
                gauge("bbr_ready", "ready"),
                gauge("bbr_table_synced", "complete table"),
            ),
        ),
        Panel(
            "Age of the table",
            "s",
            "Since its last change, of the replica that changed last and first: a gap between them is a replica that "
            "does not follow.",
            (gauge("bbr_table_age_seconds", "least", "min"), gauge("bbr_table_age_seconds", "most", "max")),
        ),
        Panel(
            "Certificate, days left",
            "d",
            "Until the first of the replicas' certificates expires.",
            (Query(_DAYS, "days left"),),
            rare=True,
            steps=((7, LOOK), (21, FINE)),
            falling=True,
        ),
    ),
}
