#!/bin/sh
# Deletes the models that the administrator made: fine-tuned ones and those with a system template.
#   scripts/clean_ollama_cache.sh            shows what would be deleted
#   scripts/clean_ollama_cache.sh --yes      deletes it
#   --all                                    those that were pulled or came with the engine, too
# Works on a running platform, embedded or in Compose, through its own routes, so that a model in use is let go properly
# and blobs that other models share stay. TUNESMITH_URL and TUNESMITH_API_KEY name another platform.
set -eu
. "$(dirname "$0")/platform.sh"

all= yes=
for argument; do
    case $argument in
        --all) all=1 ;;
        --yes) yes=1 ;;
        -h | --help) usage; exit 0 ;;
        *) die "unknown option $argument; --help lists them" ;;
    esac
done

# One line a model: its name, and "made" or "pulled".
answer=$(ask GET /list_Models)
models=$(printf '%s' "$answer" | tr '{' '\n' | awk -F'"' '
    /"name":/ { for (i = 2; i < NF; i += 2) if ($i == "name") print $(i + 2), (/"owner":null/ ? "pulled" : "made") }')

count=0
while read -r name kind; do
    [ -n "$name" ] || continue
    [ "$kind" = made ] || [ -n "$all" ] || continue
    count=$((count + 1))
    if [ -z "$yes" ]; then echo "would delete $name ($kind)"; continue; fi
    if [ "$kind" = made ]; then
        ask DELETE "/deleteModel?modelName=$(encoded "$name")" >/dev/null
    else
        ask DELETE "/v1/models/$(encoded "$name")" >/dev/null
    fi
    echo "deleted $name"
done <<MODELS
$models
MODELS

if [ $count = 0 ]; then say "There is nothing to delete."; elif [ -z "$yes" ]; then say "Nothing was deleted: add --yes."; fi
