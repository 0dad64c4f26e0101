"""What an operator's settings make every exchange do."""

from bbr.config import Settings
from bbr.ledger import Ledger
from bbr.models_list import ModelsList
from bbr.paths import PathFilter
from bbr.policy import Policy
from bbr.replies import DESTINATION_HEADER, Replies
from bbr.routing import Rules


def policy(settings: Settings) -> Policy:
    """Return the policy of a server with these settings."""
    paths = None
    if settings.include_path or settings.exclude_path:
        paths = PathFilter(settings.include_path or (), settings.exclude_path or ())
    return Policy(
        replies=Replies(
            strip_headers=dict.fromkeys((DESTINATION_HEADER, *(settings.strip_header or ()))),
            trust_client_headers=settings.trust_client_headers,
            metadata_namespace=settings.dynamic_metadata or "",
        ),
        assume_body_mode=settings.assume_body_mode,
        ledger=Ledger(settings.max_buffered_bytes),
        max_body_bytes=settings.max_body_bytes,
        stream_threshold_bytes=settings.stream_threshold_bytes,
        over_limit=settings.over_limit,
        query_model_paths=settings.query_model_path,
        path_templates=settings.path_template or (),
        max_model_bytes=settings.max_model_length,
        on_invalid_json=settings.on_invalid_json,
        duplex_idle_seconds=settings.duplex_idle_seconds,
        buffered_wait_seconds=settings.buffered_wait_seconds,
        single_reply_bytes=settings.single_reply_bytes,
        rules=Rules(settings.unknown_model, settings.missing_model, settings.default_model or ""),
        paths=paths,
        models_list=ModelsList(settings.models_list_max_bytes) if settings.serve_models_list else None,
    )
