"""`python -m streamer` is `vividstream`, and its console script: what fails even before there is a command line."""

from __future__ import annotations

import sys

from streamer.broken import broken

INTERRUPTED = 130


def main() -> None:
    """Ends the process as `streamer.cli.main` does."""
    try:
        from streamer.cli import main as run

        run()
    except ImportError as error:
        print(broken(error), file=sys.stderr)  # noqa: T201  without what prints otherwise
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
