"""What the library takes and gives."""

from pydantic import BaseModel, Field


class NewBook(BaseModel):
    title: str = Field(min_length=1, max_length=200)
    author: str = Field(min_length=1, max_length=100)
    copies: int = Field(default=1, ge=1, le=100)


class Book(NewBook):
    id: int
    copies: int = Field(ge=0)  # those that are not lent


class NewLoan(BaseModel):
    reader: str = Field(min_length=1, max_length=100)
