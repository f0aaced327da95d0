"""`pullpass keys`: how the keys of each registry are, and the replacement of a CA step by step.

Meant for the operator's pod, which has the rights and knows where things are:
`kubectl exec deploy/pullpass-operator -- pullpass keys status`.
"""

import argparse
import asyncio
import sys

from pullpass.api.registries import Registries, Registry
from pullpass.api.times import utcnow
from pullpass.cli import flags


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to the command line."""
    keys = commands.add_parser("keys", help="show the signing keys of registries, and replace a CA")
    actions = keys.add_subparsers(dest="action", required=True)
    common = argparse.ArgumentParser(add_help=False)
    flags.add_namespace(common)
    flags.add_locations(common)
    common.add_argument(
        "--registry",
        metavar="NAME",
        help="which registry; without it status shows all, and the others take the only one",
    )
    common.set_defaults(log_level="warning", log_format="text")
    actions.add_parser("status", parents=[common], help="show every certificate, the step, and what is to be done")
    for name, text, now in (
        ("replace-ca", "make the next CA and publish it beside the one that signs", "sign with the new CA now"),
        (
            "switch-ca",
            "make the next CA sign, once every registry has loaded it",
            "sign with it now, whatever they have",
        ),
    ):
        action = actions.add_parser(name, parents=[common], help=text)
        action.add_argument(
            "--at-once",
            action="store_true",
            help=f"the old key has leaked: {now}, and stop trusting the old one. "
            "Pulls fail until registries have loaded the new bundle",
        )


def run(options: argparse.Namespace, registries: Registries) -> int:
    """Does what is asked, prints how the keys are then, and returns the exit status."""
    from pullpass.kube.client import KubeError

    try:
        troubles = asyncio.run(_run(options, registries))
    except (KubeError, _WhichError) as error:
        troubles = [str(error)]
    for trouble in troubles:
        print(f"pullpass keys {options.action}: {trouble}", file=sys.stderr)
    return 1 if troubles else 0


class _WhichError(Exception):
    """Which registry is meant cannot be told."""


async def _run(options: argparse.Namespace, registries: Registries) -> list[str]:
    """What stood in the way; the keys of one registry do not keep those of the others from being shown."""
    from pullpass.controller.keys import replacement
    from pullpass.controller.keys.storage import KeySecretError
    from pullpass.controller.settings import KeyLocations
    from pullpass.kube.client import Kube

    locations = KeyLocations(options.namespace, options.credentials_namespace, registries)
    now, troubles = utcnow(), []
    async with Kube.connect(options.kubeconfig) as kube:
        for registry in _chosen(options, registries):
            try:
                if options.action == "status":
                    lines = await replacement.status(kube, locations, registry, now)
                elif options.action == "replace-ca":
                    lines = await replacement.replace_ca(kube, locations, registry, now, at_once=options.at_once)
                else:
                    lines = await replacement.switch_ca(kube, locations, registry, now, at_once=options.at_once)
            except KeySecretError as error:
                troubles.append(str(error))
            else:
                print(*lines, sep="\n")
    return troubles


def _chosen(options: argparse.Namespace, registries: Registries) -> tuple[Registry, ...]:
    known = ", ".join(registries.known)
    if options.registry is None:
        found = tuple(registries)
        if options.action != "status" and len(found) > 1:
            raise _WhichError(f"say which registry is meant by --registry; there are {known}")
        return found
    registry = registries.named(options.registry)
    if registry is None:
        raise _WhichError(f"there is no registry {options.registry}; there are {known}")
    return (registry,)
