"""What others made stays as they made it."""

import base64
import json

import pytest

from tests.e2e.tenant import Tenant
from tests.e2e.waiting import until


@pytest.mark.parametrize("secret_type", ["kubernetes.io/dockerconfigjson", "Opaque"])
def test_a_foreign_secret_under_the_name_is_untouched(tenant: Tenant, secret_type: str) -> None:
    config = base64.b64encode(json.dumps({"auths": {}}).encode()).decode()
    tenant.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": secret_type,
            "metadata": {"name": "reader-pull", "namespace": tenant.namespace},
            "data": {".dockerconfigjson": config},
        }
    )
    before = tenant.find("secret", "reader-pull")
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    until(lambda: "SecretNotOwned" in tenant.reasons("reader").values(), "SecretNotOwned")
    assert tenant.find("secret", "reader-pull") == before
    tenant.kubectl("delete", "registrytoken", "reader")
    until(lambda: not tenant.records(), "the token is gone")
    assert tenant.find("secret", "reader-pull") == before


def test_other_entries_of_a_service_account_stay(tenant: Tenant) -> None:
    own = [{"name": "own-first"}, {"name": "own-second"}]
    patch = json.dumps({"imagePullSecrets": own})
    tenant.kubectl("patch", "serviceaccount", "default", "--type=merge", "--patch", patch)
    tenant.scope_map("read", ["team/app"])
    for name in ("one", "two"):
        tenant.token(name, "read", pullSecret={"serviceAccounts": ["default"]})
    tenant.ready("one", "two")
    names = tenant.pull_secret_names()
    assert names[:2] == ["own-first", "own-second"]
    assert sorted(names[2:]) == ["one-pull", "two-pull"]
    tenant.kubectl("delete", "registrytoken", "one")
    until(
        lambda: tenant.pull_secret_names() == ["own-first", "own-second", "two-pull"],
        "only its entry is gone",
    )
    tenant.kubectl("delete", "registrytoken", "two")
    until(lambda: tenant.pull_secret_names() == ["own-first", "own-second"], "the list is as before")


def test_an_entry_that_somebody_else_wrote_is_theirs(tenant: Tenant) -> None:
    patch = json.dumps({"imagePullSecrets": [{"name": "reader-pull"}]})
    tenant.kubectl("patch", "serviceaccount", "default", "--type=merge", "--patch", patch)
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    tenant.ready("reader")
    assert tenant.pull_secret_names() == ["reader-pull"]
    tenant.kubectl("delete", "registrytoken", "reader")
    until(lambda: not tenant.records(), "the token is gone")
    assert tenant.pull_secret_names() == ["reader-pull"]
