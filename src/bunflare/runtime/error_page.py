"""What is answered when a Worker raises: its traceback, as a page for browsers."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator
from html import escape
from pathlib import Path

from ..web import Response

# Lines of source on each side of the one that raised.
_AROUND = 4

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; opacity: .8; }
pre { overflow-x: auto; padding: .6rem 0; border-radius: 6px; background: #8881; margin: .3rem 0; }
code { font: 13px/1.5 ui-monospace, monospace; }
pre code { display: block; padding: 0 .8rem; }
.at { background: #e5484d33; }
summary { cursor: pointer; font: 13px ui-monospace, monospace; }
"""


def failure(error: BaseException, request: str, *, page: bool) -> Response:
    """The response that tells of ``error``, whose traceback has been shortened."""
    if not page:
        text = "".join(traceback.format_exception(error))
        return Response(f"The Worker raised an exception.\n\n{text}", status=500)
    body = "".join(_parts(error, request))
    return Response(body, status=500, headers={"content-type": "text/html;charset=UTF-8"})


def _parts(error: BaseException, request: str) -> Iterator[str]:
    whole = traceback.TracebackException.from_exception(error)
    title = escape("".join(whole.format_exception_only()).strip())
    yield (
        '<!doctype html><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p>The Worker raised this on <code>{escape(request)}</code></p>"
    )
    chain: list[tuple[str, traceback.TracebackException]] = []
    one: traceback.TracebackException | None = whole
    said = ""
    while one is not None:
        chain.append((said, one))
        if one.__cause__ is not None:
            one, said = one.__cause__, "It was caused by "
        elif one.__context__ is not None and not one.__suppress_context__:
            one, said = one.__context__, "It was raised while this was handled: "
        else:
            one = None
    for said, one in chain:
        if said:
            yield f"<h2>{said}{escape(''.join(one.format_exception_only()).strip())}</h2>"
        frames = list(one.stack)
        for number, frame in enumerate(reversed(frames)):
            yield from _frame(frame, first=number == 0)
    plain = escape("".join(whole.format()))
    yield f"<h2>As text</h2><pre><code>{plain}</code></pre>"


def _frame(frame: traceback.FrameSummary, *, first: bool) -> Iterator[str]:
    at = frame.lineno or 0
    installed = "site-packages" in Path(frame.filename).parts
    yield f"<details{'' if installed and not first else ' open'}><summary>"
    yield f"{escape(frame.filename)}:{at} in {escape(frame.name)}</summary><pre>"
    for number in range(max(1, at - _AROUND), at + _AROUND + 1):
        line = linecache.getline(frame.filename, number)
        if line:
            mark = ' class="at"' if number == at else ""
            yield f"<code{mark}>{number:5}  {escape(line.rstrip())}</code>"
    yield "</pre></details>"
