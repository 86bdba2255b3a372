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
        self.chroma = open_vectors(chroma_url, data_dir, os.getpid(), anew=False)
        self._vectors = Vectors(self.chroma)

    async def call(self, name: str, *arguments: Any) -> Any:
        """Call it in a thread."""
        return await asyncio.to_thread(self._vectors.call, name, *arguments)

    async def start_anew(self) -> None:
        """No test needs it."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go of Chroma."""
        self._vectors.close()
