"""Names that users and other programs see: groups, labels, annotations, object names."""

import re

GROUP = "pullpass.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "pullpass"
COMPONENT_LABEL = f"{GROUP}/component"
"""Tells our Secrets apart: one of the three values below."""
PULL_SECRET = "pull-secret"
CREDENTIAL_RECORD = "credential-record"
SIGNING_KEY = "signing-key"

SIGNING_SECRET = "pullpass-signing"
"""The Secret with the default registry's signing leaf, in the credentials namespace."""
DEFAULT_REGISTRY = "default"
"""The registry that a ScopeMap is for unless it says another."""

TOKEN_UID_LABEL = f"{GROUP}/token-uid"
"""UID of the RegistryToken an object belongs to; a name would not tell a token from its successor."""
TOKEN_ANNOTATION = f"{GROUP}/token"
"""`<namespace>/<name>` of that RegistryToken, too long for a label."""
DELETION_POLICY_ANNOTATION = f"{GROUP}/deletion-policy"
ACCEPT_ANNOTATION = f"{GROUP}/accept-pull-secrets-from"
"""On a Namespace: comma-separated namespaces whose RegistryTokens may put a pull secret there."""
ROTATE_ANNOTATION = f"{GROUP}/rotate-requested-at"
"""On a RegistryToken: each new value asks for a new password; the old one stays valid for the overlap."""
REGENERATE_ANNOTATION = f"{GROUP}/regenerate-requested-at"
"""On a RegistryToken: each new value asks for a new password, and all older ones end once it is published."""
ENTRIES_ANNOTATION = f"{GROUP}/image-pull-secrets"
"""On a ServiceAccount: which of its imagePullSecrets are ours, as `<secret>=<token uid>`, comma-separated."""

MANAGED_SELECTOR = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
FIELD_MANAGER = "pullpass-operator"

PULL_SECRET_TYPE = "kubernetes.io/dockerconfigjson"
PULL_SECRET_KEY = ".dockerconfigjson"


def username(namespace: str, name: str) -> str:
    """The login name of a RegistryToken: `<namespace>.<name>`; a namespace has no dot, so it splits at the first."""
    return f"{namespace}.{name}"


def pull_secret(token: str, named: str | None = None) -> str:
    """The name of a token's pull secret, in every namespace: the one that its spec names, or the default."""
    return named or f"{token}-pull"


def of_registry(name: str, registry: str) -> str:
    """The name of what each registry has its own of: `name` itself for the default one, so that it stays as it is
    where there is but one."""
    return name if registry == DEFAULT_REGISTRY else f"{name}-{registry}"


_TOKEN = re.compile(r"([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)/([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?)")


def split_token(text: str) -> tuple[str, str] | None:
    """The namespace and name in an annotation of the form `<namespace>/<name>`, or None where it is not one.

    Whoever may write Secrets in a namespace can write that annotation, and it ends up in URLs and messages.
    """
    match = _TOKEN.fullmatch(text)
    return (match[1], match[3]) if match else None


def record_name(token_uid: str) -> str:
    """Name of the credential record of a token: by UID, so that a successor of the same name starts with none."""
    return f"rt-{token_uid}"
