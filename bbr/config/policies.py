"""Turns an operator's settings into the policy that all exchanges follow."""

import random
from collections.abc import Iterator
from typing import Final

from bbr.config.settings import Settings
from bbr.exchange.convention import Convention, Ours
from bbr.exchange.go_router import GoRouter
from bbr.exchange.ledger import Ledger
from bbr.exchange.policy import STREAM_THRESHOLD_BYTES, AliasRewrite, ClientSteering, Compat, Policy, UrlModel
from bbr.exchange.replies import Replies
from bbr.headers import DESTINATION_HEADER, PRIORITY_HEADERS, REWRITE_HEADERS, STEERING_HEADERS
from bbr.models.listing import ModelsList
from bbr.models.routing import Rules
from bbr.reading.fields import BodyFields
from bbr.reading.paths import PathFilter

# A gateway that collects a body before it sends it shows no progress. The wait for such a body covers all of it, so it
# is longer than that for the next piece of a body, by this factor.
UNSEEN_PATIENCE: Final = 5


def policy(settings: Settings) -> Policy:
    """Return the policy of a server with these settings."""
    paths = None
    if settings.include_path or settings.exclude_path:
        paths = PathFilter(settings.include_path or (), settings.exclude_path or ())
    return Policy(
        replies=Replies(_convention(settings), metadata_namespace=settings.dynamic_metadata or ""),
        assume_body_mode=settings.assume_body_mode,
        ledger=Ledger(settings.max_buffered_bytes),
        max_body_bytes=settings.max_body_bytes,
        stream_threshold_bytes=STREAM_THRESHOLD_BYTES,
        over_limit=settings.over_limit,
        query_model_paths=settings.query_model_path,
        path_templates=settings.path_template or (),
        url_wins=settings.url_model is UrlModel.WINS,
        forward_decoded=settings.forward_decoded,
        rewrites_body=settings.alias_rewrite is AliasRewrite.BODY,
        max_model_bytes=settings.max_model_length,
        on_invalid_json=settings.on_invalid_json,
        duplex_idle_seconds=settings.body_idle_seconds,
        buffered_wait_seconds=settings.body_idle_seconds * UNSEEN_PATIENCE,
        min_body_rate=settings.body_min_rate,
        rules=Rules(
            settings.unknown_model,
            settings.missing_model,
            settings.default_model or "",
            random.random,
            settings.alias_sticky_header or "",
        ),
        paths=paths,
        models_list=ModelsList(settings.serve_models_list) if settings.serve_models_list else None,
        asker=settings.asker,
        scope=settings.scope,
    )


def _convention(settings: Settings) -> Convention:
    prefixes = [name.removesuffix("*") for name in settings.strip_header or () if name.endswith("*")]
    early_bytes = min(STREAM_THRESHOLD_BYTES, settings.max_body_bytes)
    fields = BodyFields(settings.body_field, early_bytes) if settings.body_field else None
    if settings.compat is not Compat.NONE:
        return GoRouter(
            model_headers=settings.model_header,
            base_model_headers=settings.base_model_header,
            strip_headers=dict.fromkeys(_stripped(settings)),
            strip_prefixes=prefixes,
            fields=fields,
        )
    return Ours(
        model_headers=settings.model_header,
        base_model_headers=settings.base_model_header,
        strip_headers=dict.fromkeys((DESTINATION_HEADER, *_stripped(settings))),
        strip_prefixes=prefixes,
        trust_client_headers=settings.trust_client_headers,
        rewrite_headers=REWRITE_HEADERS if settings.alias_rewrite is AliasRewrite.HEADER else (),
        fields=fields,
    )


def _stripped(settings: Settings) -> Iterator[str]:
    """Give the names of headers to remove, besides routing headers; some twice."""
    own = {name.lower() for name in (*settings.model_header, *settings.base_model_header)}
    if settings.client_steering is not ClientSteering.ALL:
        yield from (name for name in STEERING_HEADERS if name not in own)
    if settings.client_steering is ClientSteering.NONE:
        yield from (name for name in PRIORITY_HEADERS if name not in own)
    yield from (name for name in settings.strip_header or () if not name.endswith("*"))
