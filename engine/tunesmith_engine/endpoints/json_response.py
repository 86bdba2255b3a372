"""JSON responses by orjson, which also writes numpy's vectors."""

import orjson
from fastapi.responses import Response


class FastJson(Response):
    """A JSON response; ``content`` may hold contiguous numpy arrays."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """The body's bytes."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
