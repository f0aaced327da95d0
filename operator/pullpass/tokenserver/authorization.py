"""Authorizes an authenticated request: what its token may do by the resources in the cluster, at this moment."""

from datetime import datetime

from pullpass.access.namespaces import allows
from pullpass.access.repositories import Rights
from pullpass.tokenserver.authentication import Identity
from pullpass.tokenserver.cache import AccessCache
from pullpass.tokenserver.errors import UnauthenticatedError


def authorize(cache: AccessCache, identity: Identity, registry: str, now: datetime) -> Rights:
    """Returns the rights of a token at the registry of that name, at the moment `now` (UTC).

    Raises UnauthenticatedError with the reason for a token or password that has ended, is revoked or disabled, whose
    namespace or scope map does not allow it any more, or that is for another registry.
    """
    token, slot = identity.token, identity.slot
    if slot.ends_at is not None and now >= slot.ends_at:
        raise UnauthenticatedError("password has ended")
    if slot.id in token.revoked:
        raise UnauthenticatedError("password is revoked")
    if not token.enabled:
        raise UnauthenticatedError("token is disabled")
    if token.expires_at is not None and now >= token.expires_at:
        raise UnauthenticatedError("token has ended")
    labels = cache.namespaces.get(token.namespace)
    if labels is None:
        raise UnauthenticatedError("namespace is gone")
    scope_map = cache.scope_maps.get(token.scope_map)
    if scope_map is None:
        raise UnauthenticatedError("scope map is missing or unreadable")
    if scope_map.registry != registry:
        raise UnauthenticatedError("scope map is for another registry")
    if not allows(scope_map.allowed, token.namespace, labels):
        raise UnauthenticatedError("namespace is not allowed to use the scope map")
    return scope_map.rights
