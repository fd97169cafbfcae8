"""Where the CLI talks to, first that is set: flag, OTON_HOST, context, OTON_SOCKET, ./.oton, the default sockets."""

from __future__ import annotations

import ipaddress
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from controller.cli.trouble import USAGE, Trouble

ALLOWED = "unix:///path, http(s)://host[:port] or ssh://user@host[:port]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One service to talk to."""

    kind: str
    """unix, http, https or ssh."""
    place: str
    """A socket's path, or the address as it was given."""
    token: str = ""
    source: str = ""
    """What named it, for errors."""
    ca: str = ""
    """File with the authority that signs its certificate, if not one that everybody knows."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the flags of this call say."""

    host: str | None = None
    context: str | None = None


def find_target(asked: Asked, env: Mapping[str, str]) -> Target:
    """Return the service to talk to. Raises Trouble where what is set cannot be read."""
    env = read_dotenv(Path(".env")) | dict(env)
    token = env.get("OTON_TOKEN", "")
    if asked.host:
        return parse_host(asked.host, token, "--host")
    if asked.context:
        return from_context(asked.context, env)
    if env.get("OTON_HOST"):
        return parse_host(env["OTON_HOST"], token, "OTON_HOST")
    current = load_contexts(env).get("current")
    if current:
        return from_context(str(current), env)
    if env.get("OTON_SOCKET"):
        return Target(kind="unix", place=str(Path(env["OTON_SOCKET"]).absolute()), source="OTON_SOCKET")
    return Target(kind="unix", place=str(find_socket(env)), source="default")


def find_socket(env: Mapping[str, str]) -> Path:
    """Return the first default socket that is there; where none is, the one that a service of ours would make."""
    runtime = env.get("XDG_RUNTIME_DIR", "")
    ours = [Path(runtime) / "oton" / "oton.sock"] if runtime.startswith("/") else []
    system = Path("/run/oton/oton.sock")
    usual = [system, *ours] if os.geteuid() == 0 else [*ours, system]
    state = Path(env.get("OTON_STATE") or ".oton").absolute() / "oton.sock"
    return next((path for path in (state, *usual) if is_socket(path)), usual[0] if os.geteuid() == 0 or ours else state)


def is_socket(path: Path) -> bool:
    """Say whether there is a socket at *path*."""
    with suppress(OSError):
        return stat.S_ISSOCK(path.stat().st_mode)
    return False


def parse_host(text: str, token: str, source: str, ca: str = "") -> Target:
    """Return the target that a host text names. Raises Trouble where it names none."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise bad_host(text, source) from None
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return Target(kind="unix", place=parts.path, source=source)
    if parts.scheme not in ("http", "https", "ssh") or not parts.hostname or port == 0:
        raise bad_host(text, source)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise bad_host(text, source)
    if parts.scheme == "ssh":
        check_ssh(parts, text, source)
    if parts.scheme == "http" and token and not is_loopback(parts.hostname):
        raise Trouble(
            USAGE,
            f"{source}: {text}: a token goes over plain http only to loopback",
            hint=f"use https://{parts.netloc}, or ssh://user@{parts.hostname}",
        )
    return Target(kind=parts.scheme, place=text.rstrip("/"), token=token, source=source, ca=ca)


def check_ssh(parts: SplitResult, text: str, source: str) -> None:
    """Refuse what ssh would read as one of its own options."""
    # ssh takes a host or user that starts with a dash as an option, -oProxyCommand=… among them.
    if any(part.startswith("-") for part in (parts.hostname or "", parts.username or "")) or parts.password:
        raise bad_host(text, source)


def bad_host(text: str, source: str) -> Trouble:
    """Say that *text* names no service."""
    return Trouble(USAGE, f'{source}: found "{text[:80]}", allowed: {ALLOWED}')


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def contexts_file(env: Mapping[str, str]) -> Path:
    """Return the file that holds the named servers."""
    base = env.get("XDG_CONFIG_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".config")
    return Path(base) / "oton" / "contexts.json"


def load_contexts(env: Mapping[str, str]) -> dict[str, Any]:
    """Return `{"current": name, "contexts": {name: {host, token, ca}}}`; empty where there is no file."""
    path = contexts_file(env)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found.get("contexts", {}), dict):
            raise ValueError("not a list of contexts")  # noqa: TRY004 - caught with the others below
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise Trouble(USAGE, f"{path}: cannot be read: {error}", hint="fix or remove that file") from error
    return dict(found)


def from_context(name: str, env: Mapping[str, str]) -> Target:
    """Return the target of a named server. Raises Trouble where there is none of that name."""
    contexts = load_contexts(env).get("contexts", {})
    entry = contexts.get(name)
    if not isinstance(entry, dict) or not isinstance(entry.get("host"), str):
        known = ", ".join(sorted(contexts)) or "none"
        raise Trouble(USAGE, f"context {name}: not known; known: {known}", hint="oton context add NAME HOST")
    token = env.get("OTON_TOKEN") or str(entry.get("token") or "")
    return parse_host(entry["host"], token, f"context {name}", str(entry.get("ca") or ""))


def read_dotenv(path: Path) -> dict[str, str]:
    """Return where `.env` puts the socket, as the service in the same directory reads it."""
    # Not OTON_HOST: a repository that somebody cloned must not send their token elsewhere.
    found: dict[str, str] = {}
    with suppress(OSError, UnicodeDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, is_set, value = line.strip().removeprefix("export ").partition("=")
            if is_set and name.strip() in ("OTON_SOCKET", "OTON_STATE"):
                found[name.strip()] = value.strip().strip("\"'")
    return found
