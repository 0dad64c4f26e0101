"""What `bbr doctor` does: get the answers, read the gateway, check it, report."""

from pathlib import Path

from bbr.commands.doctor import admin, report
from bbr.commands.doctor.examine import examine
from bbr.commands.doctor.finding import Severity
from bbr.commands.doctor.gateway import read
from bbr.commands.exits import EXIT_FAILED, EXIT_OK
from bbr.config.settings import Settings
from bbr.router import Router
from bbr.sources.objects import SourceError


def diagnose(
    settings: Settings, *, url: str | None, saved: Path | None, router: str = "", as_json: bool = False
) -> tuple[str, int]:
    """Return the report, as text or JSON, and the exit status: 1 if there is an error or a warning.

    Args:
        settings: the router's own, for its limits and its table.
        url: the admin interface.
        saved: where its answers were saved; counts if there is no `url`.
        router: the name of the router's filter, or "" to guess.

    Raises:
        admin.AdminError: the answers can't be had.
        SourceError: the table can't.
    """
    registry = None
    if settings.models or settings.kubernetes:
        sources = Router(settings).sources
        sources.read_all()
        for (source, name), why in sources.table.broken.items():
            raise SourceError(f"{source} {name}: {why}")  # half a table would call good routes wrong
        registry = sources.table.registry
    answers = admin.fetch(url) if url is not None else admin.load(saved or Path())
    gateway = read(answers.config_dump, answers.clusters, answers.stats, answers.server_info, router)
    findings = examine(
        gateway, registry, max_body_bytes=settings.max_body_bytes, secure_serving=settings.secure_serving
    )
    text = report.as_json(gateway, findings) if as_json else report.as_text(gateway, findings)
    bad = any(each.severity is not Severity.INFO for each in findings)
    return text, EXIT_FAILED if bad else EXIT_OK
