"""Requests, responses and what they are made of, as the Fetch standard has them.

https://fetch.spec.whatwg.org, and https://developers.cloudflare.com/workers/runtime-apis/
"""

from .blob import Blob, File
from .formdata import FormData
from .headers import Headers
from .request import Request
from .response import Response
from .url import normalize
from .urlencoded import URLSearchParams

__all__ = [
    "Blob",
    "File",
    "FormData",
    "Headers",
    "Request",
    "Response",
    "URLSearchParams",
    "normalize",
]
