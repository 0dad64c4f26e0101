"""Files such as benchmarks record, with figures that anybody sees are made up: for tests of what renders them."""

import json
from itertools import product
from pathlib import Path

STREAMED, BUFFERED = "FULL_DUPLEX_STREAMED", "BUFFERED"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
ROUTERS = {"grpcio": 10, "uv": 1, "Go v1.5.0": 5}


def row(variant, unit, figure, case="a case", **facts):
    """Return a row of three rounds about a figure."""
    figures = [figure, figure * 1.1, figure * 0.9]
    return {
        "case": case,
        "facts": facts,
        "variant": variant,
        "unit": unit,
        "figures": figures,
        "median": figure,
        "against": "",
        "ratio": None,
        "targets": [],
    }


def direct():
    """Give rows of direct.json."""
    plain = {"kind": "chat", "mode": STREAMED, "tls": 0, "tracing": 0}
    for size, (name, times) in product((0, *SIZES), ROUTERS.items()):
        cost = times * (11 + size / 1000)
        yield row(name, "us / exchange", cost, **plain, family="size", bytes=size, metric="cpu")
        yield row(name, "exchanges / s", 111_111 / cost, **plain, family="size", bytes=size, metric="rate")
    for kind, (name, times) in product(("tools", "image"), ROUTERS.items()):
        facts = plain | {"family": "kind", "kind": kind, "bytes": 100_000}
        yield row(name, "us / exchange", 22 * times, **facts, metric="cpu")
    for tls in (0, 1):
        yield row(
            "uv", "us / exchange", 33 + tls, **plain | {"family": "tls", "tls": tls, "bytes": 1_000}, metric="cpu"
        )


def gateway():
    """Give rows of gateway.json."""
    for concurrency, size, (name, times) in product((1, 32), SIZES, {"none": 0, **ROUTERS}.items()):
        facts = {"loop": "closed", "concurrency": concurrency, "kind": "chat", "bytes": size, "mode": STREAMED}
        yield row(name, "requests / s", 7_777 * concurrency / (5 + times), **facts, metric="rate")
        yield row(name, "us / request", 55 + 5 * times + size / 1000, **facts, metric="Envoy")
        if times:
            yield row(name, "us / request", times * (22 + size / 500), **facts, metric="router")
            for point, factor in (("p50", 1), ("p90", 2), ("p99", 3), ("p99.9", 4)):
                added = factor * (times / 9 + size / 333_333)
                yield row(name, "ms", added, **facts, metric=f"added {point}")
    facts = {"loop": "closed", "concurrency": 1_024, "kind": "chat", "bytes": 1_000, "mode": STREAMED}
    yield row("uv", "us / request", 99_999, **facts, metric="router")
    for rate, (name, times) in product((100, 1_000), ROUTERS.items()):
        facts = {"loop": "open", "rate": rate, "kind": "chat", "bytes": 1_000, "mode": STREAMED}
        yield row(name, "ms", times * rate / 999, **facts, metric="p99")
        overloaded = int(name == "grpcio" and rate > 100)
        yield row(name, "requests / s", rate * 0.9, **facts, metric="rate", overloaded=overloaded)
    facts = {"loop": "closed", "concurrency": 32, "kind": "chat", "bytes": 1_000, "mode": STREAMED}
    yield row("Lua", "us / request", 99, **facts, metric="Envoy")


def memory():
    """Give rows of memory.json."""
    for (name, times), client in product({"uv": 1, "grpcio": 3}.items(), ("fast", "slow")):
        case = f"8 bodies of 1 MB, {client} client"
        yield row(name, "KiB / MB", 1111.0 * times, case, what="MB in flight", bytes=1_000_000, client=client)
        yield row(name, "KiB", 4.4 * times, "an idle connection", what="idle connection")
    for name, times in ROUTERS.items():
        case = "20 uploads of 20 MB, slow"
        yield row(name, "KiB / MB", 0.0111 * times, case, what="MB in flight", bytes=20_000_000, speed="slow")


def accuracy():
    """Give rows of accuracy.json: counts of one run."""
    for mode, kind, (unit, figure) in product(
        (STREAMED, BUFFERED), ("all", "spoofed"), {"requests": 77_777, "misroutes": 0}.items()
    ):
        yield row("uv", unit, figure, kind, kind=kind, mode=mode, protocol="all") | {"figures": [figure]}


def pattern2():
    """Give rows of pattern2.json."""
    for name, metric in product(("uv", "none"), ("p50", "p99")):
        facts = {"run": "concurrent", "router": int(name == "uv"), "metric": metric}
        yield row(name, f"{metric} ms", 1.11, "concurrent", **facts)
    for run, published in (("latency", 888), ("concurrent", 999)):
        facts = {"run": run, "router": 1, "metric": "added share", "published_ms": published}
        yield row("uv", f"% of {published} ms", 0.11, run, **facts)


FILES = {
    "direct": direct,
    "gateway": gateway,
    "memory": memory,
    "accuracy": accuracy,
    "pattern2": pattern2,
}


def write(directory, *names):
    """Write the files of these names, or all of them, into a directory."""
    for name in names or FILES:
        found = {
            "command": f"python -m bench.published.{name}",
            "machine": {"processor": "an abacus", "processors": 2, "system": "a desk"},
            "versions": {"python": "3.11.0", "bbr": "0.0.0"},
            "commit": "0123456789ab",
            "seed": 1,
            "workload_sha256": "",
            "options": {},
            "load_average": 0.5,
            "ended": "1970-01-01T00:00:00+00:00",
            "rows": list(FILES[name]()),
        }
        Path(directory, f"{name}.json").write_text(json.dumps(found))
