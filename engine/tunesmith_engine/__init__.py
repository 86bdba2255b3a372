"""Ollama's REST API over llama.cpp, on Ollama's own on-disk model store."""
