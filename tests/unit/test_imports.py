import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "bbr").rglob("*.py") if "pb" not in path.parts)

TABLE = ("routing", "paths", "models_list")
NAMES = ("client_names",)
BODIES = ("encodings", "form", "multipart", "parameters", "uri", "ledger", "long_body")
EXCHANGE = ("exchange", "request", "duplex", "awaited", "head", "policy", "verdict", "compat", "go_model")
CORE = {
    f"bbr/{name}.py"
    for name in (*EXCHANGE, "model", "replies", "refusal", "registry", "health", "status", *TABLE, *NAMES, *BODIES)
}
SANS_IO = ("bbr/http2/", "bbr/rpc/", "bbr/scan/")
READING = "bbr/reading/"
NO_IO = {"asyncio", "socket", "ssl", "time", "random", "logging", "threading", "os", "bbr.transports"}

# Which files may not import what; a name forbids everything below it as well.
RULES = [
    pytest.param(
        lambda file: file in CORE or file.startswith(READING),
        NO_IO,
        id="the core does no I/O, reads no clock and never logs",
    ),
    pytest.param(
        lambda file: file.startswith("bbr/doctor/") and file not in ("bbr/doctor/admin.py", "bbr/doctor/diagnose.py"),
        NO_IO,
        id="the doctor's checks do no I/O",
    ),
    pytest.param(
        lambda file: file.startswith(SANS_IO), NO_IO | {"bbr.pb", "bbr.metrics"}, id="http2, rpc and scan are sans-IO"
    ),
    pytest.param(
        lambda file: file not in ("bbr/cli.py", "bbr/server.py"), {"bbr.server"}, id="only cli imports server"
    ),
    pytest.param(lambda file: file not in ("bbr/cli.py", "bbr/__main__.py"), {"bbr.cli"}, id="nothing imports cli"),
    pytest.param(lambda file: file != "bbr/transports/grpcio.py", {"grpc"}, id="one file imports grpc"),
    pytest.param(lambda file: file != "bbr/tracing.py", {"opentelemetry"}, id="one file imports opentelemetry"),
    pytest.param(
        lambda file: file != "bbr/sources/kube_api.py", {"lightkube", "httpx2"}, id="one file asks an API server"
    ),
    pytest.param(
        lambda file: not file.startswith(("bbr/server.py", "bbr/admin/")),
        {"bbr.metrics", "bbr.admin"},
        id="server and admin alone import metrics",
    ),
    pytest.param(lambda file: file != "bbr/server.py", {"bbr.tracing"}, id="server alone imports tracing"),
    pytest.param(lambda file: file.startswith("bbr/sources/"), {"bbr.transports"}, id="sources know no transport"),
    pytest.param(lambda file: file.startswith("bbr/transports/"), {"bbr.sources"}, id="transports know no source"),
]


def imports(source: str) -> set[str]:
    """Return the full names of all that a source text imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def forbidden(imported: set[str], names: set[str]) -> set[str]:
    return {each for each in imported if any(f"{each}.".startswith(f"{name}.") for name in names)}


@pytest.mark.parametrize(("applies", "names"), RULES)
def test_rule(applies, names):
    found = {
        str(file): bad
        for file in FILES
        if applies(str(file)) and (bad := forbidden(imports((ROOT / file).read_text("utf-8")), names))
    }
    assert found == {}


def test_rules_find_every_way_to_import():
    source = "import asyncio.events\ndef f():\n    from bbr import server\n    from bbr.server import Server as S\n"
    assert forbidden(imports(source), {"asyncio", "bbr.server"}) == {
        "asyncio.events",
        "bbr.server",
        "bbr.server.Server",
    }
    assert forbidden(imports("import timeit\nfrom bbr import servers"), {"time", "bbr.server"}) == set()


def test_the_core_is_where_the_rules_look_for_it():
    assert {str(file) for file in FILES} >= CORE


def mirror(file: Path) -> Path:
    inside = file.relative_to("bbr")
    return Path("tests/unit") / inside.parent / f"test_{inside.name}"


def test_unit_tests_mirror_the_modules():
    modules = {mirror(file) for file in FILES if file.name not in ("__init__.py", "__main__.py")}
    found = {path.relative_to(ROOT) for path in (ROOT / "tests" / "unit").rglob("test_*.py")}
    # These two test what is no module of its own: the generated codec, and the rules of this file.
    extra = {Path("tests/unit/pb/test_wire.py"), Path("tests/unit/test_imports.py")}
    assert found - extra == modules
    assert found >= extra
