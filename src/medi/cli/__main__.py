"""`python -m medi.cli` is the command `medi`."""

from medi.cli.main import main

if __name__ == "__main__":
    main()
