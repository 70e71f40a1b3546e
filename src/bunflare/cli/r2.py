"""``bunflare r2``: objects in and out, and a look after their files. Names are wrangler's."""

from __future__ import annotations

import click

from . import r2_sync  # noqa: F401 - adds its command to that of objects
from .elsewhere import only_there
from .r2_bucket import adopt, bucket_group, repair, verify
from .r2_bulk import bulk_group
from .r2_object import object_group


@click.group("r2")
def command() -> None:
    """Put, get and list objects, and look after their files."""


command.add_command(object_group)
command.add_command(bulk_group)
command.add_command(bucket_group)
command.add_command(verify, "check")
command.add_command(repair)
command.add_command(adopt)

_RULES = "it is a rule of Cloudflare's servers for a bucket there; here, a bucket is a folder"
_WEB = "no bucket is on the web here; a Worker under `bunflare dev` can answer with its objects"
only_there(
    bucket_group,
    {
        **dict.fromkeys(("lifecycle", "lock", "sippy", "local-uploads", "update"), _RULES),
        **dict.fromkeys(("cors", "dev-url", "domain"), _WEB),
        "catalog": "the data catalog is a service of Cloudflare's",
        "notification": "send to the queue where you put the object; `state watch` tells changes",
    },
)
only_there(command, {"sql": "R2 SQL is a service of Cloudflare's"})
