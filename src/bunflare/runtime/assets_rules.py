"""``_headers`` and ``_redirects``: their rules, as functions of a path.

https://developers.cloudflare.com/workers/static-assets/headers/ and …/redirects/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

HtmlHandling = Literal["auto-trailing-slash", "force-trailing-slash", "drop-trailing-slash", "none"]
_MOST_STATIC = 2000
_MOST_DYNAMIC = 100
_MOST_HEADERS = 100
_LONGEST = 2000
_STATUSES = (200, 301, 302, 303, 307, 308)
_PLACEHOLDER = re.compile(r":[A-Za-z]\w*|\*")


@dataclass(frozen=True, slots=True)
class Redirect:
    """From a path to another one, or to a URL."""

    pattern: re.Pattern[str]
    to: str
    status: int


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """Headers for the paths that match: those to remove, and those to set."""

    pattern: re.Pattern[str]
    removed: tuple[str, ...]
    added: tuple[tuple[str, str], ...]
    #: Whether the pattern names a host, and is compared with the whole URL.
    with_host: bool


def pattern_of(path: str) -> re.Pattern[str]:
    """A path with ``*`` (once: the splat) and ``:placeholders``."""
    parts: list[str] = []
    at = 0
    for found in _PLACEHOLDER.finditer(path):
        parts.append(re.escape(path[at : found.start()]))
        name = found[0][1:] or "splat"
        first = f"(?P<{name}>" not in "".join(parts)
        # In a host, a placeholder ends at a dot as well.
        in_host = path.startswith("https://") and "/" not in path[8 : found.start()]
        body = ".*" if found[0] == "*" else "[^/.]+" if in_host else "[^/]+"
        parts.append(f"(?P<{name}>{body})" if first else body)
        at = found.end()
    parts.append(re.escape(path[at:]))
    return re.compile("".join(parts), re.S)


def fill(template: str, values: Mapping[str, str]) -> str:
    """A target with what the pattern found."""
    return re.sub(r":([A-Za-z]\w*)", lambda found: values.get(found[1], found[0]), template)


def places(mode: HtmlHandling, path: str) -> Iterator[tuple[str, str | None]]:
    """Where to look for a path, in order: files, each with the path to go to, or None to serve it.

    https://developers.cloudflare.com/workers/static-assets/routing/advanced/html-handling/
    """
    root = path in ("/index", "/index.html")
    if mode == "none":
        yield path, None
        return
    slash = {"auto-trailing-slash": "", "force-trailing-slash": "/", "drop-trailing-slash": ""}[
        mode
    ]
    dropped = mode == "drop-trailing-slash"
    if path.endswith("/index"):
        stem = path.removesuffix("/index")
        page, index = (f"{stem}.html", f"{stem}{slash}"), (f"{path}.html", f"{stem}/")
        yield path, None
        if root:
            yield "/index.html", "/"
        elif dropped:
            yield from (page, (f"{path}.html", stem))
        else:
            yield from (index, page)
    elif path.endswith("/index.html"):
        stem = path.removesuffix("/index.html")
        if root:
            yield path, "/"
        else:
            yield path, stem if dropped else f"{stem}/"
            if dropped:
                yield path, None
        yield f"{stem}.html", f"{stem}{slash}"
    elif path.endswith("/"):
        stem = path.removesuffix("/")
        if not dropped or not stem:
            yield f"{path}index.html", None
        yield f"{stem}.html", None if slash else stem
        if dropped:
            yield f"{stem}/index.html", stem
    elif path.endswith(".html"):
        stem = path.removesuffix(".html")
        yield path, f"{stem}{slash}"
        if slash:
            yield path, None
        yield f"{stem}/index.html", stem if dropped else f"{stem}/"
    yield path, None
    yield f"{path}.html", f"{path}/" if slash else None
    yield f"{path}/index.html", None if dropped else f"{path}/"


def parse_redirects(text: str) -> tuple[list[Redirect], list[str]]:
    """The rules, and what is wrong with lines that are left out."""
    rules: list[Redirect] = []
    wrong: list[str] = []
    seen: set[str] = set()
    static = dynamic = 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(" #")[0].split()
        if not words or words[0].startswith("#"):
            continue
        if len(line) > _LONGEST or len(words) not in (2, 3):
            wrong.append(f"_redirects:{number}: expected: from to [status]")
            continue
        source, target = words[0], words[1]
        status = words[2] if len(words) == 3 else "302"
        if not status.isdecimal() or int(status) not in _STATUSES:
            wrong.append(f"_redirects:{number}: {status} is not one of {_STATUSES}")
        elif not source.startswith("/") or source.count("*") > 1:
            wrong.append(f"_redirects:{number}: a path is needed, with one * at most")
        elif status == "200" and not target.startswith("/"):
            wrong.append(f"_redirects:{number}: a proxy (200) needs a path of this site")
        elif source in seen:
            wrong.append(f"_redirects:{number}: {source} has a rule already")
        elif not target.startswith("/") and urlsplit(target).scheme not in ("http", "https"):
            wrong.append(f"_redirects:{number}: {target} is neither a path nor a URL")
        else:
            plain = _PLACEHOLDER.search(source) is None
            static, dynamic = static + plain, dynamic + (not plain)
            if static > _MOST_STATIC or dynamic > _MOST_DYNAMIC:
                wrong.append(f"_redirects:{number}: more than 2,000 static or 100 dynamic rules")
                continue
            seen.add(source)
            rules.append(Redirect(pattern_of(source), target, int(status)))
    return rules, wrong


def redirect_for(rules: list[Redirect], path: str, query: str) -> tuple[str, int] | None:
    """Where a path goes to, and how."""
    for rule in rules:
        found = rule.pattern.fullmatch(path)
        if found is not None:
            target = fill(rule.to, found.groupdict())
            if target.startswith("/"):
                target = re.sub("/+", "/", target)
            head, hash_, fragment = target.partition("#")
            if query and "?" not in head:
                head += f"?{query}"
            return head + hash_ + fragment, rule.status
    return None


def parse_headers(text: str) -> tuple[list[HeaderRule], list[str]]:
    """The rules, and what is wrong with lines that are left out."""
    rules: list[HeaderRule] = []
    wrong: list[str] = []
    path: str | None = None
    removed: list[str] = []
    added: list[tuple[str, str]] = []

    def end() -> None:
        if path is not None and (removed or added):
            with_host = not path.startswith("/")
            rules.append(HeaderRule(pattern_of(path), tuple(removed), tuple(added), with_host))

    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        if len(line) > _LONGEST:
            wrong.append(f"_headers:{number}: longer than 2,000 characters")
        elif content.startswith(("/", "https://")):
            end()
            path, removed, added = content, [], []
            if len(rules) >= _MOST_HEADERS:
                wrong.append(f"_headers:{number}: more than 100 rules")
                path = None
        elif path is None:
            wrong.append(f"_headers:{number}: a path is needed before its headers")
        elif content.startswith("! "):
            removed.append(content[2:].strip().lower())
        else:
            name, colon, value = content.partition(":")
            if not colon or not value.strip() or " " in name.strip():
                wrong.append(f"_headers:{number}: expected: Name: value")
            else:
                added.append((name.strip().lower(), value.strip()))
    end()
    return rules, wrong


def headers_for(rules: list[HeaderRule], url: str) -> tuple[set[str], list[tuple[str, str]]]:
    """The names to remove and the pairs to set; values of several rules for a name are joined."""
    removed: set[str] = set()
    added: dict[str, str] = {}
    parts = urlsplit(url)
    for rule in rules:
        found = rule.pattern.fullmatch(
            f"https://{parts.hostname}{parts.path}" if rule.with_host else parts.path
        )
        if found is None:
            continue
        for name in rule.removed:
            removed.add(name)
            added.pop(name, None)
        for name, template in rule.added:
            value = fill(template, found.groupdict())
            added[name] = f"{added[name]}, {value}" if name in added else value
    return removed, list(added.items())
