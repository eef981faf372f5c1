"""`python -m bench.records.golden` writes trajectories that are missing or whose version was raised."""

import sys

from bench.errors import UsageError
from bench.records.golden.trajectories import write

if __name__ == "__main__":
    try:
        write()
    except UsageError as error:
        sys.exit(str(error))
