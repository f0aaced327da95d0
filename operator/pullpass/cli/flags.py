"""Flags that several commands have: where things are, and how to reach the API server.

In a pod of the release the environment says where; so `kubectl exec` needs none of them.
"""

import argparse
import os
from pathlib import Path


def add_namespace(parser: argparse.ArgumentParser) -> None:
    """The release's namespace."""
    _add(parser, "--namespace", "PULLPASS_NAMESPACE", "NS", "the release's namespace: Lease, CAs, trust bundles")


def add_locations(parser: argparse.ArgumentParser) -> None:
    """Where credential records and leaves are, which registries there are, and the API server."""
    _add(
        parser,
        "--credentials-namespace",
        "PULLPASS_CREDENTIALS_NAMESPACE",
        "NS",
        "where credential records and signing keys live",
    )
    _add(
        parser,
        "--registries",
        "PULLPASS_REGISTRIES",
        "FILE",
        "JSON file with the registries that pull secrets and access tokens are for",
        kind=Path,
    )
    parser.add_argument(
        "--kubeconfig", default=os.environ.get("KUBECONFIG"), help="outside a cluster: the kubeconfig to use"
    )


def _add(parser: argparse.ArgumentParser, flag: str, variable: str, metavar: str, text: str, kind: type = str) -> None:
    given = os.environ.get(variable)
    parser.add_argument(
        flag, type=kind, default=given, required=given is None, metavar=metavar, help=f"{text} (${variable})"
    )
