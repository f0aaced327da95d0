"""What needs no cluster and is quick, on the versions of Python that the other tests do not run on."""

import pytest

from tests.cluster import pythons

QUICK = ("tests/unit", "--ignore=tests/unit/controller/faults", "tests/contract/protocol")


@pytest.mark.skipif(not pythons.possible(), reason="only root on Debian can make a Debian to run another Python in")
@pytest.mark.parametrize("version", pythons.others())
def test_quick_tests(version: str) -> None:
    done = pythons.run(version, "-m", "pytest", "-p", "no:cacheprovider", "-q", *QUICK)
    print(done.stdout)
    assert done.returncode == 0, f"pytest on Python {version}: exit status {done.returncode}, see its output"
