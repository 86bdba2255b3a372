"""Models as people see them: which there are, whose they are, and making and removing them over Ollama's API."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, select

from tunesmith_gateway.upstream import Upstream
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.errors import Conflict, NotFound
from tunesmith_shared.names import CANDIDATES, ModelName
from tunesmith_shared.tables import Model

Json = dict[str, Any]

_OF_ANOTHER = select(Model.name).where(Model.name == bindparam("name"), Model.owner != bindparam("owner"))
_SAMPLING = ("temperature", "top_p")
_KEPT_SECONDS = 5.0
_MOST_KEPT = 1000


@dataclass(frozen=True)
class ListedModel:
    """A model with what Ollama's `tags` say of it. `size` is in bytes; `owner` is None when it belongs to everyone."""

    name: str
    size: int
    family: str
    parameters: str
    quantization: str
    modified_at: str
    base: str | None
    owner: str | None


class ModelService:
    """Ollama knows which models there are; the `models` table knows whose they are. Others' models do not exist."""

    def __init__(self, database: Database, ollama: Upstream) -> None:
        self._database = database
        self._ollama = ollama
        self._sampling: dict[str, tuple[float, Json]] = {}

    async def available(self, owner: str) -> list[ListedModel]:
        """Return the models that `owner` may use, newest first."""
        tags = (await self._ollama.call("GET", "/api/tags", owner=owner))["models"]
        async with self._database.session() as session:
            rows = {row.name: row for row in await session.scalars(select(Model))}
        listed = [_listed(tag, rows.get(canonical(tag["name"]))) for tag in tags]
        hidden = f"{CANDIDATES}/"
        return [model for model in listed if model.owner in (None, owner) and not model.name.startswith(hidden)]

    async def allow(self, owner: str, name: str) -> str:
        """Return the name in full when `owner` may use it. Raises `NotFound` for a model of somebody else.

        Whether the model exists is for Ollama to say.
        """
        full = canonical(name)
        if await self._database.glance(_OF_ANOTHER, {"name": full, "owner": owner}) is not None:
            raise await self.unknown(owner, name)
        return full

    async def sampling(self, name: str) -> Json:
        """Return the model's own temperature and top_p, where it has them; none for a model that is not there.

        Kept for a few seconds, since every request that leaves them out needs them.
        """
        kept = self._sampling.get(name)
        if kept is None or kept[0] < time.monotonic():
            if len(self._sampling) >= _MOST_KEPT:
                self._sampling.clear()
            kept = (time.monotonic() + _KEPT_SECONDS, await self._read_sampling(name))
            self._sampling[name] = kept
        return kept[1]

    async def _read_sampling(self, name: str) -> Json:
        try:
            shown = await self._ollama.call("POST", "/api/show", owner="", body={"model": name})
        except NotFound:
            return {}
        lines = (line.split(maxsplit=1) for line in (shown.get("parameters") or "").splitlines())
        return {words[0]: float(words[1]) for words in lines if words and words[0] in _SAMPLING}

    async def require(self, owner: str, name: str, param: str = "model") -> str:
        """Return the name in full. Raises `NotFound`, naming the models there are, when `owner` has none of it."""
        full = canonical(name)
        if all(model.name != full for model in await self.available(owner)):
            raise await self.unknown(owner, name, param)
        return full

    async def unknown(self, owner: str, name: str, param: str = "model") -> NotFound:
        """Return the error for a model that `owner` has not."""
        there = ", ".join(model.name for model in await self.available(owner)) or "none yet"
        return NotFound(
            f"There is no model '{name}'. The models there are: {there}.", param=param, code="model_not_found"
        )

    async def reserve(self, owner: str, name: str) -> str:
        """Return the name in full when `owner` may make or replace a model of it. Raises `Conflict` when not."""
        full = canonical(name)
        async with self._database.session() as session:
            row = await session.get(Model, full)
        tags = (await self._ollama.call("GET", "/api/tags", owner=owner))["models"]
        taken = any(canonical(tag["name"]) == full for tag in tags)
        if (row is not None and row.owner != owner) or (row is None and taken):
            raise Conflict(f"The name '{full}' is taken. Choose another.", param="model", code="model_exists")
        return full

    async def record(self, owner: str, name: str, base_model: str) -> None:
        """Remember that `owner` made the model `name` from `base_model`."""
        async with self._database.session() as session:
            row = Model(name=canonical(name), owner=owner, base_model=canonical(base_model), created_at=now())
            await session.merge(row)

    async def create(self, owner: str, name: str, base: str, system: str) -> ListedModel:
        """Make (or replace) a model: `base` with a system prompt. Raises `NotFound` for an unknown base."""
        base = await self.require(owner, base, "baseModel")
        name = await self.reserve(owner, name)
        body = {"model": name, "from": base, "system": system, "stream": False}
        await self._ollama.call("POST", "/api/create", owner=owner, body=body)
        await self.record(owner, name, base)
        return next(model for model in await self.available(owner) if model.name == name)

    async def delete(self, owner: str, name: str) -> str:
        """Remove a model that `owner` made. Raises `NotFound`, naming those that can be deleted."""
        full = canonical(name)
        mine = [model.name for model in await self.available(owner) if model.owner == owner]
        if full not in mine:
            there = ", ".join(mine) or "none"
            raise NotFound(
                f"There is no model '{name}' that you can delete. Those that you can: {there}.",
                param="model",
                code="model_not_found",
            )
        await self._ollama.call("DELETE", "/api/delete", owner=owner, body={"model": full})
        await self.forget(owner, full)
        return full

    async def forget(self, owner: str, name: str) -> None:
        """Forget whose the model `name` was, once it is gone."""
        async with self._database.session() as session:
            await session.execute(delete(Model).where(Model.name == canonical(name), Model.owner == owner))


def canonical(name: str) -> str:
    """Return the one spelling of a model's name: with its tag, and in lower case as Ollama compares them."""
    return ModelName.parse(name).display.lower()


def _listed(tag: dict[str, Any], row: Model | None) -> ListedModel:
    details = tag.get("details") or {}
    return ListedModel(
        name=canonical(tag["name"]),
        size=tag["size"],
        family=details.get("family", ""),
        parameters=details.get("parameter_size", ""),
        quantization=details.get("quantization_level", ""),
        modified_at=tag["modified_at"],
        base=row.base_model if row else None,
        owner=row.owner if row else None,
    )
