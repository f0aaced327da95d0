"""The kinds of objects that pullpass reads or writes, and their URL paths."""

from dataclasses import dataclass
from urllib.parse import quote

from pullpass.api import names


@dataclass(frozen=True)
class Resource:
    """A kind of object in the API: group (empty for core), version, plural."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Returns the URL path of the collection or, with a name, of one object."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{quote(namespace, safe='')}" if namespace is not None else ""
        return f"{root}{scope}/{self.plural}" + (f"/{quote(name, safe='')}" if name is not None else "")


SCOPE_MAPS = Resource(names.GROUP, names.VERSION, "scopemaps")
REGISTRY_TOKENS = Resource(names.GROUP, names.VERSION, "registrytokens")
NAMESPACES = Resource("", "v1", "namespaces")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts")
SECRETS = Resource("", "v1", "secrets")
CONFIG_MAPS = Resource("", "v1", "configmaps")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices")
EVENTS = Resource("events.k8s.io", "v1", "events")
