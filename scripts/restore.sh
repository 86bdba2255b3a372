#!/bin/sh
# Puts a backup of scripts/backup.sh in place of everything that the platform has now, but for downloaded base models.
#   scripts/restore.sh FOLDER          checks the backup and says what would be replaced
#   scripts/restore.sh FOLDER --yes    replaces it
# In Compose the stack must have been started once (docker compose up -d); its services are stopped meanwhile. Embedded,
# the platform must be stopped. API keys are those of the backup; the key in .env works, too.
set -eu
. "$(dirname "$0")/stores.sh"

folder= yes=
for argument; do
    case $argument in
        --yes) yes=1 ;;
        -h | --help) usage; exit 0 ;;
        -*) die "unknown option $argument; --help says more" ;;
        *) folder=$argument ;;
    esac
done
[ -n "$folder" ] || { usage; exit 0; }
case $folder in /*) ;; *) folder=$started_in/$folder ;; esac
[ -f "$folder/SHA256SUMS" ] || die "$folder is no backup: it has no SHA256SUMS."
(cd "$folder" && sha256sum --quiet -c SHA256SUMS) || die "The backup is damaged; nothing was changed."

if [ -f "$folder/database.dump" ]; then
    in_compose || die "This is a backup of a Compose stack: start one first (docker compose up -d)."
    compose_facts
    if [ -z "$yes" ]; then
        say "Would replace the database and the volumes $volumes of the stack $project. Nothing was changed: add --yes."
        exit 0
    fi
    docker compose stop $writers >/dev/null 2>&1
    for name in $volumes; do
        in_volume "$name" rw sh -c 'find . -mindepth 1 -delete && tar -xf -' <"$folder/$name.tar"
    done
    # Schemas made since, such as the job queues', go too: the database is made anew.
    docker compose exec -T postgres psql --quiet --username tunesmith --dbname postgres \
        -c 'DROP DATABASE tunesmith WITH (FORCE)' -c 'CREATE DATABASE tunesmith'
    docker compose exec -T postgres pg_restore --username tunesmith --dbname tunesmith --exit-on-error \
        <"$folder/database.dump"
    docker compose up --detach --wait --no-build --no-recreate >/dev/null 2>&1 ||
        die "The backup is in place, and the stack did not become healthy: docker compose ps"
else
    embedded_is_stopped
    if [ -z "$yes" ]; then
        say "Would replace everything in $data. Nothing was changed: add --yes."
        exit 0
    fi
    draft=$data/.restore # what is there goes only when the backup is unpacked beside it
    rm -rf "$draft"
    mkdir -p "$draft"
    tar -C "$draft" -xf "$folder/data.tar" || { rm -rf "$draft"; die "Nothing was changed."; }
    find "$data" -mindepth 1 -maxdepth 1 ! -name .restore ! -name base-models -exec rm -rf {} +
    find "$draft" -mindepth 1 -maxdepth 1 -exec mv {} "$data" \;
    rmdir "$draft"
fi
echo "The backup $folder is restored."
