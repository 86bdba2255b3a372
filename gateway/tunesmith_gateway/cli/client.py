"""The gateway over HTTP: JSON calls, streams of events and lists, every failure as a sentence."""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tunesmith_gateway.cli.errors import CommandError

Json = dict[str, Any]

_TIMEOUT = httpx.Timeout(10, read=900, write=900)


@contextmanager
def connected(url: str, key: str) -> Iterator["Api"]:
    """Give a connection to the gateway at `url`, closed at the end."""
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=_TIMEOUT) as http:
        yield Api(url, http)


class Api:
    """One gateway, as its routes answer."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self._url = url
        self._http = http

    def call(self, method: str, path: str, **request: Any) -> Any:
        """Return the JSON of an answer; `request` is httpx's (`json`, `params`, `files`, `data`)."""
        with self._told():
            response = self._http.request(method, path, **request)
        _raise_for(response)
        return response.json() if response.content else None

    def download(self, path: str) -> Iterator[bytes]:
        """Yield the bytes of an answer."""
        with self._told(), self._http.stream("GET", path) as response:
            if response.is_error:
                response.read()
            _raise_for(response)
            yield from response.iter_bytes()

    def events(self, method: str, path: str, **request: Any) -> Generator[Json]:
        """Yield the events of a stream until its end mark."""
        with self._told(), self._http.stream(method, path, **request) as response:
            if response.is_error:
                response.read()
            _raise_for(response)
            for line in response.iter_lines():
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                if data and line.startswith("data:"):
                    event: Json = json.loads(data)
                    if isinstance(failure := event.get("error"), dict):
                        raise CommandError(failure["message"])
                    yield event
        raise CommandError("The gateway's stream broke off before its end. Try again.")

    def pages(self, path: str, **params: str) -> list[Json]:
        """Return all entries of a list, however many pages it has."""
        entries: list[Json] = []
        while True:
            page = self.call("GET", path, params=params)
            entries += page["data"]
            if not page["has_more"]:
                return entries
            params["after"] = page["last_id"]

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise CommandError(
                f"There is no gateway at {self._url}: start the platform (make run), or name another one with --host "
                "and --port or TUNESMITH_URL."
            ) from None
        except httpx.TimeoutException:
            raise CommandError(f"The gateway at {self._url} did not answer in time.") from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise CommandError(f"The connection to {self._url} failed: {error}.") from None


def _raise_for(response: httpx.Response) -> None:
    if not response.is_error:
        return
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = f"{response.url} answered with status {response.status_code}; is a Tunesmith gateway there?"
    if response.status_code == 401:
        message += " The key comes from TUNESMITH_API_KEY, or from <TUNESMITH_DATA_DIR>/secrets/api_key."
    raise CommandError(message)
