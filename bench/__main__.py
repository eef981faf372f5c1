"""`python -m bench`, and the console script `bench`."""

import sys

from bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
