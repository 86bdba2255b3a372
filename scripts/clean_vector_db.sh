#!/bin/sh
# Deletes documents from the vector database: those of one model, or all of the administrator's.
#   scripts/clean_vector_db.sh --model NAME        shows what would be deleted for that model
#   scripts/clean_vector_db.sh --all               shows what would be deleted for all
#   --yes                                          deletes it
# Works on a running platform, embedded or in Compose, through its own routes; uploaded files stay.
# TUNESMITH_URL and TUNESMITH_API_KEY name another platform.
set -eu
. "$(dirname "$0")/platform.sh"

model= all= yes=
while [ $# -gt 0 ]; do
    case $1 in
        --model) [ $# -gt 1 ] || die "--model needs a name"; model=$2; shift ;;
        --all) all=1 ;;
        --yes) yes=1 ;;
        -h | --help) usage; exit 0 ;;
        *) die "unknown option $1; --help lists them" ;;
    esac
    shift
done
[ -n "$model$all" ] || die "Say --model NAME or --all; --help says more."

documents() { tr '{' '\n' | awk -F'"' '{ for (i = 2; i < NF; i += 2) if ($i == "documentName") print $(i + 2) }'; }
stores() { tr '{' '\n' | awk -F'"' '/"object":"vector_store"/ { for (i = 2; i < NF; i += 2) if ($i == "id") print $(i + 2) }'; }

if [ -n "$model" ]; then
    answer=$(ask GET "/listDocuments?modelName=$(encoded "$model")")
    found=$(printf '%s' "$answer" | documents)
    what="document" noun="of $model"
else
    answer=$(ask GET "/v1/vector_stores?limit=100")
    found=$(printf '%s' "$answer" | stores)
    what="vector store" noun="with all its documents"
fi
[ -n "$found" ] || { say "There is nothing to delete."; exit 0; }
if [ -z "$yes" ]; then
    printf '%s\n' "$found" | sed "s/.*/would delete the $what & $noun/"
    say "Nothing was deleted: add --yes."
    exit 0
fi

if [ -n "$model" ]; then
    ask DELETE "/deleteAll_Documents?modelName=$(encoded "$model")" >/dev/null
    count=$(printf '%s\n' "$found" | wc -l)
else
    count=0
    while [ -n "$found" ]; do # a page at a time
        for store in $found; do
            ask DELETE "/v1/vector_stores/$store" >/dev/null
            count=$((count + 1))
        done
        answer=$(ask GET "/v1/vector_stores?limit=100")
        found=$(printf '%s' "$answer" | stores)
    done
fi
echo "deleted $((count)) ${what}s"
