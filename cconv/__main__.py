"""`python -m cconv` is the command `cconv`."""

import sys

from cconv.cli import main

sys.exit(main())
