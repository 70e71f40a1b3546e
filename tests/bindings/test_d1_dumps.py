"""Databases that unmodified programs have made survive import and export, to the byte.

A Django project with its own migrations, and a SQLAlchemy one, are run as they are anywhere; the
dump is that of SQLite's shell, or of Python's own module where there is no shell.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

import bunflare

DJANGO = '''
import os, sys, datetime, decimal, uuid
import django
from django.conf import settings
os.makedirs("library/migrations")
open("library/__init__.py", "w").close()
open("library/migrations/__init__.py", "w").close()
open("library/models.py", "w").write("""
from django.db import models

class Author(models.Model):
    name = models.CharField(max_length=80, unique=True)
    born = models.DateField(null=True)

class Book(models.Model):
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    title = models.TextField()
    price = models.DecimalField(max_digits=8, decimal_places=2, default=1)
    key = models.UUIDField()
    cover = models.BinaryField()
    extra = models.JSONField(default=dict)
    weight = models.FloatField()
    stored = models.DateTimeField(auto_now_add=True)
    shelf = models.GeneratedField(
        expression=models.functions.Upper("title"), output_field=models.TextField(), db_persist=True
    )

    class Meta:
        indexes = [models.Index(fields=["author", "title"])]
        constraints = [models.CheckConstraint(condition=models.Q(price__gte=0), name="paid")]
""")
settings.configure(
    SECRET_KEY="x",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes",
        "django.contrib.messages", "django.contrib.sessions", "library",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
)
sys.path.insert(0, os.getcwd())
django.setup()
from django.core.management import call_command
call_command("makemigrations", "library", verbosity=0)
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
from library.models import Author, Book
user = User.objects.create_superuser("ada", "ada@example.com", "secret")
for number in range(20):
    author = Author.objects.create(name=f"Ünïcode '{number}'; --", born=datetime.date(1900, 1, 2))
    for other in range(5):
        Book.objects.create(
            author=author, title=f"Line\\r\\nand {other}\\ttab", price=decimal.Decimal("12.30"),
            key=uuid.uuid4(), cover=os.urandom(300) + b"\\0", extra={"a": [1, None, "ö;"]},
            weight=0.1 * other + 1e300,
        )
Author.objects.filter(name__contains="7").delete()
'''

ALCHEMY = """
import datetime, decimal, enum, sys
from sqlalchemy import *
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

class Base(DeclarativeBase):
    pass

class Kind(enum.Enum):
    one = 1
    two = 2

tags = Table(
    "tags", Base.metadata,
    Column("left", ForeignKey("node.id"), primary_key=True),
    Column("right", ForeignKey("node.id"), primary_key=True),
    sqlite_with_rowid=False,
)

class Node(Base):
    __tablename__ = "node"
    __table_args__ = (Index("by kind", "kind", "price"), CheckConstraint("price > 0"))
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    kind: Mapped[Kind]
    text: Mapped[str] = mapped_column(String(80), server_default="none; 'yet'")
    price: Mapped[decimal.Decimal] = mapped_column(Numeric(10, 3))
    data: Mapped[bytes | None] = mapped_column(LargeBinary)
    when: Mapped[datetime.datetime]
    extra: Mapped[dict] = mapped_column(JSON)
    twice: Mapped[float] = mapped_column(Computed("price * 2"))
    parent: Mapped["Node | None"] = relationship(remote_side=[id])

engine = create_engine(f"sqlite:///{sys.argv[1]}")
Base.metadata.create_all(engine)
with Session(engine) as session:
    last = None
    for number in range(1, 40):
        last = Node(
            kind=Kind.two, text="a\\n" * number, price=decimal.Decimal("1.125") * number,
            data=bytes(range(256)) if number % 2 else None, parent=last,
            when=datetime.datetime(2026, 1, 2, 3, 4, 5, 678), extra={"n": number, "x": None},
        )
        session.add(last)
        session.flush()
        session.execute(tags.insert().values(left=number, right=max(1, number - 1)))
    session.execute(text("CREATE VIEW dear AS SELECT * FROM node WHERE price > 20"))
    session.commit()
"""


def dump(database: Path, path: Path) -> None:
    shell = shutil.which("sqlite3")
    if shell is not None:
        subprocess.run([shell, database, f".output {path}", ".dump"], check=True)
        return
    program = (
        "import sqlite3, sys\n"
        "lines = sqlite3.connect(sys.argv[1]).iterdump()\n"
        "open(sys.argv[2], 'w').writelines(line + '\\n' for line in lines)"
    )
    subprocess.run([sys.executable, "-c", program, str(database), str(path)], check=True)


def content(path: Path) -> dict[str, object]:
    """The schema and each value with its type; text as its bytes."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        schema = connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
        ).fetchall()
        found: dict[str, object] = {"schema": schema}
        for kind, name, _, _ in schema:
            if kind == "table":
                columns = [
                    row[0]
                    for row in connection.execute("SELECT name FROM pragma_table_xinfo(?)", (name,))
                ]
                each = ", ".join(f'typeof("{one}"), CAST("{one}" AS BLOB)' for one in columns)
                rows = connection.execute(f'SELECT {each} FROM "{name}" ORDER BY 2').fetchall()
                found[str(name)] = rows
        return found
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("program", "rows"),
    [pytest.param(DJANGO, 90, id="django"), pytest.param(ALCHEMY, 39, id="sqlalchemy")],
)
async def test_the_dump_of_a_project_survives_import_and_export(
    directory: Path, tmp_path: Path, program: str, rows: int
) -> None:
    theirs = tmp_path / "theirs.sqlite"
    source = tmp_path / "project.py"
    source.write_text(program)
    subprocess.run([sys.executable, source, theirs], check=True, cwd=tmp_path)
    dump(theirs, tmp_path / "theirs.sql")
    async with bunflare.open(directory) as state:
        first, second = state.d1("first"), state.d1("second")
        await first.import_sql(tmp_path / "theirs.sql")
        await first.export_sql(tmp_path / "ours.sql")
        await second.import_sql(tmp_path / "ours.sql")
        table = "library_book" if program is DJANGO else "node"
        assert await second.prepare(f"SELECT count(*) AS n FROM {table}").first("n") == rows
        assert await second.prepare("PRAGMA foreign_key_check").raw() == []
        await second.export_sql(tmp_path / "again.sql")
    assert (tmp_path / "ours.sql").read_bytes() == (tmp_path / "again.sql").read_bytes()
    wanted = content(theirs)
    assert content(directory / "d1" / "first.sqlite") == wanted
    assert content(directory / "d1" / "second.sqlite") == wanted
    if (shell := shutil.which("sqlite3")) is not None:
        read = f".read {tmp_path / 'ours.sql'}"
        subprocess.run([shell, tmp_path / "shell.sqlite", read], check=True)
        assert content(tmp_path / "shell.sqlite") == wanted
