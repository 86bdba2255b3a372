"""The HTTP routes: Ollama's own and OpenAI's. They translate; the modules above decide."""
