#!/bin/sh
# Backs up everything that a platform keeps: database, vector store, files, models, jobs.
#   scripts/backup.sh FOLDER      makes FOLDER, which scripts/restore.sh reads; it must not be there
# The platform keeps running, embedded (data/, or TUNESMITH_DATA_DIR) and in Compose: its services stand still while the
# copy is made, so that all parts are of one moment, and requests wait meanwhile. What a database was about to write
# then, it finishes or undoes after a restore, as after a power cut.
# Base models from the hub are left out: scripts/load_base_model.py loads the same ones again.
# An embedded backup has the platform's own keys in it; those in .env are not. Keep it as safe as the data itself.
set -eu
. "$(dirname "$0")/stores.sh"

case ${1:-} in "" | -h | --help) usage; exit 0 ;; -*) die "unknown option $1; --help says more" ;; esac
case $1 in /*) target=$1 ;; *) target=$started_in/$1 ;; esac
[ ! -e "$target" ] || die "$target is there already; name a new folder."

umask 077
draft=$target.part
mkdir -p "$draft"

if in_compose; then
    compose_facts
    running=$(docker compose ps --services --status running | grep -Fx -e "$(printf '%s\n' $writers)" || true)
    release() { [ -z "$running" ] || docker compose unpause $running >/dev/null 2>&1 || true; }
    trap 'release; rm -rf "$draft"' EXIT
    trap 'exit 130' INT TERM
    [ -z "$running" ] || docker compose pause $running >/dev/null 2>&1
    docker compose exec -T postgres pg_dump --username tunesmith --format custom tunesmith >"$draft/database.dump"
    for name in $volumes; do
        in_volume "$name" ro tar -cf - . >"$draft/$name.tar"
    done
    release
else
    [ -d "$data" ] || die "There is no stack and no $data: nothing to back up."
    [ -f "$data/tunesmith.db" ] || die "$data has no tunesmith.db: a database elsewhere has its own tools (pg_dump)."
    platform=$(embedded_platform) frozen=
    release() { [ -z "$frozen" ] || kill -CONT $frozen 2>/dev/null || true; }
    trap 'release; rm -rf "$draft"' EXIT
    trap 'exit 130' INT TERM
    if [ -n "$platform" ]; then
        found=$(descendants "$platform")
        while [ "$found" != "$frozen" ]; do # until none was started meanwhile
            frozen=$found
            kill -STOP $frozen 2>/dev/null || true
            found=$(descendants "$platform")
        done
    else
        embedded_is_stopped
    fi
    tar -C "$data" --exclude ./platform.pid --exclude ./base-models -cf "$draft/data.tar" .
    release
fi

(cd "$draft" && sha256sum ./*.* >SHA256SUMS)
mv "$draft" "$target"
trap - EXIT
echo "The backup is in $target ($(du -sh "$target" | cut -f1))."
