"""The way of one request: the backends that can answer it, the next one when one fails before its first byte."""

from collections.abc import Sequence
from contextlib import suppress

from tunesmith_gateway.answers import Answer
from tunesmith_gateway.backends.health import failovers, mark
from tunesmith_gateway.backends.protocol import Backend, Json
from tunesmith_gateway.upstream import Outgoing, Target
from tunesmith_shared.errors import NotFound, TunesmithError, Unavailable, UpstreamFailed

# A backend that is in trouble, or has not got the model that another may have.
_ASK_ANOTHER = (404, 500, 502, 503, 504)


class Route(Target):
    """A target that is several backends, the best one first. Nothing is sent again once a byte of an answer is there.

    With no backend at all, what is sent is a `NotFound` for the model.
    """

    def __init__(self, model: str, backends: Sequence[Backend]) -> None:
        self._model = model
        self._backends = backends

    @property
    def name(self) -> str:
        """What people are told that it is."""
        return self._backends[0].row.title if self._backends else "model server"

    @property
    def several_choices(self) -> bool:
        """Whether each of these backends takes a request for several choices."""
        return all(backend.several_choices for backend in self._backends)

    @property
    def tries_choices(self) -> bool:
        """Whether each of these backends may give several choices for one request that does not stream."""
        return all(backend.tries_choices for backend in self._backends)

    def ignores_n(self) -> None:
        """Remember that an answer had fewer choices than were asked for."""
        for backend in self._backends:
            backend.condition.ignores_n = True

    async def choices_body(self, conversation: Json, count: int) -> Json | None:
        """Return the body that asks each of these backends for `count` answers at once; None when there is none."""
        bodies = [await backend.choices_body(conversation, count) for backend in self._backends]
        return bodies[0] if bodies and all(body == bodies[0] for body in bodies) else None

    async def context(self) -> int | None:
        """Return the tokens of context with which the model runs; None when no backend tells."""
        for backend in self._backends:
            context = await backend.context(self._model)
            if context is not None:
                return context
        return None

    async def large(self) -> bool:
        """Return whether the model is a large one, by the first backend that answers."""
        for backend in self._backends:
            with suppress(Unavailable, UpstreamFailed):
                return await backend.large(self._model)
        return False

    async def send(self, request: Outgoing) -> Answer:
        """Return the first answer that is none of a backend in trouble; the last backend's, whatever it is."""
        if not self._backends:
            raise NotFound(f"model '{self._model}' not found", param="model", code="model_not_found")
        for backend in self._backends[:-1]:
            answer = await _tried(backend, request)
            if answer is not None:
                return answer
            failovers.labels(backend.row.name).inc()
        return await _sent(self._backends[-1], request)


async def _tried(backend: Backend, request: Outgoing) -> Answer | None:
    """Return the answer, or None when another backend should be asked. Raises what another would not do better."""
    try:
        answer = await _sent(backend, request)
    except TunesmithError as error:
        if isinstance(error, (Unavailable, UpstreamFailed)) or error.code == "connect_timeout":
            return None
        raise
    if answer.status in _ASK_ANOTHER:
        answer.close()
        return None
    return answer


async def _sent(backend: Backend, request: Outgoing) -> Answer:
    """Return the answer once its first byte is there; until it is closed, it counts as the backend's load."""
    condition = backend.condition
    condition.running += 1
    try:
        answer = await backend.send(request)
        try:
            await answer.begin()
            _refuse_redirect(backend, answer)
        except BaseException:
            answer.close()
            raise
    except BaseException as error:
        condition.running -= 1
        if isinstance(error, Unavailable):
            mark(backend, healthy=False, why=error.message)
        raise

    def leave() -> None:
        condition.running -= 1

    answer.on_close = leave
    return answer


def _refuse_redirect(backend: Backend, answer: Answer) -> None:
    if 300 <= answer.status < 400:
        raise UpstreamFailed(
            f"The {backend.row.title} answered with a redirect, which is not followed. Correct the URL in its row."
        )
