"""``python -m npllm``."""

import sys

from npllm.cli import main

if __name__ == "__main__":
    sys.exit(main())
