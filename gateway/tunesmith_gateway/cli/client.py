"""The gateway over HTTP: JSON calls, streams of events and lists, every failure as a sentence.

Over the standard library's client: a command uses one or two connections, and any other client takes longer to import
than the gateway takes to answer. Redirects are not followed, so the key goes to the configured gateway alone.
"""

import http.client
import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

from tunesmith_gateway.cli.errors import CommandError
from tunesmith_gateway.cli.upload import Upload

Json = dict[str, Any]

_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 900
_CHUNK = 1 << 16
_CONNECTIONS: dict[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}


class Api:
    """One gateway at `url`, as its routes answer. Raises `CommandError` for a URL that is none."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        parts = urlsplit(url)
        self._base = parts.path.rstrip("/")
        try:
            self._place = (parts.hostname or "", parts.port)
            self._connection = _CONNECTIONS[parts.scheme]
        except (ValueError, KeyError):
            raise CommandError(f"'{url}' is no address of a gateway: it looks like http://127.0.0.1:8000.") from None

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: Mapping[str, str] | None = None,
        upload: tuple[str, BinaryIO, Mapping[str, str], str] | None = None,
    ) -> Any:
        """Return the JSON of an answer to `body` as JSON, or to `upload`, what an `Upload` takes."""
        with self._answer(method, path, Upload(*upload) if upload else body, params) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def download(self, path: str, **params: str) -> Iterator[bytes]:
        """Yield the bytes of an answer."""
        with self._answer("GET", path, params=params) as answer:
            while chunk := answer.read(_CHUNK):
                yield chunk

    def events(
        self, method: str, path: str, *, body: Json | None = None, params: Mapping[str, str] | None = None
    ) -> Generator[Json]:
        """Yield the events of a stream until its end mark."""
        with self._answer(method, path, body, params) as answer:
            for line in answer:
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                if data and line.startswith(b"data:"):
                    event: Json = json.loads(data)
                    if isinstance(failure := event.get("error"), dict):
                        raise CommandError(failure["message"])
                    yield event
        raise CommandError("The gateway's stream broke off before its end. Try again.")

    def lines(self, method: str, path: str, *, body: Json | None = None) -> Generator[Json]:
        """Yield the JSON lines of an answer in Ollama's dialect, the last of which may be an error."""
        with self._answer(method, path, body) as answer:
            for text in answer:
                line: Json = json.loads(text)
                if failure := line.get("error"):
                    raise CommandError(_message(failure))
                yield line

    def pages(self, path: str, entries: str = "data", **params: str) -> list[Json]:
        """Return all entries of a list, however many pages it has; a page has them under the name `entries`."""
        found: list[Json] = []
        while True:
            page = self.call("GET", path, params=params)
            found += page[entries]
            if not page["has_more"]:
                return found
            params["after"] = page["last_id"]

    @contextmanager
    def _answer(
        self, method: str, path: str, content: Json | Upload | None = None, params: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Give a successful answer, whose connection ends with the block. Raises `CommandError` for every other."""
        connection = self._connection(*self._place, timeout=_CONNECT_SECONDS)
        headers = {"authorization": f"Bearer {self._key}"}
        body: Any = None
        if isinstance(content, Upload):
            body, headers = content.parts(), {**headers, **content.headers}
        elif content is not None:
            body, headers = json.dumps(content).encode(), {**headers, "content-type": "application/json"}
        target = self._base + quote(path) + (f"?{urlencode(params)}" if params else "")
        try:
            with self._told():
                self._open(connection)
                # A gateway that refuses an upload hangs up before it has read it; its answer says why.
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, target, body=body, headers=headers)
                answer = connection.getresponse()
                if answer.status >= 300:
                    raise _refusal(self._url + path, answer)
                yield answer
        finally:
            connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise CommandError(f"The gateway at {self._url} did not answer in time.") from None
        except (http.client.HTTPException, ConnectionError) as error:
            raise CommandError(f"The connection to {self._url} broke off: {error or type(error).__name__}.") from None

    def _open(self, connection: http.client.HTTPConnection) -> None:
        try:
            connection.connect()
        except OSError:
            raise CommandError(
                f"There is no gateway at {self._url}: start the platform (make run), or name another one with --host "
                "and --port or TUNESMITH_URL."
            ) from None
        connection.sock.settimeout(_ANSWER_SECONDS)


def _message(error: Any) -> str:
    """The sentence of an error: Ollama's is one, OpenAI's has one."""
    return error if isinstance(error, str) else str(error["message"])


def _refusal(url: str, answer: http.client.HTTPResponse) -> CommandError:
    try:
        message = _message(json.loads(answer.read())["error"])
    except (ValueError, KeyError, TypeError):
        message = f"{url} answered with status {answer.status}; is a Tunesmith gateway there?"
    if answer.status == 401:
        message += " The key comes from TUNESMITH_API_KEY, or from <TUNESMITH_DATA_DIR>/secrets/api_key."
    return CommandError(message)
