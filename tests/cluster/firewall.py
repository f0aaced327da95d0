"""What a Docker engine of our own writes into this machine's firewall, and how that is taken out again.

It is taken out rule by rule: the rules of others stay as they are, also those that came meanwhile.
"""

from collections.abc import Collection
from ipaddress import IPv4Network

from . import processes

_PROGRAMS = {"ip": "iptables", "ip6": "ip6tables"}


def saved() -> dict[str, str]:
    """The rules of both families as `iptables-save` prints them, by the family's name in nftables."""
    return {family: processes.run([f"{program}-save"]).stdout for family, program in _PROGRAMS.items()}


def clean(before: dict[str, str], bridges: Collection[str], network: IPv4Network) -> None:
    """Take out what Docker has written for these bridges, whose addresses are in this network.

    `before` says what was there before it was started.
    """
    for family, program in _PROGRAMS.items():
        now = processes.run([f"{program}-save"]).stdout
        if not now:
            continue
        earlier = before.get(family, "")
        processes.run([f"{program}-restore", "--noflush"], input=removal(now, earlier, bridges, network))
        if "nf_tables" in processes.run([program, "--version"]).stdout:
            for table in _tables(now).keys() - _tables(earlier).keys():
                # There was no such table, and it goes unless somebody has put something into it.
                if not _rules(processes.run([f"{program}-save", "-t", table]).stdout):
                    processes.run(["nft", "delete", "table", family, table])


def removal(now: str, before: str, bridges: Collection[str], network: IPv4Network) -> str:
    """What `iptables-restore --noflush` has to read to take out what is Docker's, given what `iptables-save` printed.

    Docker's chains go, rules that lead to them, and rules for the bridges or the network; unless they were there
    `before`, when perhaps another engine was. A policy is as it was, ACCEPT in a table that was not there.
    """
    earlier, lines = _tables(before), []
    for table, content in _tables(now).items():
        known = earlier.get(table, [])
        chains = {line.split()[0][1:]: line.split()[1] for line in content if line.startswith(":")}
        policies = {line.split()[0][1:]: line.split()[1] for line in known if line.startswith(":")}
        gone = [chain for chain in chains if chain.startswith("DOCKER") and chain not in policies]
        lines.append(f"*{table}")
        lines += [f"-F {chain}" for chain in gone]
        for line in content:
            words = line.split()
            ours = any(word.startswith("DOCKER") or word in bridges or _within(word, network) for word in words)
            if line.startswith("-A ") and words[1] not in gone and ours and line not in known:
                lines.append(f"-D {line.removeprefix('-A ')}")
        lines += [f"-X {chain}" for chain in gone]
        for chain, policy in chains.items():
            if policy not in ("-", policies.get(chain, "ACCEPT")):
                lines.append(f"-P {chain} {policies.get(chain, 'ACCEPT')}")
        lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def _within(word: str, network: IPv4Network) -> bool:
    try:
        return IPv4Network(word).subnet_of(network)
    except ValueError:
        return False


def _tables(text: str) -> dict[str, list[str]]:
    """The lines of each table, chains and rules."""
    tables: dict[str, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
            tables[table] = []
        elif line.startswith((":", "-A ")):
            tables[table].append(line)
    return tables


def _rules(text: str) -> list[str]:
    """Rules, and chains that are not built in."""
    return [line for lines in _tables(text).values() for line in lines if line[:1] == "-" or line.split()[1] == "-"]
