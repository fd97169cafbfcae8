"""Tells the app which tenant a request is for, by the first part of its host; robots are kept out."""

from mitmproxy import http


def request(flow: http.HTTPFlow) -> None:
    """Answer robots here, and name the tenant for everybody else."""
    if "bot" in flow.request.headers.get("User-Agent", "").lower():
        flow.response = http.Response.make(403, b"no robots here\n", {"Content-Type": "text/plain"})
        return
    flow.request.headers["X-Tenant"] = flow.request.pretty_host.partition(".")[0]


def response(flow: http.HTTPFlow) -> None:
    """Show that it was here."""
    if flow.response is not None:
        flow.response.headers["X-Seen-By"] = "tenant"
