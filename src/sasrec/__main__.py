"""`python -m sasrec`, the same as the command `sasrec`."""

import sys

from sasrec.cli import main

if __name__ == "__main__":
    sys.exit(main())
