"""Who may ask: whoever has a key; where there are none, programs of this machine, and no page of another site."""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from gateway.errors import ApiError
from gateway.keys import Caller, KeyFile
from gateway.settings import is_loopback

KEY_PROTOCOL = "key."
"""Begins the name of a WebSocket's protocol that is a key; it is never chosen, and so never sent back."""

_ANYBODY = Caller("anybody", voices=True)


class Door:
    """Lets callers in.

    Args:
        keys: None where everybody on this machine may.
        origins: Of pages that may call from a browser; "*" for all.
    """

    def __init__(self, keys: KeyFile | None, origins: tuple[str, ...]) -> None:
        self._keys, self._origins = keys, origins

    def admit(self, request: HTTPConnection) -> Caller:
        """Who asks.

        Raises:
            ApiError: Nobody that may.
        """
        if self._keys is None:
            self._check_page(request)
            return _ANYBODY
        key = _key(request)
        caller = self._keys.caller(key) if key else None
        if caller is None:
            told = "wrong API key" if key else "no API key; accepted: the header Authorization: Bearer KEY"
            headers = {"www-authenticate": "Bearer"}
            raise ApiError(401, told, code="invalid_api_key", headers=headers)
        return caller

    def _check_page(self, request: HTTPConnection) -> None:
        """Refuse pages of other sites: browsers let them ask this machine, also by a name of theirs."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not is_loopback(urlsplit(f"//{host}").hostname or ""):
            raise ApiError(403, "without keys, it answers to names of this machine only", code="forbidden")
        if origin is None or urlsplit(origin).netloc == host or {origin, "*"} & set(self._origins):
            return
        raise ApiError(403, f"pages of {origin[:100]!r} may not call; accepted: cors_origins", code="forbidden")


def _key(request: HTTPConnection) -> str:
    """The key of a header; browsers can give WebSockets no other header than the names of protocols."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    offered = request.scope.get("subprotocols", ())
    return next((name.removeprefix(KEY_PROTOCOL) for name in offered if name.startswith(KEY_PROTOCOL)), "")
