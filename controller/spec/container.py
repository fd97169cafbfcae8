"""The container part of a spec: what forces a new container when it changes, with Compose's meaning."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from controller.spec.faults import Fault, allowed, faulty
from controller.spec.values import (
    read_name_or_texts,
    read_text,
)
from controller.spec.volumes import NAME

CONTAINER_FIELDS = (
    "image",
    "command",
    "entrypoint",
    "user",
    "working_dir",
    "labels",
    "init",
    "read_only",
    "tmpfs",
    "cap_add",
    "cap_drop",
    "extra_hosts",
    "hostname",
    "networks",
    "shm_size",
    "ulimits",
    "environment",
    "secrets",
    "volumes",
    "resources",
    "port",
    "stop_signal",
)
"""A change of one of these replaces containers; so does `health.command`, which is baked into them."""

_SIGNAL = re.compile(r"^(?:SIG)?([A-Z][A-Z0-9]{1,9}(?:[+-]\d{1,2})?)$", re.ASCII)
_CAPABILITY = re.compile(r"^(?:CAP_)?([A-Z][A-Z_]{2,30})$", re.ASCII)
_HOSTNAME = re.compile(r"^(?!-)[A-Za-z0-9_.-]{1,63}(?<!-)$", re.ASCII)
_IMAGE_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?"
_IMAGE = re.compile(
    rf"^(?:(?:{_IMAGE_HOST}/)?{_IMAGE_PART}(?:/{_IMAGE_PART})*(?::[A-Za-z0-9_][\w.-]{{0,127}})?"
    r"(?:@sha256:[0-9a-f]{64})?|sha256:[0-9a-f]{64})$",
    re.ASCII,
)


def _read_image(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 512 or not _IMAGE.fullmatch(value):
        raise allowed("an image reference in lower case such as shop:1.4.2 or registry.example.com/team/shop@sha256:…")
    return value


def _read_pairs(value: Any, what: str) -> dict[str, str | None]:
    """Read a mapping or a list of KEY=VALUE; a key without value gives None."""
    if isinstance(value, Mapping):
        items = [(key, item, key) for key, item in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        items = []
        for index, entry in enumerate(value):
            key, found, item = read_text(entry).partition("=") if isinstance(entry, str) else ("", "", "")
            if not key:
                raise allowed(f"{what}: a mapping, or a list of KEY=VALUE", index)
            items.append((key, item if found else None, index))
    else:
        raise allowed(f"{what}: a mapping, or a list of KEY=VALUE")
    return _checked_pairs(items)


def _checked_pairs(items: Sequence[tuple[Any, Any, str | int]]) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    faults = []
    for key, item, at in items:
        name = read_text(key)
        if not name or "=" in name or any(ord(mark) < 32 for mark in name):
            faults.append(Fault(at=(at,), allowed="a name without = and control characters"))
        elif isinstance(item, Mapping | list | tuple):
            faults.append(Fault(at=(at,), allowed="a string, number, true, false, or nothing"))
        elif isinstance(item, str) and "\0" in item:
            faults.append(Fault(at=(at,), allowed="a string without NUL"))
        elif name in pairs and isinstance(at, int):
            faults.append(Fault(at=(at,), message=f"{name} is set twice"))
        else:
            pairs[name] = None if item is None else read_text(item)
    if faults:
        raise faulty(faults)
    return pairs


def _read_environment(value: Any) -> dict[str, str | None]:
    return _read_pairs(value, "environment")


def _read_labels(value: Any) -> dict[str, str]:
    labels = _read_pairs(value, "labels")
    ours = [key for key in labels if key.startswith("oton.")]
    if ours:
        at = (ours[0],) if isinstance(value, Mapping) else ()
        raise faulty([Fault(at=at, allowed="labels that do not start with oton.; those are ours")])
    return {key: item or "" for key, item in labels.items()}


def _read_user(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise allowed("a user such as app, 1000 or 1000:1000")
    user = read_text(value)
    if not re.fullmatch(r"[A-Za-z0-9_.@-]+(:[A-Za-z0-9_.@-]+)?", user, re.ASCII):
        raise allowed("a user such as app, 1000 or 1000:1000")
    return user


def _read_directory(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise allowed("an absolute path in the container")
    return value


def _read_hostname(value: Any) -> str:
    if not isinstance(value, str) or not _HOSTNAME.fullmatch(value):
        raise allowed("a host name of at most 63 characters: letters, digits, -, _ and .")
    return value


def _read_signal(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 64:
        return str(int(value))
    if isinstance(value, str) and value.isdigit() and 1 <= int(value[:4]) <= 64:
        return value
    if isinstance(value, str) and (match := _SIGNAL.fullmatch(value.upper())):
        return "SIG" + match[1]
    raise allowed("a signal such as SIGTERM, SIGQUIT or 15")


def _read_capabilities(value: Any) -> tuple[str, ...]:
    names = read_name_or_texts(value)
    for index, name in enumerate(names):
        if not _CAPABILITY.fullmatch(name.upper()):
            raise allowed("a capability such as NET_ADMIN, or ALL", index)
    return tuple(name.upper().removeprefix("CAP_") for name in names)


def _read_tmpfs(value: Any) -> tuple[str, ...]:
    entries = read_name_or_texts(value)
    for index, entry in enumerate(entries):
        if not entry.startswith("/") or entry.partition(":")[0].strip("/") == "":
            raise allowed("an absolute path, with options if need be: /run:size=64M,mode=1777", index)
    return entries


def _read_extra_hosts(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        pairs = [(key, read_text(key), read_text(item)) for key, item in value.items()]
    else:
        entries = read_name_or_texts(value)
        pairs = [(index, *_split_host(entry)) for index, entry in enumerate(entries)]
    for at, host, address in pairs:
        if not _HOSTNAME.fullmatch(host.replace(".", "-")[:63] or "-") or not _is_address(address):
            raise allowed("HOST:ADDRESS or HOST=ADDRESS, with an IP address or host-gateway", at)
    return tuple(f"{host}:{address}" for _, host, address in pairs)


def _split_host(entry: str) -> tuple[str, str]:
    host, _, address = entry.partition("=") if "=" in entry else entry.partition(":")
    return host, address.removeprefix("[").removesuffix("]")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return text == "host-gateway"
    return True


def _read_networks(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        for name, options in value.items():
            if options:
                raise allowed("nothing after a network's name: options are not supported", name)
        value = list(value)
    names = read_name_or_texts(value)
    for index, name in enumerate(names):
        if not NAME.fullmatch(name):
            raise allowed("the name of an existing network", index)
        if name in {"host", "none", "bridge", "default"}:
            raise allowed("a user-defined network; host, none, bridge and default cannot be joined", index)
    return tuple(dict.fromkeys(names))


_PAIRS_SCHEMA = {
    "anyOf": [
        {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}},
        {"type": "array", "items": {"type": "string"}},
    ]
}
_TEXTS_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_HOSTS_SCHEMA = {
    "anyOf": [
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "array", "items": {"type": "string"}},
    ]
}
_NETWORKS_SCHEMA = {
    "anyOf": [
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "additionalProperties": {"type": ["null", "object"], "maxProperties": 0}},
    ]
}
Image = Annotated[str, BeforeValidator(_read_image), WithJsonSchema({"type": "string", "pattern": r"^[^\s]+$"})]
Environment = Annotated[Mapping[str, str | None], BeforeValidator(_read_environment), WithJsonSchema(_PAIRS_SCHEMA)]
Labels = Annotated[Mapping[str, str], BeforeValidator(_read_labels), WithJsonSchema(_PAIRS_SCHEMA)]
User = Annotated[str, BeforeValidator(_read_user), WithJsonSchema({"type": ["string", "integer"]})]
Directory = Annotated[str, BeforeValidator(_read_directory), WithJsonSchema({"type": "string", "pattern": "^/"})]
Hostname = Annotated[
    str, BeforeValidator(_read_hostname), WithJsonSchema({"type": "string", "pattern": _HOSTNAME.pattern})
]
Signal = Annotated[str, BeforeValidator(_read_signal), WithJsonSchema({"type": ["string", "integer"]})]
Capabilities = Annotated[tuple[str, ...], BeforeValidator(_read_capabilities), WithJsonSchema(_TEXTS_SCHEMA)]
Tmpfs = Annotated[tuple[str, ...], BeforeValidator(_read_tmpfs), WithJsonSchema(_TEXTS_SCHEMA)]
ExtraHosts = Annotated[tuple[str, ...], BeforeValidator(_read_extra_hosts), WithJsonSchema(_HOSTS_SCHEMA)]
Networks = Annotated[tuple[str, ...], BeforeValidator(_read_networks), WithJsonSchema(_NETWORKS_SCHEMA)]
