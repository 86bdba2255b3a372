"""A file on its way to the gateway: multipart/form-data (RFC 7578), read while it is sent and never held whole."""

import os
import secrets
from collections.abc import Iterator, Mapping
from typing import BinaryIO

_CHUNK = 1 << 16


class Upload:
    """The form that holds `file` under the name `filename` as `content_type`, and `fields`."""

    def __init__(self, filename: str, file: BinaryIO, fields: Mapping[str, str], content_type: str) -> None:
        boundary = secrets.token_hex(16)
        before = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        before.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{_quoted(filename)}"\r\n'
            f"Content-Type: {content_type}\r\n\r\n"
        )
        self._before = "".join(before).encode()
        self._after = f"\r\n--{boundary}--\r\n".encode()
        self._file = file
        length = len(self._before) + os.fstat(file.fileno()).st_size + len(self._after)
        self.headers = {
            "content-type": f"multipart/form-data; boundary={boundary}",
            "content-length": str(length),
        }

    def parts(self) -> Iterator[bytes]:
        """Yield the form, piece by piece."""
        yield self._before
        while chunk := self._file.read(_CHUNK):
            yield chunk
        yield self._after


def _quoted(text: str) -> str:
    """Return a name as browsers write it into a header."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
