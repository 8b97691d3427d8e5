"""The guard before the app: who may ask, by which name and from which site, and how much.

    Host             localhost, a loopback address, the address of the connection, --allow-host;
                     a foreign site that points its name here (DNS rebinding) is refused
    Origin           none, the server's own, --allow-origin; else a web page could ask unnoticed
    Authorization    the key, for everything but /health and the files of the page
    Content-Type     application/json, which a form of a foreign site cannot send
    body             at most MAX_BODY bytes, counted while they are read

Previous: errors.py.  Next: schemas.py.
"""

import asyncio
import ipaddress
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from hmac import compare_digest
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import ApiError

MAX_BODY = 2**20
SECONDS_TO_SEND = 30  # a body
REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
HEADERS = {  # of every response
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask."""

    key: str | None = None  # None: everybody who can connect
    hosts: tuple[str, ...] = ()  # further names of this machine
    origins: tuple[str, ...] = ()  # further web sites


class AccessGuard:
    """Wraps the app: refuses what may not reach it, and adds the headers of HEADERS."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        is_open: Callable[[str], bool],
        on_response: Callable[[str, int], None],
    ) -> None:
        """Wraps an app.

        Args:
            app: what is guarded.
            access: who may ask.
            is_open: tells of a path whether it needs no key.
            on_response: called with the path and the status of each response.
        """
        self.app, self.access, self.is_open, self.on_response = app, access, is_open, on_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        origin = headers.get("origin")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.on_response(template_of(scope), message["status"])
                added = MutableHeaders(scope=message)
                for name, value in {**HEADERS, "x-request-id": request_id}.items():
                    added.setdefault(name, value)
                if origin in self.access.origins:
                    added["access-control-allow-origin"] = str(origin)
                    added["cross-origin-resource-policy"] = "cross-origin"
                    added["vary"] = "Origin"
            await send(message)

        try:
            self.check_host(scope, headers)
            self.check_origin(headers)
            if scope["method"] == "OPTIONS" and origin in self.access.origins:
                await preflight()(scope, receive, send_with_headers)
                return
            self.check_key(scope["path"], headers)
            body = await read_body(scope["method"], headers, receive)
        except ApiError as error:
            await error.response()(scope, receive, send_with_headers)
            return
        await self.app(scope, replayed(body, receive), send_with_headers)

    def check_host(self, scope: Scope, headers: Headers) -> None:
        """Raises ApiError for a request that was sent to a name which is not this machine's."""
        hosts = headers.getlist("host")
        name = host_name(hosts[0]) if len(hosts) == 1 else ""
        address = scope["server"][0] if scope.get("server") else ""
        if name in ("localhost", *self.access.hosts) or is_loopback(name):
            return
        if is_address(name) and name == address:
            return
        raise ApiError(
            403,
            "the Host of this request is no name of this server; --allow-host adds one",
            code="host_not_allowed",
        )

    def check_origin(self, headers: Headers) -> None:
        """Raises ApiError for a request that a page of another site makes."""
        origin = headers.get("origin")
        if origin is None or origin in self.access.origins:
            return
        if urlsplit(origin).netloc.lower() != headers["host"].lower():
            raise ApiError(
                403,
                "this server answers no page of another site; --allow-origin adds one",
                code="origin_not_allowed",
            )

    def check_key(self, path: str, headers: Headers) -> None:
        """Raises ApiError for a request without the key, where it needs one."""
        if self.access.key is None or self.is_open(path):
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        matches = compare_digest(given.strip().encode(), self.access.key.encode())
        if scheme.lower() != "bearer" or not matches:
            raise ApiError(
                401,
                "the key is missing or wrong; send it as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )


def template_of(scope: Scope) -> str:
    """Returns the path of the route that answers, so that there are few; "-" where none does."""
    return getattr(scope.get("route"), "path", "-")


def host_name(host: str) -> str:
    """Returns the name or the address in a Host header, without the port and in small letters."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Tells whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Tells whether a name is an address of this machine that no other machine reaches."""
    return is_address(name) and ipaddress.ip_address(name).is_loopback


async def read_body(method: str, headers: Headers, receive: Receive) -> bytes:
    """Returns the body of a request. Raises ApiError where it is no JSON, too long or too slow."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return b""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "send the body as JSON, with the header Content-Type: application/json")
    too_large = ApiError(
        413,
        f"the body has more than {MAX_BODY:,} bytes; send less",
        headers={"connection": "close"},
    )
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared[:20]) > MAX_BODY:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(SECONDS_TO_SEND):
            while True:
                message = await receive()
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise too_large
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise ApiError(
            408,
            f"the body did not arrive within {SECONDS_TO_SEND} s",
            headers={"connection": "close"},
        ) from None


def replayed(body: bytes, receive: Receive) -> Receive:
    """Returns a receiver that gives a body which was read already, and then what follows."""
    is_given = False

    async def receive_again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def preflight() -> Response:
    """Returns the answer to a browser that asks whether a page of another site may ask."""
    allowed = {
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "authorization, content-type, x-request-id",
        "access-control-max-age": "600",
    }
    return Response(status_code=204, headers=allowed)
