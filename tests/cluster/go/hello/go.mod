module pullpass.dev/tests/cluster/hello

go 1.26.0
