"""``URL``: the parts of an address, each of which can be set."""

from __future__ import annotations

import re
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit

from .. import web
from ..errors import FetchTypeError
from .js_values import JsException

_PORTS = {"http:": "80", "https:": "443", "ws:": "80", "wss:": "443", "ftp:": "21"}
_USER = re.compile(r"^(\w+://)([^/?#@]*)@", re.ASCII)
# What stays as it is in a user's name and in a password.
_SAFE = "-._~!$&'()*+,%"


class JsUrl:
    """``URL.new(url, base)``. Raises TypeError for what is none."""

    def __init__(self, url: Any, base: Any = None) -> None:
        text = str(url).strip()
        if base is not None:
            text = urljoin(JsUrl(base).href, text)
        self._become(text)

    @classmethod
    def parse(cls, url: Any, base: Any = None) -> Self | None:
        """The URL, or None."""
        try:
            return cls(url, base)
        except JsException:
            return None

    @classmethod
    def canParse(cls, url: Any, base: Any = None) -> bool:
        return cls.parse(url, base) is not None

    def _become(self, text: str) -> None:
        scheme, colon, _ = text.partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.\-]*", scheme):
            raise JsException("TypeError", "Invalid URL string.")
        protocol = f"{scheme.lower()}:"
        user = password = ""
        if found := _USER.match(text):
            user, _, password = found[2].partition(":")
            text = found[1] + text[found.end() :]
        try:
            if protocol in _PORTS:
                # All of these are written as HTTP's are.
                secure = protocol in ("https:", "wss:")
                normal = web.normalize(("https" if secure else "http") + text[len(scheme) :])
                text = protocol + normal.partition(":")[2]
            parts = urlsplit(text)
            port = "" if parts.port is None else str(parts.port)
        except (FetchTypeError, ValueError) as error:
            raise JsException("TypeError", "Invalid URL string.") from error
        self._protocol, self._user, self._password = protocol, user, password
        self._hostname = (
            parts.netloc.rpartition("@")[2].removesuffix(f":{port}")
            if port
            else (parts.netloc.rpartition("@")[2])
        )
        self._port = "" if port == _PORTS.get(protocol) else port
        self._slashes = "//" if parts.netloc or text[len(protocol) :].startswith("//") else ""
        self._path = parts.path or ("/" if protocol in _PORTS else "")
        self._query, self._fragment = parts.query, parts.fragment
        self._params = web.URLSearchParams(parts.query)
        self._known = list(self._params.items())

    def _set(self, **parts: str) -> None:
        """Change parts; what would be no URL then is passed over."""
        before = dict(self.__dict__)
        params = self._params
        self.search  # noqa: B018 - what the parameters have become
        self.__dict__.update(parts)
        try:
            self._become(self.href)
        except JsException:
            self.__dict__.update(before)
            return
        # `searchParams` is the same object all its life.
        params._entries[:] = self._params.items()
        self._params = params

    @property
    def href(self) -> str:
        credentials = self._user + (f":{self._password}" if self._password else "")
        at = f"{credentials}@" if credentials else ""
        return f"{self._protocol}{self._slashes}{at}{self.host}{self._path}{self.search}{self.hash}"

    @href.setter
    def href(self, url: Any) -> None:
        params = self._params
        self._become(str(url).strip())
        params._entries[:] = self._params.items()
        self._params = params

    @property
    def protocol(self) -> str:
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: str) -> None:
        self._set(_protocol=protocol.partition(":")[0].lower() + ":")

    @property
    def username(self) -> str:
        return self._user

    @username.setter
    def username(self, name: str) -> None:
        self._set(_user=quote(name, safe=_SAFE))

    @property
    def password(self) -> str:
        return self._password

    @password.setter
    def password(self, password: str) -> None:
        self._set(_password=quote(password, safe=_SAFE))

    @property
    def host(self) -> str:
        return f"{self._hostname}:{self._port}" if self._port else self._hostname

    @host.setter
    def host(self, host: str) -> None:
        name, _, port = host.partition(":")
        self._set(_hostname=name, _port=port or self._port)

    @property
    def hostname(self) -> str:
        return self._hostname

    @hostname.setter
    def hostname(self, name: str) -> None:
        self._set(_hostname=name)

    @property
    def port(self) -> str:
        return self._port

    @port.setter
    def port(self, port: Any) -> None:
        self._set(_port=str(port))

    @property
    def origin(self) -> str:
        return f"{self._protocol}//{self.host}" if self._protocol in _PORTS else "null"

    @property
    def pathname(self) -> str:
        return self._path

    @pathname.setter
    def pathname(self, path: str) -> None:
        slash = "" if path.startswith("/") or not self._slashes else "/"
        self._set(_path=slash + path.replace("?", "%3F").replace("#", "%23"))

    @property
    def search(self) -> str:
        entries = self._params.items()
        if entries != self._known:
            self._query, self._known = str(self._params), list(entries)
        return f"?{self._query}" if self._query else ""

    @search.setter
    def search(self, query: str) -> None:
        query = query.removeprefix("?").replace("#", "%23")
        self._params._entries[:] = web.URLSearchParams(query).items()
        self._known = list(self._params.items())
        self._set(_query=query)

    @property
    def searchParams(self) -> web.URLSearchParams:
        return self._params

    @property
    def hash(self) -> str:
        return f"#{self._fragment}" if self._fragment else ""

    @hash.setter
    def hash(self, fragment: str) -> None:
        self._set(_fragment=fragment.removeprefix("#"))

    def toString(self) -> str:
        return self.href

    __str__ = toJSON = toString

    def __repr__(self) -> str:
        return f"URL({self.href!r})"
