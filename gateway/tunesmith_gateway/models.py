"""Models as people see them: which there are, whose they are, and making and removing them over Ollama's API."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, select

from tunesmith_gateway.backends.table import BackendTable, Offered
from tunesmith_gateway.model_names import canonical, identity
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.errors import Conflict, NotFound, Unsupported
from tunesmith_shared.names import CANDIDATES
from tunesmith_shared.tables import Model

Json = dict[str, Any]

_OF_ANOTHER = select(Model.name).where(Model.name == bindparam("name"), Model.owner != bindparam("owner"))


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
    backend: str


class ModelService:
    """The backends know which models there are; the `models` table knows whose they are.

    Others' models do not exist. A model without a row belongs to everyone.
    """

    def __init__(self, database: Database, backends: BackendTable) -> None:
        self._database = database
        self._backends = backends

    async def offered(self, owner: str) -> dict[str, Offered]:
        """Return the models that `owner` may use, with their backends, by identity."""
        return {key: offered for key, (offered, _) in (await self._visible(owner)).items()}

    async def available(self, owner: str) -> list[ListedModel]:
        """Return the models that `owner` may use, as people see them."""
        return [_listed(offered, row) for offered, row in (await self._visible(owner)).values()]

    async def _visible(self, owner: str) -> dict[str, tuple[Offered, Model | None]]:
        there = await self._backends.models()
        async with self._database.session() as session:
            rows = {row.name: row for row in await session.scalars(select(Model))}
        visible = {}
        for key, offered in there.items():
            row = rows.get(key)
            if (row is None or row.owner == owner) and not key.startswith(f"{CANDIDATES}/"):
                visible[key] = (offered, row)
        return visible

    async def allow(self, owner: str, name: str) -> str:
        """Return the name's identity when `owner` may use it. Raises `NotFound` for a model of somebody else.

        Whether the model exists is for its backend to say.
        """
        key = self._backends.identity(name)
        if await self._database.glance(_OF_ANOTHER, {"name": key, "owner": owner}) is not None:
            raise await self.unknown(owner, name)
        return key

    async def require(self, owner: str, name: str, param: str = "model") -> str:
        """Return the name in full. Raises `NotFound`, naming the models there are, when `owner` has none of it."""
        offered = (await self.offered(owner)).get(self._backends.identity(name))
        if offered is None:
            raise await self.unknown(owner, name, param)
        return offered.offer.name

    async def require_stored(self, owner: str, name: str, param: str) -> str:
        """Return the name in full of a model that others can be made from.

        Raises as `require` does, and `Unsupported` for a model of a backend where none are made.
        """
        offered = (await self.offered(owner)).get(self._backends.identity(name))
        if offered is None:
            raise await self.unknown(owner, name, param)
        if not self._backends.in_store(offered):
            raise Unsupported(
                f"The model '{name}' is on the {offered.backend.row.title}, where no models are made. Name one of the "
                "Ollama backend that keeps the models.",
                param=param,
            )
        return offered.offer.name

    async def unknown(self, owner: str, name: str, param: str = "model") -> NotFound:
        """Return the error for a model that `owner` has not."""
        there = ", ".join(model.name for model in await self.available(owner)) or "none yet"
        return NotFound(
            f"There is no model '{name}'. The models there are: {there}.", param=param, code="model_not_found"
        )

    async def reserve(self, owner: str, name: str) -> str:
        """Return the name in full when `owner` may make or replace a model of it. Raises `Conflict` when not."""
        self._backends.store()
        full = canonical(name)
        async with self._database.session() as session:
            row = await session.get(Model, full)
        taken = full in await self._backends.models()
        if (row is not None and row.owner != owner) or (row is None and taken):
            raise Conflict(f"The name '{full}' is taken. Choose another.", param="model", code="model_exists")
        return full

    async def check_unowned(self, name: str) -> None:
        """Raise `Conflict` when somebody made a model of this name: a pulled one would take its place."""
        async with self._database.session() as session:
            row = await session.get(Model, self._backends.identity(name))
        if row is not None:
            raise Conflict(
                f"The name '{row.name}' is that of a model that was made here. Delete that first.",
                param="model",
                code="model_exists",
            )

    async def record(self, owner: str, name: str, base_model: str) -> None:
        """Remember that `owner` made the model `name` from `base_model`."""
        async with self._database.session() as session:
            row = Model(name=canonical(name), owner=owner, base_model=identity(base_model), created_at=now())
            await session.merge(row)

    async def create(self, owner: str, name: str, base: str, system: str) -> ListedModel:
        """Make (or replace) a model: `base` with a system prompt. Raises `NotFound` for an unknown base."""
        base = await self.require_stored(owner, base, "baseModel")
        name = await self.reserve(owner, name)
        body = {"model": name, "from": base, "system": system, "stream": False}
        await self._backends.store().call("POST", "/api/create", owner=owner, body=body)
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
        await self._backends.store().call("DELETE", "/api/delete", owner=owner, body={"model": full})
        await self.forget(owner, full)
        return full

    async def forget(self, owner: str, name: str) -> None:
        """Forget whose the model `name` was, once it is gone."""
        async with self._database.session() as session:
            await session.execute(delete(Model).where(Model.name == canonical(name), Model.owner == owner))


def _listed(offered: Offered, row: Model | None) -> ListedModel:
    tag = offered.offer.tag
    details = tag.get("details") or {}
    return ListedModel(
        name=offered.offer.name,
        size=tag["size"],
        family=details.get("family", ""),
        parameters=details.get("parameter_size", ""),
        quantization=details.get("quantization_level", ""),
        modified_at=tag["modified_at"],
        base=row.base_model if row else None,
        owner=row.owner if row else None,
        backend=offered.backend.row.name,
    )
