module pullpass.dev/tests/cluster/peer

go 1.26.0
