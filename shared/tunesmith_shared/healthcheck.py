"""Ask a service on this machine for its health: `python -m tunesmith_shared.healthcheck <port>`.

What container images use as their HEALTHCHECK: they have no curl. Leaves with status 1, after a line that says what is
wrong, unless `/health` answers 200.
"""

import sys
import urllib.error
import urllib.request

_SECONDS = 8


def main(port: int) -> None:
    """Return when the service on `port` is healthy; exits otherwise."""
    url = f"http://127.0.0.1:{port}/health"
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        without_proxy.open(url, timeout=_SECONDS).close()
    except urllib.error.HTTPError as error:
        sys.exit(f"{url} answered {error.code}: {error.read(4096).decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{url} does not answer: {error}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
