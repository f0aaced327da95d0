"""Implements `pullpass keys`: creates a registry's next CA, switches to it, and shows the state of the keys.

Each command first writes the wanted CA into its Secret, in one write, and then makes the pass that the operator would
make later. If it is interrupted in between, it can be run again, or the operator completes it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import TypeVar

from pullpass.api.registries import Registry
from pullpass.api.times import format_time
from pullpass.controller.keys.signing import (
    NEXT_CERTIFICATE,
    NEXT_KEY,
    Keys,
    issue_and_publish,
    load,
    next_step,
)
from pullpass.controller.keys.storage import KeySecretError, encoded, files, must_be_ours, where
from pullpass.controller.settings import KeyLocations
from pullpass.kube.client import Conflict, Kube
from pullpass.kube.resources import SECRETS
from pullpass.signing.certificates import KeyPair, new_ca
from pullpass.signing.replacement import PROPAGATION_DELAY, ReplacementStep
from pullpass.signing.trust import fingerprint

ATTEMPTS = 5
"""How often a command is tried when the operator writes at the same time."""
PAUSE = 0.5
"""Seconds between two attempts."""

T = TypeVar("T")


async def replace_ca(
    kube: Kube, locations: KeyLocations, registry: Registry, now: datetime, *, at_once: bool = False
) -> list[str]:
    """Creates the registry's next CA and publishes it. With `at_once` it signs immediately, and the old one is removed.

    Returns lines for people that describe the keys afterwards. Raises KeySecretError where people have to act first,
    KubeError where the API server failed or refused.
    """

    async def prepare() -> str | None:
        keys = await load(kube, locations, registry, now)
        must_be_ours(
            keys.ca_secret,
            "Put the new CA there yourself: the leaf of the old one goes on, and both are published. Then switch: "
            f"pullpass keys switch-ca --registry {registry.name}",
        )
        if at_once:
            ca = new_ca(now)
            await _write_ca(kube, locations, keys, ca, None)
            return fingerprint(ca.certificate)
        if keys.state.step is ReplacementStep.REPLACED:
            raise KeySecretError(f"registry {registry.name}: {next_step(locations, keys, now)}")
        if keys.state.next is None:
            await _write_ca(kube, locations, keys, keys.state.ca, new_ca(now))
        return None

    switch_to = await _retry_on_conflict(prepare)
    return await _finish(kube, locations, registry, now, switch_to=switch_to, distrust=at_once)


async def switch_ca(
    kube: Kube, locations: KeyLocations, registry: Registry, now: datetime, *, at_once: bool = False
) -> list[str]:
    """Switches to the prepared CA, or to the one that overwrote the old one in the Secret.

    `at_once` skips the check that it has been published for long enough, and removes the old one from the bundle.
    Returns lines for people that describe the keys afterwards. Raises KeySecretError where there is no other CA or it
    is too early, KubeError where the API server failed or refused.
    """

    async def put() -> str:
        keys = await load(kube, locations, registry, now)
        state = keys.state
        candidate = state.ca if state.step is ReplacementStep.REPLACED or keys.uses_next_ca else state.next
        if candidate is None:
            if at_once:
                return fingerprint(state.ca.certificate)
            raise KeySecretError(
                f"registry {registry.name} has no other CA to switch to. "
                f"Create one: pullpass keys replace-ca --registry {registry.name}"
            )
        since = state.published(candidate.certificate)
        if not at_once and (since is None or now < since + PROPAGATION_DELAY):
            when = (
                f"was published at {format_time(since)}"
                if since
                else "is not published yet; the operator publishes it within ten minutes"
            )
            raise KeySecretError(
                f"registry {registry.name}: the CA to switch to {when}. Wait for {PROPAGATION_DELAY.seconds} seconds "
                "after that, have every registry load it, and then switch."
            )
        if candidate is state.next or keys.uses_next_ca:
            await _write_ca(kube, locations, keys, candidate, None)
        return fingerprint(candidate.certificate)

    switch_to = await _retry_on_conflict(put)
    return await _finish(kube, locations, registry, now, switch_to=switch_to, distrust=at_once)


async def status(kube: Kube, locations: KeyLocations, registry: Registry, now: datetime) -> list[str]:
    """Returns lines that describe the registry's keys. Raises KeySecretError, KubeError."""
    return [*_describe(locations, await load(kube, locations, registry, now), now)]


async def _finish(
    kube: Kube, locations: KeyLocations, registry: Registry, now: datetime, *, switch_to: str | None, distrust: bool
) -> list[str]:
    """Makes the operator's pass. `switch_to` is the fingerprint of the CA to sign: raises for any other in the
    Secret."""

    async def finish() -> Keys:
        keys = await load(kube, locations, registry, now)
        if switch_to not in (None, fingerprint(keys.state.ca.certificate)):
            raise KeySecretError(
                f"{where(keys.ca_secret)} of registry {registry.name} changed meanwhile, so nothing was switched. "
                "Look at it (pullpass keys status) and run the command again."
            )
        return await issue_and_publish(kube, locations, keys, now, switch=switch_to is not None, distrust=distrust)

    keys = await _retry_on_conflict(finish)
    lines = [*_describe(locations, keys, now)]
    if distrust:
        trust_map = f"{locations.namespace}/{registry.trust_config_map}"
        lines.append(f"  NOW  Pulls fail at every registry until it has loaded ConfigMap {trust_map} (restart it).")
    return lines


async def _write_ca(kube: Kube, locations: KeyLocations, keys: Keys, ca: KeyPair, following: KeyPair | None) -> None:
    """Writes a CA and, if any, the one to follow it into the Secret, in one write."""
    content = files(ca)
    if following:
        content |= {NEXT_CERTIFICATE: following.certificate_pem, NEXT_KEY: following.key_pem}
    body = {**keys.ca_secret, "data": encoded(content)}
    await kube.replace(SECRETS, locations.namespace, keys.registry.ca_secret, body)


async def _retry_on_conflict(do: Callable[[], Awaitable[T]]) -> T:
    """Returns what `do` returns. Raises Conflict after ATTEMPTS."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await do()
        except Conflict:
            await asyncio.sleep(PAUSE)
    return await do()


def _describe(locations: KeyLocations, keys: Keys, now: datetime) -> Iterator[str]:
    state, registry = keys.state, keys.registry
    yield f"registry {registry.name}"
    roles = {}
    if state.next:
        roles[fingerprint(state.next.certificate)] = "next"
    roles[fingerprint(state.ca.certificate)] = "signs" if state.switched else "signs next"
    if state.issuer and not state.switched:
        roles[fingerprint(state.issuer)] = "signs"
    certificates = {fingerprint(one): one for one in state.wanted}
    certificates |= {one.fingerprint: one.certificate for one in state.trusted}
    published = {one.fingerprint: one for one in state.trusted}
    for one, certificate in certificates.items():
        there = published.get(one)
        since = f"published since {format_time(there.since)}" if there else "not published yet"
        until = f", leaves at {format_time(there.until)}" if there and there.until else ""
        ends = certificate.not_valid_after_utc
        yield f"  CA {one[:16]}  {roles.get(one, 'leaving')}, ends {ends:%Y-%m-%d}, {since}{until}"
    if state.leaf:
        due = state.leaf_due(now)
        yield f"  leaf  ends {state.leaf.not_after:%Y-%m-%d}, the next one is issued at {format_time(due)}"
    else:
        yield f"  leaf  none that can be read in Secret {locations.credentials_namespace}/{registry.signing_secret}"
    yield f"  step {state.step}: {next_step(locations, keys, now)}"
