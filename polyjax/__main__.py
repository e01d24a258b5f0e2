"""`python -m polyjax`, the same as the command `polyjax`."""

from polyjax.cli.main import main

if __name__ == "__main__":
    main()
