"""Start the command line: `python -m tunesmith_gateway.cli`."""

import sys

from tunesmith_gateway.cli.main import main

sys.exit(main())
