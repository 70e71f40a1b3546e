"""`examples/thumbnails` over real HTTP: thumbnails and failures, also across kills."""

from __future__ import annotations

import io
import os
import random
import signal
import time
from pathlib import Path

from PIL import Image

from tests.runtime.test_dev import Server, dev
from tests.support import PATIENCE

EXAMPLE = Path(__file__).parents[2] / "examples" / "thumbnails"
KILLS = 40 if os.environ.get("BUNFLARE_CRASH") == "long" else 2


def picture(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (400, 300), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


def until(server: Server, text: str, count: int) -> str:
    """The page, once it has a text so many times."""
    deadline = time.monotonic() + PATIENCE
    while (page := server.text("/")).count(text) != count:
        assert time.monotonic() < deadline, page
        time.sleep(0.02)
    return page


def test_a_thumbnail_is_made_and_a_failure_is_shown_and_tried_again(tmp_path: Path) -> None:
    with dev(EXAMPLE, "--persist-to", str(tmp_path / "state")) as server:
        assert "None." in server.text("/")
        assert server.fetch("/pictures/good%20one.png", "PUT", picture(200))[0] == 201
        until(server, '<img src="/thumbnails/good%20one.png"', 1)
        status, headers, body = server.fetch("/thumbnails/good%20one.png")
        assert (status, headers["content-type"]) == (200, "image/png")
        with Image.open(io.BytesIO(body)) as image:
            assert image.size == (160, 120)
            assert image.getpixel((5, 5)) == (200, 0, 0)
        form = (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="<bad>.png"\r\n'
            b"Content-Type: image/png\r\n\r\nno picture\r\n--x--\r\n"
        )
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        assert server.fetch("/", "POST", form, kind)[0] == 303
        page = until(server, "no thumbnail could be made", 1)
        assert "&lt;bad&gt;.png" in page
        assert server.fetch("/pictures/%3Cbad%3E.png", "PUT", picture(1))[0] == 201
        assert server.fetch("/again/%3Cbad%3E.png", "POST")[0] == 303
        until(server, "<img", 2)
        assert "None." in until(server, "no thumbnail could be made", 0)
        assert server.fetch("/thumbnails/missing")[0] == 404


def test_every_picture_that_was_accepted_gets_its_thumbnail_whenever_it_is_killed(
    tmp_path: Path,
) -> None:
    state = str(tmp_path / "state")
    chance = random.Random(1)
    names: list[str] = []
    for life in range(KILLS):
        with dev(EXAMPLE, "--persist-to", state) as server:
            for number in range(8):
                name = f"{life}-{number}"
                body = b"broken" if number == 0 else picture(number)
                assert server.fetch(f"/pictures/{name}", "PUT", body)[0] == 201
                names.append(name)
            time.sleep(chance.uniform(0, 0.1))
            server.stop(signal.SIGKILL)
    with dev(EXAMPLE, "--persist-to", state) as server:
        until(server, "no thumbnail could be made", KILLS)
        page = until(server, "<img", 7 * KILLS)
        assert "waiting" not in page.split("<script>")[0].split("</style>")[1]
