"""`make bench`: prints every figure, and ends with 1 if one does not reach its goal.

ARGS="issuing" or another name runs one of them.
"""

import sys

from tests.bench import flood, issuing, scale, servers, starved

BENCHES = {"issuing": issuing, "flood": flood, "servers": servers, "scale": scale, "starved": starved}


def main() -> int:
    """Runs the benchmarks that are named, or all of them, one after the other."""
    reached = True
    for name in sys.argv[1:] or BENCHES:
        for figure in BENCHES[name].run():
            figure.show()
            reached = reached and figure.ok
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
