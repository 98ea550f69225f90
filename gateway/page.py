"""The page at ``/``, where people try the voices and see the batch at work: the files of the folder ``page``."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

_HEADERS = {
    "cache-control": "no-cache",  # the browser asks whether its copy is still true, by its etag
    "content-security-policy": "default-src 'self'; media-src blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "microphone=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class _Files(StaticFiles):
    """The folder."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        """One of its files, or that it has not changed."""
        response = super().file_response(*arguments, **options)
        response.headers.update(_HEADERS)
        return response


_FILES = _Files(directory=Path(__file__).parent / "page")


async def page(request: Request) -> Response:
    """The page, or a file that belongs to it; needs no key."""
    return await _FILES.get_response(request.path_params.get("file", "index.html"), request.scope)
