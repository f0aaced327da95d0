"""Nothing secret in anything that the whole run made known. Runs last."""

import base64
import json
import re
from collections.abc import Iterable

import pytest

from tests.cluster.install import CREDENTIALS_NAMESPACE, NAMESPACE, Release
from tests.e2e import second
from tests.e2e.exposure import Exposure, Text
from tests.e2e.tenant import Tenant


def found(needles: Iterable[str], texts: Iterable[Text]) -> list[str]:
    """Where any of these is; not what it is, which a test's output must not show either."""
    pattern = re.compile("|".join(map(re.escape, needles)))
    return [text.source for text in texts if pattern.search(text.content)]


@pytest.fixture(scope="module")
def sources(exposure: Exposure) -> list[Text]:
    return list(exposure.everything())


def test_no_password_in_what_people_can_read(exposure: Exposure, sources: list[Text], publisher: Tenant) -> None:
    password = publisher.credentials("publisher-pull").password
    # Into variables first: a failed assertion shows what it was called with.
    planted = found(exposure.forms(), [Text("a leak", f"login with {password} failed")])
    assert planted == ["a leak"], "the passwords of the run were not collected"
    assert any(text.source.startswith("log of pullpass-operator") and text.content for text in sources)
    assert any(text.source.startswith("log of pullpass-token-server") and text.content for text in sources)
    leaks = found(exposure.forms(), sources)
    assert leaks == []


def test_no_access_token_in_the_logs(exposure: Exposure) -> None:
    signed = re.compile(r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.")
    assert [text.source for text in exposure.logs() if signed.search(text.content)] == []


@pytest.mark.parametrize(
    ("namespace", "secret"),
    [
        (NAMESPACE, "pullpass-ca"),
        (NAMESPACE, "pullpass-seed"),
        (NAMESPACE, "pullpass-server-ca"),
        (NAMESPACE, "pullpass-token-server-tls"),
        (NAMESPACE, "pullpass-registry-tls"),
        (CREDENTIALS_NAMESPACE, "pullpass-signing"),
        (NAMESPACE, f"pullpass-ca-{second.NAME}"),
        (CREDENTIALS_NAMESPACE, f"pullpass-signing-{second.NAME}"),
    ],
)
def test_no_key_outside_its_secret(release: Release, sources: list[Text], namespace: str, secret: str) -> None:
    get = ("get", "secret", secret, "-n", namespace, "-o", "json")
    data = json.loads(release.cluster.kubectl(*get).stdout)["data"]
    keys = [value for name, value in data.items() if name not in ("tls.crt", "ca.crt")]
    assert keys
    needles = [form for value in keys for form in forms(value)]
    leaks = found(needles, [text for text in sources if not text.source.startswith(f"secrets {secret},")])
    assert leaks == []


def forms(value: str) -> list[str]:
    """A Secret's value as it is, and decoded; of a PEM file one line of the key itself."""
    decoded = base64.b64decode(value)
    if decoded.startswith(b"-----BEGIN"):
        return [value, decoded.decode().splitlines()[1]]
    return [value, decoded.decode(errors="ignore"), decoded.hex()] if len(decoded) >= 16 else [value]
