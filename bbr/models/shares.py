"""Chooses one of several models with weights, for an alias that stands for all of them. Pure.

With a key, the choice is the same in every replica and after a restart. When weights change, or a model comes or goes,
a key moves only if its model has lost weight against another one (weighted rendezvous hashing; Schindelhauer and
Schomaker, 2005).
"""

import math
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from bbr.models.entries import Share
from bbr.models.routing import Route, Rules

_DIGEST_BYTES: Final = 8
_DIGESTS: Final = float(1 << 8 * _DIGEST_BYTES)


def chosen(route: Route, rules: Rules, requested: str | None, key: bytes) -> Route:
    """Return the route to one of the models of an alias of several.

    Args:
        route: to all of them.
        rules: of the server.
        requested: the model that the request names, if it names one.
        key: by which to choose; empty: at random.
    """
    # All names that fit a pattern are alike: its shares are those of all of them together.
    alias = route.pattern or requested or rules.default_model
    share = by_key(route.shares, alias.encode(), key) if key else by_chance(route.shares, rules.draw())
    return route._replace(model=share.model, base_model=share.base_model)


def by_chance(shares: Sequence[Share], drawn: float) -> Share:
    """Choose by a number from 0 up to, not including, 1; of equally spread ones each model gets its share.

    One of the weights at least is more than 0.
    """
    left = drawn * sum(share.weight for share in shares)
    for share in shares:
        left -= share.weight
        if left < 0:
            return share
    return max(shares, key=lambda share: share.weight)  # the sum of floats may be more than that of whole numbers


def by_key(shares: Sequence[Share], alias: bytes, key: bytes) -> Share:
    """Choose by a key, alike for equal ones; of many keys each model gets its share of them.

    Another alias has other keys go to its first model, so that canaries do not meet the same people again and again.
    One of the weights at least is more than 0.
    """
    return min((share for share in shares if share.weight), key=lambda share: _distance(share, alias, key))


def _distance(share: Share, alias: bytes, key: bytes) -> float:
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for part in (alias, share.model.encode(), key):
        digest.update(b"%d:" % len(part))  # no two lists of parts are hashed alike
        digest.update(part)
    # An exponentially distributed number with the weight as its rate: the least of several is each one's in proportion.
    return -math.log((int.from_bytes(digest.digest()) + 0.5) / _DIGESTS) / share.weight
