"""`python -m streamer` is `vividstream`."""

from streamer.cli import main

if __name__ == "__main__":
    main()
