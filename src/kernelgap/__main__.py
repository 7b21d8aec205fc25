"""Run the command `kernelgap` as `python -m kernelgap`."""

import sys

from kernelgap.cli import main

sys.exit(main())
