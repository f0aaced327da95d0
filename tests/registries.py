"""Registries as a release has them."""

from pullpass.api.registries import Registries, Registry

DEFAULT = Registry(
    name="default",
    service="registry",
    issuer="pullpass",
    hosts=("registry.example", "registry.example:5000"),
)
OTHER = Registry(
    name="other",
    service="other-registry",
    issuer="other-issuer",
    hosts=("other.example",),
    access_token_lifetime_seconds=120,
)

ONE = Registries(registries=(DEFAULT,))
TWO = Registries(registries=(DEFAULT, OTHER))
