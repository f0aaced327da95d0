"""What may it do now: a genuine password opens only what the cluster's state and the clock still allow."""

from datetime import datetime

from pullpass.access.namespaces import allows
from pullpass.access.repositories import Rights
from pullpass.tokenserver.errors import Unauthenticated
from pullpass.tokenserver.mirror import Mirror, Token


def authorize(mirror: Mirror, token: Token, now: datetime) -> Rights:
    """The rights of a token at this moment. Raises Unauthenticated, with the reason, for one that is dead."""
    if not token.enabled:
        raise Unauthenticated("token is disabled")
    if token.expires_at is not None and now >= token.expires_at:
        raise Unauthenticated("token has ended")
    labels = mirror.namespaces.get(token.namespace)
    if labels is None:
        raise Unauthenticated("namespace is gone")
    scope_map = mirror.scope_maps.get(token.scope_map)
    if scope_map is None:
        raise Unauthenticated("scope map is missing or unreadable")
    if not allows(scope_map.allowed, token.namespace, labels):
        raise Unauthenticated("namespace is not allowed to use the scope map")
    return scope_map.rights
