"""The names under which a job's models are measured; a quantised file's is its type."""

BASE, ADAPTER, MERGED = "base", "adapter", "merged"
