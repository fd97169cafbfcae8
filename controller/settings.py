"""
Every knob of the service: one frozen object, read once from the environment and `.env`.

Knows the variables, their types, defaults and limits; knows nothing of what they are used for.
`load_settings` is the only way to get one, `load_instance` names the state directory, and
`configure_logging` is how every process of ours begins to log.
"""

from __future__ import annotations

import grp
import hashlib
import logging
import os
import pwd
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from controller.errors import Refused
from controller.knobs import (
    ProxyUser,
    between,
    is_loopback,
    knob,
    list_of,
    matching,
    one_of,
    parse_absolute,
    parse_address,
    parse_api,
    parse_capability,
    parse_cidr,
    parse_git_url,
    parse_host,
    parse_path,
    parse_proxy_user,
    parse_subnet,
    parse_target,
    whole,
)

SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
"""Longest path that the kernel takes for a Unix socket, in bytes."""

_FEED = "proxy/feed.sock"
_DYNAMIC_UIDS = range(61184, 65520)  # what systemd keeps for users that no file lists


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting as a person meets it, for flags and for the docs."""

    field: str
    variable: str
    flag: str
    meaning: str


def usable_cores() -> int:
    """Return how many cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


Port = Annotated[int, knob("a port from 1 to 65535", whole(1, 65535))]
Place = Annotated[Path, knob("a path", parse_path)]
Words = Annotated[tuple[str, ...], NoDecode]
_CIDRS = "address ranges such as 10.0.0.0/8, comma-separated"


class Settings(BaseSettings):
    """All knobs, read once; paths are absolute, durations seconds, lists tuples."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_file=".env",
        env_ignore_empty=True,
        case_sensitive=True,
        use_attribute_docstrings=True,
        validate_default=False,
    )

    port: Port = Field(3000, alias="PORT")
    """Port for public HTTP traffic."""

    tls_port: Port | None = Field(None, alias="TLS_PORT")
    """Port for public HTTPS traffic; unset: no HTTPS."""

    bind: Annotated[Words, knob("IP addresses, comma-separated", list_of(parse_address))] = Field((), alias="OTON_BIND")
    """Addresses for both public ports, comma-separated; empty: all, IPv4 and, where the machine has it, IPv6."""

    db_path: Place = Field(default_factory=lambda: parse_path("./database.db"), alias="DB_PATH")
    """SQLite file of the history (default ./database.db)."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        knob("debug, info, warning or error", one_of("debug", "info", "warning", "error")),
    ] = Field("info", alias="LOG_LEVEL")
    """Least severe message that is logged."""

    desired: Place = Field(default_factory=lambda: parse_path("./desired"), alias="OTON_DESIRED")
    """The watched directory of app specs (default ./desired)."""

    state: Place = Field(default_factory=lambda: parse_path("./.oton"), alias="OTON_STATE")
    """Instance id, route snapshot, certificates, keys, recordings; mode 0700 (default ./.oton)."""

    socket: Place = Field(default_factory=lambda data: default_socket(data.get("state", Path())), alias="OTON_SOCKET")
    """
    API socket; whoever may open it is admin (default /run/oton/oton.sock as root, else in $XDG_RUNTIME_DIR, else
    in the state directory).
    """

    api: Annotated[
        tuple[str, int] | None,
        knob(
            "off, a loopback address and port such as 127.0.0.1:3080, or a host name and port such as"
            " api.example.com:3080, which listens on every address and needs a certificate",
            parse_api,
        ),
        NoDecode,
    ] = Field(("127.0.0.1", 3080), alias="OTON_API")
    """
    REST API and metrics on TCP as host:port; beyond loopback with TLS, by the certificate of that host; `off`: the
    socket alone (default 127.0.0.1:3080).
    """

    api_host: Annotated[str, knob("a host name", parse_host)] | None = Field(None, alias="OTON_API_HOST")
    """Public host name under which the proxy serves the API; unset: none."""

    workers: Annotated[int, knob("a whole number from 1 to 256", whole(1, 256))] = Field(
        default_factory=usable_cores, alias="OTON_WORKERS"
    )
    """Number of proxy processes (default: one per core that we may use)."""

    proxy_user: Annotated[
        ProxyUser | None,
        knob("a user other than root, as name, uid or uid:gid (another than oneself only as root)", parse_proxy_user),
        NoDecode,
    ] = Field(default_factory=lambda data: default_proxy_user(data.get("state", Path())), alias="OTON_PROXY_USER")
    """Whom workers run as (default: an unused uid when root, else ourselves)."""

    upstream: Annotated[
        Literal["auto", "address", "port"], knob("auto, address or port", one_of("auto", "address", "port"))
    ] = Field("auto", alias="OTON_UPSTREAM")
    """How replicas are reached: their own address, a port published on 127.0.0.1, or whichever works."""

    network: Annotated[
        str, knob("a network name of letters, digits, _ . -", matching(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}"))
    ] = Field("oton", alias="OTON_NETWORK")
    """What the name of each app's network begins with."""

    subnet: Annotated[str, knob("an IPv4 range from /8 to /28, such as 10.88.0.0/16", parse_subnet)] | None = Field(
        None, alias="OTON_SUBNET"
    )
    """Where apps' networks get their addresses from; unset: free ranges are picked."""

    allow_binds: Annotated[Words, knob("absolute host paths, comma-separated", list_of(parse_absolute))] = Field(
        (), alias="OTON_ALLOW_BINDS"
    )
    """Host paths below which specs of non-admin tokens may bind-mount; empty: none."""

    allow_caps: Annotated[Words, knob("capabilities such as NET_ADMIN, comma-separated", list_of(parse_capability))] = (
        Field((), alias="OTON_ALLOW_CAPS")
    )
    """Capabilities that specs of non-admin tokens may add; empty: none."""

    allow_networks: Annotated[
        Words, knob("network names, comma-separated", list_of(matching(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")))
    ] = Field((), alias="OTON_ALLOW_NETWORKS")
    """Other networks that specs of non-admin tokens may join; empty: none."""

    allow_targets: Annotated[
        Words, knob("address ranges or host names with an optional port, comma-separated", list_of(parse_target))
    ] = Field((), alias="OTON_ALLOW_TARGETS")
    """Loopback and container addresses that fixed routes may go to; empty: none."""

    trusted_proxies: Annotated[Words, knob(_CIDRS, list_of(parse_cidr))] = Field((), alias="OTON_TRUSTED_PROXIES")
    """Address ranges of proxies in front of us whose X-Forwarded-* headers are believed; empty: none."""

    log_format: Annotated[Literal["console", "json"], knob("console or json", one_of("console", "json"))] = Field(
        default_factory=lambda: "console" if sys.stderr.isatty() else "json", alias="OTON_LOG_FORMAT"
    )
    """Form of the log on stderr (default: console on a TTY, else json)."""

    access_log: Annotated[str, knob("stdout, off or a file", matching(r"[^\0]+"))] = Field(
        "stdout", alias="OTON_ACCESS_LOG"
    )
    """Where the access log goes: `stdout`, `off`, or a file."""

    access_log_query: Annotated[bool, knob("true or false", lambda text: one_of("true", "false")(text) == "true")] = (
        Field(False, alias="OTON_ACCESS_LOG_QUERY")
    )
    """Whether the access log shows query strings; they often carry secrets (default false)."""

    keep_images: Annotated[int, knob("a whole number from 1 to 50", whole(1, 50))] = Field(5, alias="OTON_KEEP_IMAGES")
    """Releases per app whose images stay on the engine."""

    stop_timeout_s: Annotated[float, knob("a duration from 0s to 1h, such as 30s", between(0, 3600))] = Field(
        30.0, alias="OTON_STOP_TIMEOUT"
    )
    """Longest time in seconds that a stopping service lets open requests take (default 30s)."""

    git_url: Annotated[str, knob("an https://, ssh:// or user@host: address", parse_git_url)] | None = Field(
        None, alias="OTON_GIT_URL"
    )
    """Repository that is the source of the watched directory; unset: none."""

    git_branch: Annotated[str, knob("a branch name", matching(r"[A-Za-z0-9_][A-Za-z0-9_./\-]{0,254}"))] | None = Field(
        None, alias="OTON_GIT_BRANCH"
    )
    """Branch to follow; unset: the repository's own default."""

    git_path: Annotated[str, knob("a relative path", matching(r"(?!/)(?!.*\.\.)[^\0]*"))] = Field(
        "", alias="OTON_GIT_PATH"
    )
    """Folder in the repository that holds the specs; empty: its top."""

    git_interval_s: Annotated[float, knob("a duration from 1s to 24h, such as 1m", between(1, 86400))] = Field(
        60.0, alias="OTON_GIT_INTERVAL"
    )
    """Seconds between two looks at the repository (default 1m)."""

    git_key: Place | None = Field(None, alias="OTON_GIT_KEY")
    """Private key file for an ssh address; unset: what ssh itself finds."""

    docker_host: (
        Annotated[str, knob("unix://, tcp://, ssh:// or http(s)://", matching(r"(unix|tcp|ssh|https?|npipe|fd)://\S+"))]
        | None
    ) = Field(None, alias="DOCKER_HOST")
    """The engine's address, as the Docker CLI reads it; unset: Docker's own default."""


def load_settings(overrides: Mapping[str, object] = {}) -> Settings:
    """
    Return the settings from the environment, `.env` in the working directory and *overrides* (by field name; they win).

    Raises Refused with one line for each bad value that names the variable, what was found and what is allowed.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    unknown = sorted(set(given) - set(Settings.model_fields))
    if unknown:
        raise Refused(f"{unknown[0]}: unknown setting")
    try:
        settings = Settings(**{variable_of(name): value for name, value in given.items()})  # type: ignore[arg-type]
    except ValidationError as error:
        # A default that hangs on a refused value is refused with it; the person has only the value to mend.
        bad = [one for one in error.errors() if one["type"] != "default_factory_not_called"]
        raise Refused("\n".join(dict.fromkeys(_say(one) for one in bad))) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f".env: cannot be read: {error}") from None
    _check_socket_paths(settings)
    if settings.api_host is not None and settings.api is not None and not is_loopback(settings.api[0]):
        raise Refused(
            f'OTON_API: found "{settings.api[0]}:{settings.api[1]}" beside OTON_API_HOST, allowed: a loopback address,'
            " which the proxy serves under OTON_API_HOST; unset one of the two"
        )
    return settings


def _say(error: Any) -> str:
    field = str(error["loc"][0])
    found = error["input"]
    wrapped = error.get("ctx", {}).get("error")
    allowed = str(wrapped) if wrapped is not None else error["msg"]
    return f'{variable_of(field)}: found "{str(found)[:80]}", allowed: {allowed}'


def _check_socket_paths(settings: Settings) -> None:
    for variable, path, tail in (
        ("OTON_SOCKET", settings.socket, ""),
        ("OTON_STATE", settings.state, "/" + _FEED),
    ):
        size = len(os.fsencode(str(path) + tail))
        if size > SOCKET_PATH_BYTES:
            limit = SOCKET_PATH_BYTES - len(tail)
            raise Refused(
                f'{variable}: found "{path}" ({size - len(tail)} bytes), allowed: a path of at most {limit} bytes,'
                " since the system takes no longer one for a socket"
            )


def variable_of(field: str) -> str:
    """Return the environment variable that sets *field*."""
    info = Settings.model_fields.get(field)
    return str(info.alias) if info is not None else field


def list_knobs() -> tuple[Knob, ...]:
    """Return every setting with its variable, the flag of `oton serve` and its meaning, in the order of the docs."""
    return tuple(
        Knob(
            field=name,
            variable=str(info.alias),
            flag="--" + str(info.alias).removeprefix("OTON_").lower().replace("_", "-"),
            meaning=" ".join((info.description or "").split()),
        )
        for name, info in Settings.model_fields.items()
    )


def default_socket(state: Path) -> Path:
    """Return where the API socket is if nobody says otherwise."""
    if os.geteuid() == 0:
        return Path("/run/oton/oton.sock")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) / "oton" / "oton.sock" if runtime.startswith("/") else state / "oton.sock"


def default_proxy_user(state: Path) -> ProxyUser | None:
    """Return a uid that nobody here has, the same at every start of one state directory; None if not root."""
    if os.geteuid() != 0:
        return None
    uid = pick_uid(hashlib.sha256(os.fsencode(str(state))).digest(), ())
    return None if uid is None else ProxyUser(uid, uid)


def pick_uid(digest: bytes, taken: Collection[int]) -> int | None:
    """Return a uid that nobody here has and that is none of *taken*, the same for the same *digest*."""
    start = int.from_bytes(digest[:4]) % len(_DYNAMIC_UIDS)
    for step in range(len(_DYNAMIC_UIDS)):
        uid = _DYNAMIC_UIDS[(start + step) % len(_DYNAMIC_UIDS)]
        if uid not in taken and not _is_known(uid):
            return uid
    return None


def _is_known(number: int) -> bool:
    for look_up in (pwd.getpwuid, grp.getgrgid):
        with suppress(KeyError):
            look_up(number)
            return True
    return False


def load_instance(state: Path) -> str:
    """
    Return the id of this state directory: random, made at the first call and the same ever after.

    Makes the directory with mode 0700. Raises Refused where it cannot be ours.
    """
    _prepare_state(state)
    place = state / "instance"
    try:
        if not place.exists():
            _write_once(place, secrets.token_hex(6))
        instance = place.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{place}: cannot be read or made: {error}") from error
    if not re.fullmatch(r"[0-9a-f]{12}", instance):
        raise Refused(
            f'{place}: found "{instance[:40]}", allowed: 12 hexadecimal digits; restore it or choose another OTON_STATE'
        )
    return instance


def _prepare_state(state: Path) -> None:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = state.stat()
    except OSError as error:
        raise Refused(
            f'OTON_STATE: found "{state}", allowed: a directory that we can make or own ({error.strerror})'
        ) from error
    if found.st_uid != os.geteuid():
        raise Refused(
            f'OTON_STATE: found "{state}" of uid {found.st_uid}, allowed: a directory of our own uid {os.geteuid()}'
        )
    if stat.S_IMODE(found.st_mode) & 0o022 and not (state / "instance").exists():
        raise Refused(f'OTON_STATE: found "{state}" that others may write to, allowed: a directory of our own')
    if stat.S_IMODE(found.st_mode) != 0o700:
        state.chmod(0o700)


def _write_once(place: Path, text: str) -> None:
    """Write *text* so that a reader sees all or nothing, and of two writers the first one wins."""
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".instance-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(name, place)
    finally:
        Path(name).unlink()


def configure_logging(settings: Settings) -> None:
    """Send this process's log, structlog's and the standard library's alike, to stderr in the form asked for."""
    import structlog  # noqa: PLC0415 - 140 ms that a process without a log need not pay

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(settings.log_format)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    _quieten(settings.log_level)


def _renderers(form: str) -> list[Any]:
    import structlog  # noqa: PLC0415 - see configure_logging

    if form == "json":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    # The default formatter prints the locals of every frame: secrets would stand in the log.
    return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)]


def _quieten(level: str) -> None:
    """Keep libraries that log each of their steps to their warnings, or to what they inform of while debugging."""
    least = logging.INFO if level == "debug" else logging.WARNING
    for name in ("alembic", "docker", "urllib3", "watchfiles", "httpx", "httpcore", "asyncio", "mitmproxy"):
        logging.getLogger(name).setLevel(least)
