"""What is answered when a Worker raises: its traceback, as a page for browsers."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path

from ..web import Response

# Lines of source on each side of the one that raised.
_AROUND = 4

# Of a message: characters of its first line that stand as the heading.
_HEADING = 300
# How often a frame is shown that comes again and again, and how many frames are open.
_REPEATED = 2
_OPEN = 20

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
p { margin: .3rem 0; opacity: .8; overflow-wrap: anywhere; }
pre { overflow-x: auto; padding: .6rem 0; border-radius: 6px; background: #8881; margin: .3rem 0; }
pre.more { white-space: pre-wrap; overflow-wrap: anywhere; }
pre.more { max-height: 20rem; padding: .6rem .8rem; }
code, pre { font: 13px/1.5 ui-monospace, monospace; }
/* As wide as the longest line, so that a mark does not end where the window did. */
pre > span { display: block; min-width: max-content; }
pre code { display: block; padding: 0 .8rem; }
i { opacity: .6; font-style: normal; user-select: none; }
.at { background: #e5484d33; }
summary { cursor: pointer; }
summary, .at-nothing { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
"""

# The page needs nothing: were there ever a script in it, it would not be run.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def failure(error: BaseException, request: str, *, page: bool) -> Response:
    """The response that tells of ``error``, whose traceback has been shortened."""
    if not page:
        text = "".join(traceback.format_exception(error))
        return Response(f"The Worker raised an exception.\n\n{text}", status=500)
    body = "".join(_parts(error, request))
    headers = {"content-type": "text/html;charset=UTF-8", "content-security-policy": _POLICY}
    return Response(body, status=500, headers=headers)


def _parts(error: BaseException, request: str) -> Iterator[str]:
    whole = traceback.TracebackException.from_exception(error)
    title = escape(_message(whole)[0])
    yield (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        # Without this the browser would ask the Worker for one, and have it fail once more.
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{_STYLE}</style>'
    )
    yield from _heading("h1", "", whole)
    yield f"<p>The Worker raised this on <code>{escape(request)}</code></p>"
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
            yield from _heading("h2", said, one)
        yield from _frames(one)
    plain = escape("".join(whole.format()))
    yield f"<h2>As text</h2><pre><span><code>{plain}</code></span></pre>"


def _message(error: traceback.TracebackException) -> tuple[str, str]:
    """What an exception says: in a line, and, where that is not all, in full."""
    text = "".join(error.format_exception_only()).strip()
    line = text.partition("\n")[0]
    if error.exc_type is not None and issubclass(error.exc_type, SyntaxError):
        # Which begins with the place.
        line = f"{error.exc_type.__name__}: {error.msg}"
    if len(line) > _HEADING:
        line = f"{line[:_HEADING]}…"
    return line, "" if line == text else text


def _heading(tag: str, said: str, error: traceback.TracebackException) -> Iterator[str]:
    line, text = _message(error)
    yield f"<{tag}>{said}{escape(line)}</{tag}>"
    if text:
        yield f'<pre class="more">{escape(text)}</pre>'


def _frames(error: traceback.TracebackException) -> Iterator[str]:
    """The innermost first."""
    shown = 0
    for place, several in groupby(reversed(error.stack), key=_place):
        frames = list(several)
        for frame in frames[:_REPEATED]:
            installed = "site-packages" in Path(place[0]).parts
            yield from _frame(frame, shown == 0 or (shown < _OPEN and not installed))
            shown += 1
        if len(frames) > _REPEATED:
            yield f"<p>… and {len(frames) - _REPEATED} more times</p>"


def _place(frame: traceback.FrameSummary) -> tuple[str, int, str]:
    return frame.filename, frame.lineno or 0, frame.name


def _frame(frame: traceback.FrameSummary, opened: bool) -> Iterator[str]:
    file, at, function = _place(frame)
    named = f"{escape(file)}:{at} in {escape(function)}"
    around = range(max(1, at - _AROUND), at + _AROUND + 1)
    lines = [(number, linecache.getline(file, number)) for number in around]
    if not any(line for _, line in lines):
        yield f'<p class="at-nothing">{named}</p>'
        return
    yield f"<details{' open' if opened else ''}><summary>{named}</summary><pre><span>"
    for number, line in lines:
        if line:
            mark = ' class="at"' if number == at else ""
            yield f"<code{mark}><i>{number:5}  </i>{escape(line.rstrip())}</code>"
    yield "</span></pre></details>"
