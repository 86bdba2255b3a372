"""What the gateway asks of a backend, whatever kind it is."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from tunesmith_gateway.answers import Answer
from tunesmith_gateway.settings import BackendRow
from tunesmith_gateway.upstream import Outgoing

Json = dict[str, Any]

LARGE = 3_000_000_000
"""Parameters from which on a model is asked to say itself when excerpts do not answer. Where that begins depends on the
model; the smallest of the usual families that is made for it (Llama 3.2, Qwen 2.5, Phi 3) has about so many.
"""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model of a backend: the name that clients use, and the entry that Ollama's `tags` or `ps` has for it."""

    name: str
    tag: Json


@dataclass(slots=True)
class Condition:
    """How a backend is doing: whether its last check succeeded, its open requests, and its models by identity.

    `models` is None until the backend has told them. A backend counts as healthy until something says otherwise, and
    as one that knows `n` until an answer had fewer choices than were asked for. `answered`: once since the start.
    """

    healthy: bool = True
    running: int = 0
    models: frozenset[str] | None = field(default=None)
    ignores_n: bool = False
    answered: bool = False


class Backend(Protocol):
    """One row of the table, ready to be asked."""

    @property
    def row(self) -> BackendRow:
        """What the configuration says of it."""

    @property
    def condition(self) -> Condition:
        """How it is doing; the table, its routes and the health checks keep it."""

    @property
    def keeps_models(self) -> bool:
        """Whether models can be made and deleted there, and new ones appear without being asked for."""

    @property
    def several_choices(self) -> bool:
        """Whether one request can ask for several choices (`n`), also as a stream."""

    @property
    def tries_choices(self) -> bool:
        """Whether a request that does not stream asks for several choices, to see how many come."""

    async def send(self, request: Outgoing) -> Answer:
        """Return the answer to a request in OpenAI's or Ollama's dialect, in that dialect.

        Raises as `Target.send` does, `Unsupported` for a route that this kind does not have and `BadRequest` for an
        option of which it knows no equivalent.
        """

    async def choices_body(self, conversation: Json, count: int) -> Json | None:
        """Return the body with which `/v1/chat/completions` gives `count` answers to a body of `/api/chat` at once.

        None where the backend gives one answer a request, or none under these options. Raises as `send` does.
        """

    async def models(self) -> list[Offer]:
        """Return the models that can be asked for here."""

    async def loaded(self) -> list[Offer]:
        """Return the models that are in memory, where the backend tells it."""

    async def context(self, model: str) -> int | None:
        """Return the tokens of context with which `model` runs; None when the backend does not tell."""

    async def large(self, model: str) -> bool:
        """Return whether `model` has `LARGE` parameters, as one of a backend that does not tell is taken to have."""

    async def check(self) -> None:
        """Raise when the backend does not answer."""
