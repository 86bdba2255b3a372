"""Ollama's REST API over llama.cpp, on Ollama's own on-disk model store."""

OLLAMA_VERSION = "0.33.0"
"""The Ollama whose answers this engine gives; clients compare it."""
