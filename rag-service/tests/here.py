"""Chroma in the test's own process, where a test can change what it does."""

import asyncio
import os
from pathlib import Path
from typing import Any

from tunesmith_rag.chroma import open_vectors
from tunesmith_rag.vectors import Vectors


class Here:
    """What `IndexProcess` does, without a process."""

    def __init__(self, chroma_url: str, data_dir: Path) -> None:
        self._place = chroma_url, data_dir, os.getpid()
        self._open(anew=False)

    async def call(self, name: str, *arguments: Any) -> Any:
        """Call it in a thread."""
        return await asyncio.to_thread(self._vectors.call, name, *arguments)

    async def start_anew(self) -> None:
        """Begin with an empty Chroma."""
        self._vectors.close()
        self._open(anew=True)

    async def close(self) -> None:
        """Let go of Chroma."""
        self._vectors.close()

    def _open(self, *, anew: bool) -> None:
        self.chroma = open_vectors(*self._place, anew=anew)
        self._vectors = Vectors(self.chroma)
