"""The entrypoint of Ollama's container without the internet: it serves, says what is missing, and pulls it later.

`ollama` is a script here that keeps a note of its calls; its pulls fail until the file `online` is there.
"""

import os
import subprocess
from pathlib import Path

from tunesmith_shared.testing import wait_until

ENTRYPOINT = Path(__file__).parents[1] / "scripts" / "ollama_entrypoint.sh"
OLLAMA = """#!/bin/sh
echo "$*" >>"$NOTES/calls"
case $1 in
    serve) exec sleep 600 ;;
    show) [ -e "$NOTES/has-$2" ] ;;
    pull)
        printf 'pulling manifest \\r\\033[Kpulling 746:  10%% 10 MB/ 98 MB\\r\\033[Kpulling 746: 100%% 98 MB/ 98 MB\\n'
        [ -e "$NOTES/online" ] || { echo 'Error: dial tcp: no such host'; exit 1; }
        touch "$NOTES/has-$2"
        echo success ;;
esac
"""
SECONDS = 60


def test_without_the_internet_it_serves_and_pulls_when_it_can(tmp_path: Path) -> None:
    (tmp_path / "ollama").write_text(OLLAMA)
    (tmp_path / "ollama").chmod(0o755)
    (tmp_path / "has-already").touch()
    settings = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "NOTES": str(tmp_path)}
    settings |= {"TUNESMITH_PULL_MODELS": "small already", "TUNESMITH_PULL_PAUSE": "0.1"}
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/bin/sh", str(ENTRYPOINT)], env={**os.environ, **settings}, stderr=output, start_new_session=True
        )
    try:
        wait_until(lambda: log.read_text().count("not pulled: small; trying again") >= 2, SECONDS, "it tries again")
        assert process.poll() is None
        assert "no such host" in log.read_text()
        (tmp_path / "online").touch()
        wait_until(lambda: "[models] small: success" in log.read_text(), SECONDS, "it was pulled")
        assert process.poll() is None
        assert "pulling 746: 100%" in log.read_text()
        assert "pull already" not in (tmp_path / "calls").read_text()
    finally:
        os.killpg(process.pid, 15)
        process.wait(SECONDS)
