"""JSON text of plain values, by the C encoder that Python's own ``json`` makes anew each time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def _make() -> Callable[[Any], str]:
    # Circles are found before, so that looking for them again would only cost time.
    encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)
    make = vars(json.encoder).get("c_make_encoder")
    if make is None:
        return encoder.encode
    quote = json.encoder.encode_basestring
    chunks = make(None, encoder.default, quote, None, ":", ",", False, False, True)
    return lambda value: "".join(chunks(value, 0))


#: `json.JSONEncoder.encode` without blanks, and with characters as they are.
encode = _make()
