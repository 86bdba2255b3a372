"""The process that trains: `python -m tunesmith_finetune.train_child <job folder>`.

Its reports go to the parent over standard output. What libraries print goes to the job's log, from their import on: a
tracker that says good day there would be taken for a report.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Train the job in the folder that the command line names."""
    to_parent = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    from tunesmith_finetune import progress, train  # noqa: PLC0415 - these import the libraries

    train.main(Path(sys.argv[1]), progress.Reporter(to_parent))


if __name__ == "__main__":
    main()
