"""A real Prometheus that scrapes given ports, and what it answers to queries."""

import contextlib
import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.harness.ports import free_port
from bench.harness.processes import DEADLINE_SECONDS, ending

CONFIGURATION = """\
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: [{rules}]
scrape_configs:
- job_name: bbr
  static_configs: [{{targets: [{targets}]}}]
"""


class Prometheus:
    """A running one."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of its API's answer."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as answer:  # noqa: S310 (loopback)
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the series of an instant query: labels and value."""
        found = self.ask("query", query=expression)
        assert found["resultType"] == "vector", found
        return [(each["metric"], float(each["value"][1])) for each in found["result"]]

    def await_(self, what: str, found: Callable[[], bool]) -> None:
        """Ask until something is so, as scrapes go on."""
        until = time.monotonic() + DEADLINE_SECONDS
        while not found():
            assert time.monotonic() < until, f"{what}: not in {DEADLINE_SECONDS:g} s"
            time.sleep(0.1)  # Prometheus has nothing that could be awaited


@contextlib.contextmanager
def prometheus(scratch: Path, targets: list[int], rules: Path) -> Iterator[Prometheus]:
    """Run Prometheus over admin ports of the loopback interface."""
    port = free_port()
    file = scratch / "prometheus.yml"
    where = ", ".join(f"'127.0.0.1:{target}'" for target in targets)
    file.write_text(CONFIGURATION.format(rules=rules, targets=where), "utf-8")
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={scratch / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with (
        (scratch / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
        ending(process),
    ):
        running = Prometheus(port)

        def answers() -> bool:
            assert process.poll() is None, (scratch / "log").read_text("utf-8")
            with contextlib.suppress(OSError):
                return bool(running.query("up"))
            return False

        running.await_("the first scrape", answers)
        yield running
