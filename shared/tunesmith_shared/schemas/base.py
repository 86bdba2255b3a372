"""What all schemas share: lists, and bodies that refuse fields which nobody reads."""

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

Item = TypeVar("Item")


class Body(BaseModel):
    """A request body; an unknown field is refused, so that a typing error never passes as a default."""

    model_config = ConfigDict(extra="forbid")


class Page(BaseModel, Generic[Item]):
    """One page of a list. `after=<last_id>` asks for the next one."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


class Deleted(BaseModel):
    """What a DELETE answers."""

    id: str
    object: str
    deleted: bool = True
