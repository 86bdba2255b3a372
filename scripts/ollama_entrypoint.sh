#!/bin/sh
# Runs Ollama in a container, and pulls the models that TUNESMITH_PULL_MODELS names (separated by spaces) beside it.
# A pull that fails is tried again now and then: without the internet Ollama serves what it has, and the stack is well.
set -u

case ${1:-} in -h | --help) sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
pause=${TUNESMITH_PULL_PAUSE:-300}

say() { printf '[models] %s\n' "$*" >&2; }

# Prints a line a step of the pull, not the progress bar's every frame.
pull() {
    ollama pull "$1" 2>&1 | tr '\r' '\n' | sed -u 's/\x1b\[[0-9;?]*[a-zA-Z]//g' |
        awk -v model="$1" '{ sub(/ +[0-9.]+ [KMG]?B\/.*/, "") } NF && $0 != last { print "[models] " model ": " $0; fflush(); last = $0 }' >&2
    ollama show "$1" >/dev/null 2>&1
}

pull_all() {
    until ollama list >/dev/null 2>&1; do sleep 1; done
    while :; do
        missing=
        for model in ${TUNESMITH_PULL_MODELS:-}; do
            ollama show "$model" >/dev/null 2>&1 || pull "$model" || missing="$missing $model"
        done
        [ -n "$missing" ] || return 0
        say "not pulled:$missing; trying again in $pause s. What is there serves meanwhile."
        sleep "$pause"
    done
}

pull_all &
exec ollama serve
