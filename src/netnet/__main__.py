"""``python -m netnet``."""

import sys

from netnet.cli.main import main

sys.exit(main())
