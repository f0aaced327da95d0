"""The five actions of a ScopeMap and the registry's own words for them.

The words are those of Azure Container Registry; CNCF Distribution and zot know pull, push and delete of them.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pullpass.api.scopemap import Action

WORDS: Mapping[Action, str] = MappingProxyType(
    {
        "content/read": "pull",
        "content/write": "push",
        "content/delete": "delete",
        "metadata/read": "metadata_read",
        "metadata/write": "metadata_write",
    }
)
"""Each action and its word in a scope and in an access token."""

ORDER: tuple[str, ...] = tuple(WORDS.values())
"""The words in the order in which access tokens list them."""

ANY = "*"
"""A requested `*` asks for everything the subject holds. It never stands in an access token: there
Distribution takes it for any action."""
