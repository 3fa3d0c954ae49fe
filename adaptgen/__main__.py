"""`python -m adaptgen` is `adaptgen`."""

from adaptgen.cli import main

if __name__ == "__main__":
    main()
