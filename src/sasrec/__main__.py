"""`python -m sasrec`, the same as the command `sasrec`."""

from sasrec.cli import main

if __name__ == "__main__":
    main()
