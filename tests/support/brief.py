"""Fewer words between a worker of pytest-xdist and the process that counts results.

A worker sends six messages for each test. Four of them change nothing if the test passed: that it begins, that it ends,
and the reports of a setup and a teardown that passed and wrote nothing. execnet packs and unpacks each value of a
message in Python, and the process that counts does little else.
"""

from typing import Any, Final

import pytest

# What stands in place of a report that is not sent.
_LEFT_OUT: Final = "left out"

_ROUTINE: Final = ("logstart", "logfinish")


class Brief:
    """A plugin of a worker: it sends no message that changes nothing.

    Args:
        worker: pytest-xdist's plugin that sends.
    """

    def __init__(self, worker: Any) -> None:
        self._send = worker.sendevent
        worker.sendevent = self._send_what_counts

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_to_serializable(self, report: pytest.CollectReport | pytest.TestReport) -> dict[str, Any] | None:
        """Do without the report of a setup or a teardown that passed and wrote nothing."""
        routine = report.passed and not report.sections and report.when in ("setup", "teardown")
        return {_LEFT_OUT: True} if routine else None

    def _send_what_counts(self, name: str, **content: Any) -> None:
        data = content.get("data", {})
        if name in _ROUTINE or _LEFT_OUT in data:
            return
        if data.get("outcome") == "passed":
            data["keywords"] = {}  # nobody looks for any there
        self._send(name, **content)


def be_brief(config: pytest.Config) -> None:
    """Make this process brief if it is a worker, and nobody asks what the messages tell besides (JUnit, durations)."""
    if hasattr(config, "workerinput") and not config.option.xmlpath and config.option.durations is None:
        plugins = config.pluginmanager.get_plugins()
        (worker,) = (each for each in plugins if type(each).__name__ == "WorkerInteractor")
        config.pluginmanager.register(Brief(worker))
