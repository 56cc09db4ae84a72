"""`python -m trioder.cli`: the same as `trioder`."""

from trioder.cli.main import main

if __name__ == "__main__":
    main()
