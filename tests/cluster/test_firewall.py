"""What a Docker engine has written into the firewall is taken out; what others have there stays."""

from ipaddress import IPv4Network

from . import firewall

OURS = IPv4Network("172.28.0.0/16")
BEFORE = """\
*filter
:INPUT ACCEPT [10:800]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [12:900]
:MINE - [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j MINE
COMMIT
"""
WITH_DOCKER = """\
*filter
:INPUT ACCEPT [10:800]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [12:900]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:MINE - [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j MINE
-A INPUT -i eth7 -j DROP
-A FORWARD -j DOCKER-USER
-A FORWARD -o ours0 -j DOCKER
-A FORWARD -i ours0 ! -o ours0 -j ACCEPT
-A FORWARD -i theirs0 -j ACCEPT
-A DOCKER -d 172.28.0.2/32 ! -i ours0 -o ours0 -p tcp -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.28.0.0/24 ! -o ours0 -j MASQUERADE
-A POSTROUTING -s 172.28.0.2/32 -d 172.28.0.2/32 -p tcp -m tcp --dport 6443 -j MASQUERADE
-A POSTROUTING -s 172.29.0.0/24 -j MASQUERADE
-A DOCKER -i ours0 -j RETURN
COMMIT
"""
REMOVAL = """\
*filter
-F DOCKER
-F DOCKER-USER
-D FORWARD -j DOCKER-USER
-D FORWARD -o ours0 -j DOCKER
-D FORWARD -i ours0 ! -o ours0 -j ACCEPT
-X DOCKER
-X DOCKER-USER
-P FORWARD ACCEPT
COMMIT
*nat
-F DOCKER
-D PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-D POSTROUTING -s 172.28.0.0/24 ! -o ours0 -j MASQUERADE
-D POSTROUTING -s 172.28.0.2/32 -d 172.28.0.2/32 -p tcp -m tcp --dport 6443 -j MASQUERADE
-X DOCKER
COMMIT
"""


def test_what_others_have_stays_also_what_came_meanwhile() -> None:
    assert firewall.removal(WITH_DOCKER, BEFORE, ["ours0"], OURS) == REMOVAL


def test_a_policy_that_dropped_before_drops_again() -> None:
    dropping = BEFORE.replace(":FORWARD ACCEPT", ":FORWARD DROP")
    removal = firewall.removal(WITH_DOCKER, dropping, ["ours0"], OURS)
    assert removal == REMOVAL.replace("-P FORWARD ACCEPT\n", "")
    accepting = firewall.removal(WITH_DOCKER.replace(":FORWARD DROP", ":FORWARD ACCEPT"), dropping, ["ours0"], OURS)
    assert accepting == REMOVAL.replace("-P FORWARD ACCEPT", "-P FORWARD DROP")


def test_what_another_engine_had_there_before_stays() -> None:
    ours = "-A DOCKER-USER -i ours0 -j RETURN\n"
    now = WITH_DOCKER.replace("COMMIT", ours + "COMMIT", 1)
    removal = firewall.removal(now, WITH_DOCKER, ["ours0"], OURS)
    assert removal == "*filter\n-D DOCKER-USER -i ours0 -j RETURN\nCOMMIT\n*nat\nCOMMIT\n"


def test_where_docker_has_written_nothing_nothing_is_taken_out() -> None:
    assert firewall.removal(BEFORE, BEFORE, ["ours0"], OURS) == "*filter\nCOMMIT\n"
