"""``npllm``, and ``python -m npllm``."""

from __future__ import annotations

import sys


def start() -> int:
    """Run a command; Ctrl-C while it is still being imported ends it without a traceback."""
    try:
        from npllm.cli import main
    except KeyboardInterrupt:
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(start())
