"""Run mypy (strict) over every package, its tests and the scripts: `python scripts/typecheck.py`.

One run a folder with tests, since several folders have a package named `tests`.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "shared": "tunesmith_shared",
    "gateway": "tunesmith_gateway",
    "rag-service": "tunesmith_rag",
    "finetune-worker": "tunesmith_finetune",
    "engine": "tunesmith_engine",
}


def main() -> int:
    """Return 0 when every run is clean."""
    failures = 0
    packages = [f"{folder}/{package}" for folder, package in PACKAGES.items()]
    tests = [str(folder.relative_to(ROOT)) for folder in sorted(ROOT.glob("*/tests")) if any(folder.glob("*.py"))]
    runs = [packages, *([folder] for folder in tests)]
    runs += [[folder] for folder in ("scripts", "tests", "benchmarks") if any((ROOT / folder).glob("**/*.py"))]
    for paths in runs:
        failures += subprocess.run([sys.executable, "-m", "mypy", *paths], cwd=ROOT, check=False).returncode != 0
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
