"""`python -m kernelgap` is the command `kernelgap`."""

import sys

from kernelgap.cli import main

sys.exit(main())
