"""One turn of a chat: history and document excerpts around a question, the model's answer, citations, and the record.

The plain routes generate over Ollama's native API, which knows every option of llama.cpp; the OpenAI routes use
`prepare`, `cite` and `remember` around a relay to the backend's `/v1`.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from tunesmith_gateway.answers import Answer
from tunesmith_gateway.backends.table import BackendTable
from tunesmith_gateway.citations import Citation, cite
from tunesmith_gateway.closest import cited, unrefused
from tunesmith_gateway.context import ContextFitter, Prompt, shares
from tunesmith_gateway.documents import DocumentService, Retrieval
from tunesmith_gateway.follow_up import searched_for
from tunesmith_gateway.grounding import Grounder, Grounding, Wanted
from tunesmith_gateway.models import ModelService
from tunesmith_gateway.prompts import ANSWER, ANSWER_OR_SAY, grounded
from tunesmith_gateway.sessions import Said, SessionService
from tunesmith_gateway.upstream import Outgoing, answered_error
from tunesmith_gateway.usage import count
from tunesmith_shared.errors import BadRequest, TunesmithError, UpstreamFailed
from tunesmith_shared.tables import Message

Json = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What a turn starts from. `messages` are the client's own, the last one the user's; `session_id` is checked.

    `room` and `num_ctx` are the answer's most tokens and the context's, where the request names them.
    """

    owner: str
    model: str
    messages: list[Json]
    session_id: str | None = None
    documents: list[str] = field(default_factory=list)
    vector_store_ids: list[str] = field(default_factory=list)
    retrieval: Retrieval | None = None
    room: int | None = None
    num_ctx: int | None = None


@dataclass(frozen=True)
class Turn:
    """A question that is ready for the model: history, how many old messages did not fit, and what the answer is to
    stand on; None when no documents are named.
    """

    question: Question
    prompt: Prompt
    history: list[Message]
    omitted: int
    grounding: Grounding | None

    @property
    def messages(self) -> list[Json]:
        """What the model is asked."""
        return self.prompt.with_history(self.history)

    @property
    def model(self) -> str:
        """The model that answers."""
        return self.question.model

    @property
    def refusal(self) -> str:
        """The answer when documents are named and nothing in them answers: then the model is not asked; else empty."""
        return self.grounding.refusal if self.grounding is not None and self.grounding.refused else ""

    def cite(self, answer: str) -> list[Citation]:
        """Return the pages that `answer` rests on; of a refusal those that it names."""
        if self.grounding is None:
            return []
        if self.grounding.refused:
            return cited(self.grounding.closest)
        return cite(text_of(self.question.messages[-1]), answer, self.grounding.chunks)


@dataclass(frozen=True)
class Generated:
    """A whole answer with its token counts."""

    text: str
    prompt_tokens: int
    completion_tokens: int

    @property
    def usage(self) -> Json:
        """The counts in OpenAI's shape."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


class ChatService:
    """Turns: what goes before the model, and what follows."""

    def __init__(
        self, backends: BackendTable, models: ModelService, sessions: SessionService, documents: DocumentService
    ) -> None:
        self._backends = backends
        self._fitter = ContextFitter(backends)
        self._models = models
        self._sessions = sessions
        self._grounder = Grounder(documents, self._fitter)

    async def prepare(self, question: Question) -> Turn:
        """Load the session's history, as much as fits, and find excerpts.

        Excerpts come before history: the worst of them give way when they do not fit by themselves, then the oldest
        messages. Refusals and what they refused are searched for as what was asked before, but not sent. Raises
        `NotFound` for documents that are not there.
        """
        lead, rest = _split_system(question.messages)
        said, last = rest[:-1], rest[-1]
        sent = [said[place] for place in unrefused([(str(one.get("role")), "\n".join(_texts(one))) for one in said])]

        def prompt(content: str | None) -> Prompt:
            asked = [*sent, last if content is None else {**last, "content": content}]
            return Prompt(question.owner, question.model, lead, asked, question.room, question.num_ctx)

        stored = await self._history(question)
        history = [stored[place] for place in unrefused([(message.role, message.content) for message in stored])]
        if not (question.documents or question.vector_store_ids):
            return await self._with_history(question, prompt(None), history, None)
        text = text_of(last)
        large = await self._backends.route(question.model).large()
        task = ANSWER_OR_SAY if large else ANSWER
        grounding = await self._grounder.find(_wanted(question, large), searched_for(text, _before(stored, said)))
        if grounding.refused:
            return Turn(question, prompt(None), [], 0, grounding)
        grounding = await self._grounder.fit(grounding, lambda chunks: prompt(grounded(text, chunks, task)))
        asked = prompt(grounded(text, grounding.chunks, task))
        return await self._with_history(question, asked, history, grounding)

    async def _history(self, question: Question) -> list[Message]:
        if question.session_id is None:
            return []
        return await self._sessions.history(question.owner, question.session_id)

    async def _with_history(
        self, question: Question, prompt: Prompt, history: list[Message], grounding: Grounding | None
    ) -> Turn:
        if question.session_id is None:
            return Turn(question, prompt, [], 0, grounding)
        kept = await self._fitter.fit(prompt, history)
        return Turn(question, prompt, kept, len(history) - len(kept), grounding)

    async def remember(self, turn: Turn, answer: Generated) -> None:
        """Store the user's words and the answer in the turn's session, when it has one.

        Of a refusal its first sentence: words of documents get to the model as fenced excerpts only, never as history.
        """
        question = turn.question
        if question.session_id is None:
            return
        texts = [text_of(message) for message in question.messages if message["role"] == "user"]
        tokens = shares(answer.prompt_tokens, turn.prompt, turn.history, texts)
        text_said = turn.grounding.remembered if turn.grounding and turn.refusal else answer.text
        said = [Said("user", text, count) for text, count in zip(texts, tokens, strict=True)]
        said.append(Said("assistant", text_said, answer.completion_tokens or None))
        await self._sessions.append(question.owner, question.session_id, question.model, said)

    async def generate(self, turn: Turn, options: Json) -> AsyncGenerator[str | Generated]:
        """Yield the answer's pieces as the model makes them, and at the end the whole `Generated`.

        The request to the model ends when the iterator is closed. Nothing is cut: a prompt that does not fit the
        model's context raises `BadRequest`. A refused turn gives its fixed answer without the model.
        """
        if turn.refusal:
            yield turn.refusal
            yield Generated(turn.refusal, 0, 0)
            return
        body = {
            "model": turn.model,
            "messages": turn.messages,
            "options": options,
            "stream": True,
            "truncate": False,
        }
        pieces: list[str] = []
        route = self._backends.route(turn.model)
        with await route.send(Outgoing("POST", "/api/chat", turn.question.owner, body=body)) as answer:
            if answer.status >= 400:
                raise await self._refused(turn, route.name, answer)
            while line := await answer.line():
                part = _part(line)
                if piece := part["message"]["content"]:
                    pieces.append(piece)
                    yield piece
                if part["done"]:
                    count(part)
                    yield Generated("".join(pieces), part.get("prompt_eval_count", 0), part.get("eval_count", 0))
                    return
        raise UpstreamFailed("The model's process ended before the answer was whole. Send the request again.")

    async def choices(self, turn: Turn, options: Json, count: int) -> list[Generated]:
        """Return `count` answers of one request, which reads the prompt once; fewer, or none, where that cannot be.

        With a seed, answer i is that of the seed + i. The first one's tokens are those of all.
        """
        if turn.refusal:
            return []
        route = self._backends.route(turn.model)
        conversation = {"model": turn.model, "messages": turn.messages, "options": options, "truncate": False}
        body = await route.choices_body(conversation, count)
        if body is None:
            return []
        answer = await route.call("POST", "/v1/chat/completions", owner=turn.question.owner, body=body)
        texts = [choice["message"].get("content") or "" for choice in answer["choices"]]
        spent = answer.get("usage") or {}
        prompt, completion = spent.get("prompt_tokens", 0), spent.get("completion_tokens", 0)
        return [Generated(text, prompt, completion if index == 0 else 0) for index, text in enumerate(texts)]

    async def _refused(self, turn: Turn, name: str, answer: Answer) -> TunesmithError:
        if answer.status == 404:
            return await self._models.unknown(turn.question.owner, turn.model)
        return answered_error(name, answer.status, await answer.read(), answer.headers.get("retry-after"))


def text_of(message: Json) -> str:
    """Return a message's text, also of content in parts. Raises `BadRequest` when it has none."""
    texts = _texts(message)
    if not texts:
        raise BadRequest("The last message must have text.", param="messages")
    return "\n".join(texts)


def _texts(message: Json) -> list[str]:
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    return [part.get("text", "") for part in content or () if isinstance(part, dict) and part.get("type") == "text"]


def _before(history: list[Message], messages: list[Json]) -> str | None:
    """Return what the user said last in `messages`, or else in `history`."""
    said = [message.content for message in history if message.role == "user"]
    said += ["\n".join(_texts(message)) for message in messages if message["role"] == "user"]
    return said[-1] if said else None


def _wanted(question: Question, large: bool) -> Wanted:
    if question.retrieval is None:
        raise ValueError("a question about documents needs a retrieval")
    how = replace(question.retrieval, large_model=large)
    return Wanted(question.owner, question.model, question.documents, question.vector_store_ids, how)


def _split_system(messages: list[Json]) -> tuple[list[Json], list[Json]]:
    """Return the system messages that lead, and the rest; history belongs between them."""
    lead = 0
    while lead < len(messages) - 1 and messages[lead]["role"] in ("system", "developer"):
        lead += 1
    return messages[:lead], messages[lead:]


def _part(line: bytes) -> Json:
    part: Json = orjson.loads(line)
    if "error" in part:
        raise UpstreamFailed(str(part["error"]))
    return part
