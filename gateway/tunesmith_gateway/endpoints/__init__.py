"""The three dialects. Handlers translate; the services in the parent package decide."""
