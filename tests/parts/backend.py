"""
The app that tests and the demo run in containers: an HTTP/1.1 server that can misbehave on demand.

Standard library only, one file, plain sockets and one thread a connection, so that it controls each byte.
What it does at large is set by environment variables (see `Manners`), what one answer does by the path.

    /  /version       version, host name and the request's id
    /healthz          200, or 503 while not ready
    /slow?s=5         answers after s seconds
    /early            103 Early Hints, then 200
    /trailers         chunked, with a trailer
    /reset            cut before the head;  /reset-head: inside it;  /reset-body: inside the body
    /sse?n=3&s=0.1    n events, s seconds apart (n=0: until the connection ends)
    /ws               WebSocket echo; the text "version" is answered with the version
    /raw              the request head as its bytes arrived
    /echo             the request's body
    /bytes?n=10       n bytes with a length;  /chunks?n=3&s=0.1: n chunks
    /status?code=418  that status
    /hog?mb=64        keeps that much memory
    /crash?code=1     ends the process at once

Each request is logged as one JSON line on stdout, and in $LOG_DIR where set, once taken ("got") and once its
last byte was handed to the kernel ("done"), with the id from X-Check-Id.
"""

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from urllib.parse import parse_qsl, urlsplit

WEBSOCKET_KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Manners:
    """How this process behaves at large, from the environment."""

    def __init__(self, environ=os.environ):
        number = lambda name, default=0.0: float(environ.get(name) or default)  # noqa: E731
        self.version = environ.get("VERSION", "v1")
        self.port = int(number("PORT", 8000))  # WRONG: listen elsewhere than the spec says
        self.start_delay_s = number("START_DELAY_S")  # before it listens
        self.ready_delay_s = number("READY_DELAY_S")  # listening, but /healthz says 503
        self.never_ready = environ.get("NEVER_READY", "")  # the reason that /healthz gives for ever
        self.answer_status = int(number("ANSWER_STATUS", 200))  # of everything, /healthz too
        self.crash_at_start = environ.get("CRASH_AT_START", "")  # the last words
        self.crash_after_s = number("CRASH_AFTER_S")  # after it was started
        self.flap_s = number("FLAP_S")  # /healthz changes its mind that often
        self.ignore_term = bool(environ.get("IGNORE_TERM"))
        self.close_after = int(number("CLOSE_AFTER"))  # answers on one connection, then it is cut unannounced
        self.idle_s = number("IDLE_S", 75)  # keep-alive
        self.stop_limit_s = number("STOP_LIMIT_S", 30)  # for open requests after TERM
        self.memory_hog_mb = int(number("MEMORY_HOG_MB"))
        self.log_flood = int(number("LOG_FLOOD"))  # lines at start
        self.log_dir = environ.get("LOG_DIR", "")


class Backend:
    """The server; what its connections share."""

    def __init__(self, manners):
        self.manners = manners
        self.host = socket.gethostname()
        self.started = time.monotonic()
        self.stopping = False
        self.complained = 0.0
        self.lock = threading.Lock()
        self.idle = set()  # connections that wait for a request
        self.open = 0  # requests under way
        self.kept = []
        self.log_files = [1]
        if manners.log_dir:
            name = f"{self.host}-{os.getpid()}.log"
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self.log_files.append(os.open(f"{manners.log_dir}/{name}", flags, 0o644))

    def log(self, event, **more):
        line = {"event": event, "version": self.manners.version, "host": self.host, "at": round(time.time(), 4), **more}
        data = (json.dumps(line) + "\n").encode()
        for file in self.log_files:
            os.write(file, data)

    def say(self, text):
        """Print one line for a person."""
        os.write(1, f"{time.strftime('%H:%M:%S')} {text}\n".encode())

    def run(self):
        manners = self.manners
        signal.signal(signal.SIGTERM, signal.SIG_IGN if manners.ignore_term else self.on_term)
        signal.signal(signal.SIGINT, self.on_term)
        for number in range(manners.log_flood):
            self.log("flood", number=number, text="x" * 200)
        if manners.crash_at_start:
            print(manners.crash_at_start, file=sys.stderr, flush=True)
            return 1
        time.sleep(manners.start_delay_s)
        if manners.memory_hog_mb:
            self.kept.append(bytearray(os.urandom(1 << 20) * manners.memory_hog_mb))
        if manners.crash_after_s:
            threading.Thread(target=self.crash_later, daemon=True).start()
        self.listener = socket.create_server(("", manners.port), backlog=1024, reuse_port=False)
        self.log("listening", port=manners.port)
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                break
            threading.Thread(target=Connection(self, connection).serve, daemon=True).start()
        end = time.monotonic() + manners.stop_limit_s
        while self.open and time.monotonic() < end:
            time.sleep(0.01)
        self.log("stopped", cut=self.open)
        return 0

    def on_term(self, *_):
        self.stopping = True
        self.log("stopping", open=self.open)
        listener = getattr(self, "listener", None)
        if listener is None:
            os._exit(0)
        listener.shutdown(socket.SHUT_RDWR)  # wakes accept; closing alone would not
        listener.close()
        for connection in list(self.idle):
            connection.close_idle()

    def crash_later(self):
        time.sleep(self.manners.crash_after_s)
        print("fatal: the queue is gone, giving up", file=sys.stderr, flush=True)
        os._exit(3)

    def readiness(self):
        """Return status and text of /healthz."""
        manners, age = self.manners, time.monotonic() - self.started
        if manners.never_ready:
            return 503, manners.never_ready
        if age < manners.ready_delay_s:
            return 503, "warming up"
        if manners.flap_s and int(age / manners.flap_s) % 2:
            return 503, "flapping"
        return manners.answer_status, "ok" if manners.answer_status < 400 else "broken on purpose"


class Gone(Exception):
    """The peer has closed, or we cut the connection on purpose."""


class Connection:
    """One client connection, one request after the other."""

    def __init__(self, backend, sock):
        self.backend, self.sock = backend, sock
        self.rest = b""
        self.answered = 0
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def serve(self):
        try:
            while self.one_request():
                pass
        except (Gone, OSError):
            pass
        finally:
            self.backend.idle.discard(self)
            self.sock.close()

    def close_idle(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RD)

    def one_request(self):
        backend = self.backend
        self.sock.settimeout(backend.manners.idle_s)
        backend.idle.add(self)
        try:
            if backend.stopping and not self.rest:
                return False
            head = self.read_head()
        finally:
            backend.idle.discard(self)
        with backend.lock:
            backend.open += 1
        try:
            self.sock.settimeout(300)
            return self.answer(Request(head, self))
        finally:
            with backend.lock:
                backend.open -= 1

    def answer(self, request):
        backend = self.backend
        heard = {"id": request.id, "method": request.method, "path": request.target}
        is_probe = request.path == "/healthz" and not request.id  # a line each would bury all else
        if not is_probe:
            backend.log("got", **heard)
        self.keep = request.keeps and not backend.stopping
        page = PAGES.get(request.path, plain)
        page(self, request)
        self.answered += 1
        if not is_probe:
            backend.log("done", **heard)
        if backend.manners.close_after and self.answered >= backend.manners.close_after:
            return False
        return self.keep

    # reading

    def fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise Gone
        self.rest += data

    def read_head(self):
        while b"\r\n\r\n" not in self.rest:
            self.fill()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def read_exactly(self, size):
        while len(self.rest) < size:
            self.fill()
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    def read_line(self):
        while b"\r\n" not in self.rest:
            self.fill()
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line

    # writing

    def send(self, data):
        self.sock.sendall(data)

    def head(self, status, *headers, length=None):
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}", f"X-Version: {self.backend.manners.version}"]
        lines += [f"X-Host: {self.backend.host}", *headers]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        if not self.keep:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def reply(self, request, status, body, *headers):
        body = body if isinstance(body, bytes) else body.encode()
        head = self.head(status, *(headers or ("Content-Type: text/plain",)), length=len(body))
        self.send(head if request.method == "HEAD" else head + body)

    def chunk(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def cut(self):
        """Reset the connection: the peer sees ECONNRESET, never a clean end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        raise Gone


class Request:
    """One parsed request with its whole body."""

    def __init__(self, raw, connection):
        self.raw = raw
        lines = raw.decode("latin-1").split("\r\n")
        self.method, self.target, self.protocol = lines[0].split(" ", 2)
        self.headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                self.headers[name.lower()] = value.strip()
        url = urlsplit(self.target)
        self.path, self.query = url.path, dict(parse_qsl(url.query))
        self.id = self.headers.get("x-check-id", "")
        tokens = self.headers.get("connection", "").lower()
        self.keeps = "close" not in tokens and (self.protocol != "HTTP/1.0" or "keep-alive" in tokens)
        if self.headers.get("expect", "").lower() == "100-continue":
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.body = self.read_body(connection)

    def read_body(self, connection):
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return connection.read_exactly(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(connection.read_line().split(b";")[0], 16):
            body += connection.read_exactly(size)
            connection.read_exactly(2)
        while connection.read_line():
            pass
        return body

    def number(self, name, default):
        return float(self.query.get(name, default))


def plain(connection, request):
    manners = connection.backend.manners
    body = f"{manners.version} {connection.backend.host} {request.id}\n"
    connection.reply(request, manners.answer_status, body)


def healthz(connection, request):
    status, text = connection.backend.readiness()
    backend = connection.backend
    if status >= 400 and time.monotonic() - backend.complained > 1:
        backend.complained = time.monotonic()
        backend.say(f"not ready: {text}")
    connection.reply(request, status, text + "\n")


def slow(connection, request):
    time.sleep(request.number("s", 5))
    plain(connection, request)


def early(connection, request):
    connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
    time.sleep(request.number("s", 0.05))
    plain(connection, request)


def trailers(connection, request):
    connection.send(connection.head(200, "Transfer-Encoding: chunked", "Trailer: X-Sum"))
    connection.chunk(b"body")
    connection.send(b"0\r\nX-Sum: 4\r\n\r\n")


def reset(connection, request):
    connection.cut()


def reset_head(connection, request):
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    time.sleep(0.05)
    connection.cut()


def reset_body(connection, request):
    connection.send(connection.head(200, length=1000) + b"x" * 100)
    time.sleep(0.05)
    connection.cut()


def sse(connection, request):
    connection.send(connection.head(200, "Content-Type: text/event-stream", "Transfer-Encoding: chunked"))
    count, number = int(request.number("n", 3)), 0
    while not count or number < count:
        connection.chunk(f"id: {number}\ndata: {connection.backend.manners.version}\n\n".encode())
        number += 1
        time.sleep(request.number("s", 0.1))
    connection.send(b"0\r\n\r\n")


def chunks(connection, request):
    connection.send(connection.head(200, "Transfer-Encoding: chunked"))
    for number in range(int(request.number("n", 3))):
        connection.chunk(f"chunk {number}\n".encode())
        time.sleep(request.number("s", 0))
    connection.send(b"0\r\n\r\n")


def raw(connection, request):
    connection.reply(request, 200, request.raw, "Content-Type: application/octet-stream")


def echo(connection, request):
    connection.reply(request, connection.backend.manners.answer_status, request.body)


def some_bytes(connection, request):
    connection.reply(request, 200, b"x" * int(request.number("n", 10)))


def status(connection, request):
    connection.reply(request, int(request.number("code", 200)), "as asked\n")


def hog(connection, request):
    connection.backend.kept.append(bytearray(os.urandom(1 << 20) * int(request.number("mb", 64))))
    plain(connection, request)


def crash(connection, request):
    print("fatal: asked to crash", file=sys.stderr, flush=True)
    os._exit(int(request.number("code", 1)))


def websocket(connection, request):
    key = request.headers.get("sec-websocket-key", "")
    accept = base64.b64encode(hashlib.sha1((key + WEBSOCKET_KEY).encode()).digest()).decode()
    connection.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + f"X-Version: {connection.backend.manners.version}\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    connection.keep = False
    while True:
        kind, data = read_frame(connection)
        if kind == 8:
            connection.send(frame(8, data[:2]))
            return
        if kind == 9:
            connection.send(frame(10, data))
        elif kind in (1, 2):
            connection.send(frame(kind, connection.backend.manners.version.encode() if data == b"version" else data))


def read_frame(connection):
    first, second = connection.read_exactly(2)
    size = second & 127
    if size == 126:
        size = int.from_bytes(connection.read_exactly(2), "big")
    elif size == 127:
        size = int.from_bytes(connection.read_exactly(8), "big")
    mask = connection.read_exactly(4) if second & 128 else b"\0\0\0\0"
    data = connection.read_exactly(size)
    return first & 15, bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))


def frame(kind, data):
    size = len(data)
    if size < 126:
        return bytes([128 | kind, size]) + data
    if size < 65536:
        return bytes([128 | kind, 126]) + size.to_bytes(2, "big") + data
    return bytes([128 | kind, 127]) + size.to_bytes(8, "big") + data


PAGES = {
    "/healthz": healthz,
    "/slow": slow,
    "/early": early,
    "/trailers": trailers,
    "/reset": reset,
    "/reset-head": reset_head,
    "/reset-body": reset_body,
    "/sse": sse,
    "/chunks": chunks,
    "/raw": raw,
    "/echo": echo,
    "/bytes": some_bytes,
    "/status": status,
    "/hog": hog,
    "/crash": crash,
    "/ws": websocket,
}
REASONS = {200: "OK", 404: "Not Found", 500: "Internal Server Error", 503: "Service Unavailable"}

if __name__ == "__main__":
    if sys.argv[1:] == ["--files"]:  # what the image must hold besides the interpreter
        import encodings.idna
        import encodings.latin_1  # noqa: F401

        print(json.dumps(sorted({m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)})))
        sys.exit(0)
    sys.exit(Backend(Manners()).run())
