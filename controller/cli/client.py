"""Calls of the API, over a Unix socket, http(s) or ssh; every failure becomes a Trouble with its exit code."""

from __future__ import annotations

import re
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote, urlsplit

# httpx brings a command line of its own, and with it click and rich: a quarter of the time of `oton status`.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx  # noqa: E402

from controller.cli import dial  # noqa: E402
from controller.cli.target import Target  # noqa: E402
from controller.cli.trouble import CONFLICT, FORBIDDEN, MISSING, UNREACHABLE, USAGE, Trouble  # noqa: E402
from controller.cli.trust import explain, make_tls  # noqa: E402

CONNECT_S = 5.0
ANSWER_S = 30.0
API = 1
"""The newest version of the API's shapes that we know."""

CODES = {401: FORBIDDEN, 403: FORBIDDEN, 404: MISSING, 409: CONFLICT, 400: USAGE, 413: USAGE, 422: USAGE}


class Client:
    """One service, called from one thread; close it, or use it as a context."""

    def __init__(self, target: Target) -> None:
        self.target = target
        headers = {"Accept": "application/json", "User-Agent": "oton"}
        if target.token:
            headers["Authorization"] = f"Bearer {target.token}"
        self._http = httpx.Client(
            transport=make_transport(target),
            base_url=target.place if target.kind in ("http", "https") else "http://oton",
            headers=headers,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            trust_env=False,
        )
        self._headers = headers
        self.engine_away = False
        """Whether the service said with its last answer that it cannot reach the container engine."""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON that *path* answers with."""
        return self._send("GET", path, query)

    def post(self, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """Post JSON and return what is answered."""
        return self._send("POST", path, query, json=body)

    def put(self, path: str, data: bytes) -> Any:
        """Put a YAML document and return what is answered."""
        return self._send("PUT", path, {}, content=data, headers={"Content-Type": "application/yaml"})

    def put_json(self, path: str, body: Mapping[str, Any]) -> Any:
        """Put JSON and return what is answered."""
        return self._send("PUT", path, {}, json=body)

    def post_yaml(self, path: str, data: bytes) -> Any:
        """Post a YAML document and return what is answered."""
        return self._send("POST", path, {}, content=data, headers={"Content-Type": "application/yaml"})

    def post_file(self, path: str, pieces: Iterator[bytes], size: int) -> Any:
        """Post a file a piece at a time and return what is answered."""
        headers = {"Content-Type": "application/gzip", "Content-Length": str(size)}
        return self._send("POST", path, {}, content=pieces, headers=headers)

    def delete(self, path: str) -> Any:
        """Delete and return what is answered."""
        return self._send("DELETE", path, {})

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str] | None = None, **query: Any) -> Iterator[httpx.Response]:
        """Open a stream that may be silent for long; closes it at the end."""
        timeout = httpx.Timeout(None, connect=CONNECT_S)
        with (
            self._turn_errors(),
            self._http.stream(
                "GET", path, params=clean(query), headers=dict(headers or {}), timeout=timeout
            ) as response,
        ):
            if not response.is_success:
                response.read()
                raise from_response(response)
            try:
                yield response
            except httpx.HTTPError as error:
                raise self._broken_off(error) from error

    def _broken_off(self, error: Exception) -> Trouble:
        """Say why a stream broke off: one whose token has ended is not one whose service is away."""
        with suppress(httpx.HTTPError, OSError):
            again = self._http.get("/v1/version")
            if again.status_code in (401, 403):
                return from_response(again)
        return self.unreachable(error)

    def web_socket(self, path: str) -> Any:
        """Return an open WebSocket on *path*."""
        from controller.cli.wire import Rejected, Wire

        host = urlsplit(self.target.place).netloc if self.target.kind in ("http", "https") else "oton"
        headers = {name: value for name, value in self._headers.items() if name != "Accept"}
        try:
            return Wire(self._open_socket(), host, path, headers)
        except Rejected as error:
            raise from_response(httpx.Response(error.status, headers=error.headers, content=error.body)) from error
        except OSError as error:
            raise self.unreachable(error) from error

    def _open_socket(self) -> socket.socket:
        sock = dial.open_socket(self.target, CONNECT_S)
        if self.target.kind != "https":
            return sock
        return make_tls(self.target.ca).wrap_socket(sock, server_hostname=urlsplit(self.target.place).hostname)

    def _send(self, method: str, path: str, query: Mapping[str, Any], **more: Any) -> Any:
        with self._turn_errors():
            response = self._http.request(method, path, params=clean(query), **more)
        self.engine_away = response.headers.get("oton-engine") == "away"
        if not response.is_success:
            raise from_response(response)
        try:
            return response.json() if response.content else None
        except ValueError as error:
            raise Trouble(UNREACHABLE, f"{self.target.place}: the server there is not Oton Pilot") from error

    @contextmanager
    def _turn_errors(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, OSError) as error:
            raise self.unreachable(error) from error

    def unreachable(self, error: Exception) -> Trouble:
        """Say that the service cannot be reached, and what to look at."""
        place = self.target.place
        if (refusal := refused_certificate(error)) is not None:
            why, hint = explain(refusal, self.target.ca)
            return Trouble(UNREACHABLE, f"{place} ({self.target.source}): {why}", hint=hint)
        why = first_cause(error)
        if self.target.kind == "ssh":
            return Trouble(UNREACHABLE, f"{place}: {why}", hint=f"try: {dial.render_command(self.target)}")
        if self.target.kind == "unix":
            named = "" if self.target.source == "default" else f" ({self.target.source})"
            return Trouble(
                UNREACHABLE,
                f"no service answers at {place}{named}: {why}",
                hint="start it with: oton serve, or set OTON_HOST or OTON_SOCKET to where it is",
            )
        return Trouble(UNREACHABLE, f"no service answers at {place} ({self.target.source}): {why}")


def refused_certificate(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return what the verification of a certificate said, however deep it was wrapped."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def first_cause(error: BaseException) -> str:
    """Return what the system said."""
    while error.__cause__ is not None and not isinstance(error, OSError):
        error = error.__cause__
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    text = re.sub(r"^\[Errno -?\d+\] ", "", text)
    return text[:1].lower() + text[1:]


def make_transport(target: Target) -> httpx.BaseTransport:
    """Return the transport for a target."""
    match target.kind:
        case "unix":
            # Without TLS there is nothing to verify; loading the authorities would cost a tenth of a second.
            return httpx.HTTPTransport(uds=target.place, verify=False)
        case "ssh":
            return dial.SshTransport(target)
        case "https":
            return httpx.HTTPTransport(verify=make_tls(target.ca))
        case _:
            return httpx.HTTPTransport(verify=False)


def from_response(response: httpx.Response) -> Trouble:
    """Turn an answer that is no success into a Trouble."""
    if response.has_redirect_location:
        # Not followed: it would take our token to wherever somebody else says.
        place = urlsplit(response.headers["location"])
        there = f"{place.scheme}://{place.netloc}" if place.netloc else ""
        hint = f"oton --host {there}" if there else ""
        return Trouble(UNREACHABLE, f"the service is not here: it redirects to {there or 'another path'}", hint=hint)
    try:
        problem = response.json()
        detail, kind = str(problem["detail"]), str(problem.get("type", ""))
    except (ValueError, KeyError, TypeError):
        detail, kind, problem = f"answered {response.status_code} {response.reason_phrase}", "", {}
    if kind.endswith(("/no-such-path", "/no-such-method")):
        version = response.headers.get("oton-version", "")
        return Trouble(
            UNREACHABLE, f"the service {version or 'there'} does not know this command", hint="update the service"
        )
    lines = [str(line) for line in problem.get("problems", [])]
    if lines:
        return Trouble(CODES.get(response.status_code, UNREACHABLE), lines[0], lines=lines[1:])
    return Trouble(CODES.get(response.status_code, UNREACHABLE), detail)


def clean(query: Mapping[str, Any]) -> dict[str, str]:
    """Return a query without what is not set."""
    return {
        name: ("true" if value else "false") if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }


def app_path(app: str, *more: str | int) -> str:
    """Return the path of an app, whatever its name looks like."""
    return "/".join(["/v1/apps", *(quote(str(part), safe="") for part in (app, *more))])
