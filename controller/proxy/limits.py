"""Every bound and deadline of the lane that is not an app's own; `docs/limits.md` is the same as a table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The lane's bounds; each docstring gives the unit and what happens beyond it."""

    header_bytes: int = 32 * 1024
    """Bytes of a request's line and headers; 431."""
    header_count: int = 100
    """Header lines of a request; 431."""
    header_s: float = 10.0
    """Seconds from a request's first byte (or the connection's start) to the end of its headers; 408."""
    keepalive_s: float = 75.0
    """Seconds that a connection may wait for its next request; closed."""
    body_bytes_per_s: int = 500
    """Slowest pace of a request body over `pace_window_s`, and of a client that reads over `reader_window_s`."""
    pace_window_s: float = 10.0
    """Seconds over which a body's pace is taken; 408, or 504 where the replica does not read it."""
    reader_window_s: float = 60.0
    """Seconds over which a reader's pace is taken, once a buffer waits for it; cut."""
    connect_s: float = 2.0
    """Seconds to connect to a replica; the next one is tried, then 502."""
    answer_header_bytes: int = 64 * 1024
    """Bytes of an answer's status line and headers; 502."""
    answer_header_count: int = 200
    """Header lines of an answer; 502."""
    idle_s: float = 300.0
    """Seconds between two bytes of an answer, where the app says nothing else; cut."""
    stream_idle_s: float = 3600.0
    """The same for event streams and WebSockets."""
    upstream_idle_s: float = 4.0
    """Seconds that an unused connection to a replica is kept; below the 5 s after which usual servers close."""
    unsafe_idle_s: float = 1.0
    """Seconds of idleness after which a connection to a replica carries no POST any more."""
    head_rest_s: float = 0.5
    """Seconds that a connection to a replica rests after an answer to HEAD, lest a body come that must not."""
    upstream_idle_count: int = 256
    """Unused connections kept to one replica."""
    connections: int = 20_000
    """Open client connections of one worker, those that still shake hands by TLS too; newcomers are closed."""
    connections_per_client: int = 4_000
    """The same of one client address, but for trusted proxies; newcomers are closed."""
    replay_bytes: int = 64 * 1024
    """Bytes of a request body that are kept for a retry; a longer one is not retried once it was sent."""
    retry_share: float = 0.2
    """Retries of an app as a share of its requests of the last `retry_window_s`."""
    retry_window_s: float = 10.0
    """Seconds that the retry share looks back."""
    retry_floor: float = 10.0
    """Retries a second that an app may always make."""
    eject_s: float = 10.0
    """Seconds that a replica which refused is set aside, unless a new table comes first."""
    held_requests: int = 1_000
    """Requests of one app that wait during a hold; 503."""
    held_bytes: int = 64 * 1024**2
    """Bytes of their bodies that wait with them; 503."""
    buffer_bytes: int = 64 * 1024
    """Bytes that wait for a slow receiver before the sender is paused."""
    half_closed_s: float = 5.0
    """Seconds to the head of an answer for a client that sends nothing more and so may have gone; cut."""
    linger_s: float = 2.0
    """Seconds that a refused client may go on sending before the connection is closed."""
    websocket_close_s: float = 1.0
    """Seconds to find a border between frames for a close frame; then the connection is reset."""
