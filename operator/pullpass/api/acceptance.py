"""What a token server replica says to the operator on its management port.

Of one password of one token at one registry, before the operator publishes it: question and answer name the password by
its public id only. And of the registries that it can issue access tokens for.
"""

from typing import Annotated

from pydantic import AwareDatetime, Field

from pullpass.api.fields import Model
from pullpass.api.registries import MAX_REGISTRIES

PORT_NAME = "http-management"
"""Of the management port in the Service that finds the replicas."""

Words = Annotated[str, Field(max_length=200, pattern=r"^[ -~]*$")]
"""Short and printable: it is quoted in conditions and logs, and whoever has the address of a replica may send it."""


REGISTRIES_PATH = "/registries"
"""Path of the question for the registries that a replica can issue access tokens for."""


def path(token_uid: str) -> str:
    """Path of the question; its parameters are `password`, the public id, and `registry`, the registry's name."""
    return f"/tokens/{token_uid}"


class Acceptance(Model):
    """The answer, with status 200, or 404 where no token has that UID."""

    complete: bool
    """Whether the replica has received everything that the API server lists; before that it knows too little."""
    ready: bool
    """Whether it could issue access tokens for the registry now, be it not to this token."""
    version: Words | None
    """resourceVersion of the credential record that it holds; None without one."""
    accepted: bool
    """Whether a login with that password would be accepted now."""
    reason: Words | None = None
    """Why not, in the words of the audit log."""
    time: AwareDatetime
    """Its clock, in UTC."""


class Issuing(Model):
    """What a replica can issue access tokens for."""

    complete: bool
    """Whether the replica has received everything that the API server lists; before that it knows too little."""
    registries: Annotated[tuple[Words, ...], Field(max_length=MAX_REGISTRIES)]
    """Names of the registries that it has a valid signing leaf of."""
