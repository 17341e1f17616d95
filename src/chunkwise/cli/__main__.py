"""`python -m chunkwise.cli`."""

from chunkwise.cli import main

if __name__ == "__main__":
    main()
