"""Larger Workers over real HTTP: a FastAPI application on D1, and a Django project."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.support import PATIENCE

from .test_dev import Server, dev

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM = str(Path(sys.executable).with_name("bunflare"))


def copied(name: str, path: Path) -> Path:
    target = path / name
    shutil.copytree(EXAMPLES / name, target, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    return target


def post(server: Server, path: str, data: Any, method: str = "POST") -> tuple[int, Any]:
    json_type = {"content-type": "application/json"}
    status, _, body = server.fetch(path, method, json.dumps(data), json_type)
    return status, json.loads(body) if body else None


def test_a_fastapi_application_lends_books_on_d1(tmp_path: Path) -> None:
    path = copied("library", tmp_path)
    subprocess.run(
        [PROGRAM, "d1", "migrations", "apply", "library", "--local"],
        cwd=path,
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    with dev(path) as server:
        for i in range(110):
            book = {"title": f"Book {i}", "author": "Robin", "copies": 1 + i % 3}
            assert post(server, "/books", book)[0] == 201
        assert post(server, "/books", {"title": ""})[0] == 422
        page = json.loads(server.text("/books?limit=100"))
        assert len(page) == 100
        assert len(json.loads(server.text(f"/books?after={page[-1]['id']}&limit=100"))) == 10
        [found] = json.loads(server.text("/books?q=" + "book%2077"))
        assert found["title"] == "Book 77"
        statuses: list[int] = []
        threads = [
            threading.Thread(
                target=lambda i=i: statuses.append(
                    post(server, "/books/3/loans", {"reader": f"reader {i}"})[0]
                )
            )
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [201] * 3 + [409] * 5
        assert post(server, "/books/999/loans", {"reader": "x"})[0] == 404
        assert server.text("/books.csv").count("\n") == 111
        assert "Library" in json.loads(server.text("/openapi.json"))["info"]["title"]
    with dev(path) as server:
        assert json.loads(server.text("/books?after=2&limit=1"))[0]["copies"] == 0


def test_the_tests_of_an_example_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    path = copied("library", tmp_path)
    result = subprocess.run(command, cwd=path, capture_output=True, text=True, check=False)
    assert "2 passed" in result.stdout, result.stdout + result.stderr


class Browser:
    """Keeps cookies, as a form's token needs it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cookies: dict[str, str] = {}

    def ask(self, path: str, form: dict[str, str] | None = None) -> tuple[int, Any, str]:
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        body = None
        if form is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
            body = urlencode(form)
        status, given, data = self._server.fetch(
            path, "GET" if form is None else "POST", body, headers
        )
        self._keep(given)
        return status, given, data.decode()

    def _keep(self, headers: http.client.HTTPMessage) -> None:
        for cookie in headers.get_all("set-cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value

    def token(self, path: str) -> str:
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.ask(path)[2])
        assert found is not None
        return found[1]


def test_a_django_project_has_its_models_templates_admin_and_static_files(tmp_path: Path) -> None:
    path = copied("notes", tmp_path)
    with dev(path) as server:
        browser = Browser(server)
        token = browser.token("/")
        form = {"csrfmiddlewaretoken": token, "text": "<written>"}
        status, headers, _ = browser.ask("/", form)
        assert (status, headers["location"]) == (302, "/")
        page = browser.ask("/")[2]
        assert "<li>&lt;written&gt;</li>" in page
        assert "seen 2 times" in page
        assert Browser(server).ask("/", {"text": "no token"})[0] == 403
        style = server.fetch("/static/notes/notes.css")
        assert (style[0], style[1]["content-type"]) == (200, "text/css")
        assert server.fetch("/static/admin/css/base.css")[0] == 200
        assert server.fetch("/admin/")[0] == 302
        login = "/admin/login/?next=/admin/"
        form = {"csrfmiddlewaretoken": browser.token(login), "username": "admin"}
        assert "Please enter the correct" in browser.ask(login, {**form, "password": "x"})[2]
        form["csrfmiddlewaretoken"] = browser.token(login)
        assert browser.ask(login, {**form, "password": "bunflare"})[0] == 302
        listed = browser.ask("/admin/notes/note/")[2]
        assert "1 note" in listed
        assert "&lt;written&gt;" in listed
    with dev(path) as server:
        assert "seen 3 times" in server.text("/")
