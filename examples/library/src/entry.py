"""A lending library: books, a search over them, and who has borrowed what."""

from datetime import date, timedelta

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import StreamingResponse
from models import Book, NewBook, NewLoan
from workers import asgi
from workers.asgi import env as Env

app = FastAPI(title="Library")


@app.post("/books", status_code=201)
async def add(book: NewBook, env=Env) -> Book:
    row = (
        await env.DB.prepare(
            "INSERT INTO books (title, author, copies) VALUES (?, ?, ?) RETURNING id"
        )
        .bind(book.title, book.author, book.copies)
        .first()
    )
    return Book(id=row.id, **book.model_dump())


@app.get("/books")
async def find(
    q: str = "", after: int = 0, limit: int = Query(default=20, ge=1, le=100), env=Env
) -> list[Book]:
    if q:
        statement = env.DB.prepare(
            "SELECT books.* FROM search JOIN books ON books.id = search.rowid "
            "WHERE search MATCH ? AND books.id > ? ORDER BY books.id LIMIT ?"
        ).bind('"' + q.replace('"', '""') + '"', after, limit)
    else:
        statement = env.DB.prepare("SELECT * FROM books WHERE id > ? ORDER BY id LIMIT ?").bind(
            after, limit
        )
    return [Book(**row) for row in (await statement.all()).results]


@app.post("/books/{id}/loans", status_code=201)
async def borrow(id: int, loan: NewLoan, env=Env):
    due = date.today() + timedelta(days=env.LOAN_DAYS)
    try:
        # One transaction: without a copy left, the check of `copies` undoes both.
        taken, _ = await env.DB.batch(
            [
                env.DB.prepare("UPDATE books SET copies = copies - 1 WHERE id = ?").bind(id),
                env.DB.prepare("INSERT INTO loans (book, reader, due) VALUES (?, ?, ?)").bind(
                    id, loan.reader, due.isoformat()
                ),
            ]
        )
    except Exception as error:
        if "CHECK constraint failed" in str(error):
            raise HTTPException(409, "no copy is left") from error
        if "UNIQUE constraint failed" in str(error):
            raise HTTPException(409, f"{loan.reader} has it already") from error
        if "FOREIGN KEY constraint failed" in str(error):
            raise HTTPException(404, "there is no such book") from error
        raise
    assert taken.meta.changes == 1
    return {"due": due}


@app.delete("/books/{id}/loans/{reader}", status_code=204)
async def give_back(id: int, reader: str, env=Env) -> None:
    returned = (
        await env.DB.prepare(
            "UPDATE loans SET returned = 1 WHERE book = ? AND reader = ? AND NOT returned"
        )
        .bind(id, reader)
        .run()
    )
    if returned.meta.changes == 0:
        raise HTTPException(404, "there is no such loan")
    await env.DB.prepare("UPDATE books SET copies = copies + 1 WHERE id = ?").bind(id).run()


@app.get("/books.csv")
async def export(env=Env) -> StreamingResponse:
    async def lines():
        yield "id,title,author,copies\n"
        after = 0
        while page := (
            await env.DB.prepare("SELECT * FROM books WHERE id > ? ORDER BY id LIMIT 500")
            .bind(after)
            .all()
        ).results:
            for row in page:
                title, author = (str(row[name]).replace('"', '""') for name in ("title", "author"))
                yield f'{row.id},"{title}","{author}",{row.copies}\n'
            after = page[-1].id

    return StreamingResponse(lines(), media_type="text/csv")


Default = asgi.entrypoint(app)
