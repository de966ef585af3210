"""Who may ask the page for something: whoever was told its address, from that address, and for no more than is bounded.

The token is the first part of every path, so that it goes with each request of the page and with none of another
site's: there is no cookie that a browser would add to those. The name of the host is checked, since a name of somebody
else's could be made to lead here (DNS rebinding), and so is the origin of what is sent.
"""

import ipaddress
import socket
from hmac import compare_digest
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    # The page's own files and what it draws; nothing from elsewhere, no frames, no forms, no plug-ins.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # which would tell the token
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """An application behind a token. `host` is what it listens on."""

    def __init__(self, app: ASGIApp, token: str, host: str) -> None:
        self._app, self._token = app, token.encode()
        self._local = is_local(host)
        names = {host, "localhost"} if self._local else {host, "localhost", socket.gethostname()}
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # no web sockets
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        token, _, rest = scope["path"].removeprefix("/").partition("/")
        refusal = self._refusal(Headers(scope=scope), token)
        if refusal:
            await PlainTextResponse(f"{refusal[1]}\n", refusal[0])(scope, receive, answer)
        elif scope["path"] == f"/{token}":  # the addresses in the page begin where the page lies
            await RedirectResponse(f"/{token}/")(scope, receive, answer)
        else:
            await self._app({**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}, receive, answer)

    def _refusal(self, headers: Headers, token: str) -> tuple[int, str] | None:
        """Status and reason, None where there is nothing to refuse."""
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._is_ours(_name(host)):
            return 421, "this is not the host that genfast ui runs on"
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return 403, "another site may not ask genfast ui for anything"
        follows = headers.get("sec-fetch-mode") == "navigate"  # a link with the token in it, as in a terminal on a page
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not follows:
            return 403, "another site may not ask genfast ui for anything"
        if not compare_digest(token.encode(), self._token):
            return 403, "open the address that genfast ui printed: it holds a token"
        return None

    def _is_ours(self, name: str) -> bool:
        """Whether a host is this machine by a name that no one else can give it: an address, or its own."""
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._local


def is_local(host: str) -> bool:
    """Whether what listens on a host is for this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name(host: str) -> str:
    """The name in a header `Host`, without the port; "" where it is none."""
    try:
        parts = urlsplit(f"//{host}")
        return "" if parts.path or parts.query or parts.fragment or parts.username else parts.hostname or ""
    except ValueError:
        return ""
