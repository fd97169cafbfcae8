"""Hypothesis strategies that draw whole specs, as values and as YAML."""

from __future__ import annotations

from hypothesis import strategies as st

from controller.spec.model import AppSpec

names = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
multiline = st.lists(texts, max_size=3).map("\n".join)
keys = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
durations = st.integers(0, 10_000_000).map(lambda ms: ms / 1000)
positive = st.integers(50, 10_000_000).map(lambda ms: ms / 1000)
sizes = st.integers(8 * 1024**2, 2**40)
hosts = st.from_regex(r"[a-z]{1,5}(\.[a-z0-9]{1,5}){1,2}", fullmatch=True)
paths = st.sampled_from(["/", "/shop", "/a/b", "/x-y", "/%C3%A9"])
words = st.lists(texts, max_size=3).map(tuple)
shares = st.one_of(st.integers(1, 9), st.integers(1, 100).map(lambda n: f"{n}%"))


def optional(**fields):
    """Draw a mapping with any of *fields*."""
    return st.fixed_dictionaries({}, optional=fields)


routes = st.lists(
    optional(host=st.one_of(st.none(), hosts, hosts.map("*.{}".format)), path=paths, strip_path=st.booleans()),
    max_size=3,
    unique_by=lambda route: (route.get("host"), route.get("path", "/")),
)
healths = optional(
    path=st.sampled_from(["/", "/healthz?full=1"]),
    interval=positive,
    steady=positive,
    timeout=positive,
    passes=st.integers(1, 9),
    failures=st.integers(1, 9),
    start_period=durations,
    status=st.sampled_from([200, "200-299", ["200", "204-299"], "200,404"]),
    host=hosts,
    headers=st.dictionaries(keys, keys, max_size=2),
    command=st.one_of(st.just("curl -f x"), st.just(["curl", "x"]), st.just(["CMD", "NONE"])),
)
strategies = st.one_of(
    st.sampled_from(["rolling", "blue_green", "canary", "recreate"]),
    st.fixed_dictionaries({"type": st.just("rolling"), "max_surge": shares}, optional={"max_unavailable": shares}),
    st.fixed_dictionaries(
        {"type": st.just("blue_green")},
        optional={
            "promote": st.sampled_from(["auto", "manual"]),
            "promote_after": durations,
            "keep_old": durations,
            "preview_host": st.just("preview.only.test"),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.just("canary")},
        optional={
            "steps": st.just([{"weight": 5, "hold": 1.5}, {"weight": 60}]),
            "abort_on": optional(
                error_rate=st.sampled_from([None, "1%", "2.5%"]),
                p95=st.none() | positive,
                min_requests=st.integers(1, 99),
            ),
        },
    ),
    st.fixed_dictionaries({"type": st.just("recreate")}, optional={"hold": positive}),
)
proxies = optional(
    timeout=positive,
    idle=positive,
    body_limit=sizes,
    max_in_flight=st.integers(1, 5000),
    https=st.sampled_from(["auto", "allow", "redirect", "only"]),
    hsts=durations,
    sticky=st.booleans(),
    assets=st.lists(paths, max_size=2),
    headers=optional(
        request=optional(set=st.dictionaries(keys, keys, max_size=2), remove=st.lists(keys, max_size=2)),
        response=optional(set=st.dictionaries(keys, keys, max_size=2)),
    ),
    allow=st.just(["10.0.0.0/8", "2001:db8::/32"]),
    rate_limit=st.fixed_dictionaries(
        {"requests": st.integers(1, 99)}, optional={"per": positive, "burst": st.integers(1, 9)}
    ),
    canonical_host=hosts,
    redirects=st.just([{"from": "/old", "to": "https://new.test/", "code": 308}]),
)
volumes = st.lists(
    st.sampled_from(
        [
            "data:/var/lib/a",
            "/srv/x:/b:ro,z",
            "/anonymous",
            {"name": "X", "external": True, "target": "/c"},
            {"source": "/srv/with:colon", "target": "/d", "read_only": True},
            "data2:/e:nocopy",
        ]
    ),
    max_size=4,
    unique_by=str,
)
fields = {
    "replicas": st.integers(0, 20),
    "command": words,
    "entrypoint": words,
    "user": st.sampled_from(["app", "1000:1000"]),
    "working_dir": st.just("/srv"),
    "labels": st.dictionaries(keys, texts, max_size=2),
    "init": st.booleans(),
    "read_only": st.booleans(),
    "tmpfs": st.just(["/run:size=1M"]),
    "cap_add": st.just(["net_admin"]),
    "cap_drop": st.just(["ALL"]),
    "extra_hosts": st.sampled_from([["db:10.0.0.1"], {"v6": "::1"}]),
    "hostname": st.just("web"),
    "networks": st.just(["backend"]),
    "shm_size": sizes,
    "ulimits": st.just({"nofile": 1024, "nproc": {"soft": 1, "hard": 2}}),
    "environment": st.dictionaries(
        keys, st.one_of(st.none(), texts, multiline, st.booleans(), st.integers()), max_size=4
    ),
    "secrets": st.just(["A_KEY_OF_ITS_OWN_NAME", {"name": "CERT_OF_ITS_OWN_NAME", "file": True}]),
    "volumes": volumes,
    "resources": optional(cpus=st.sampled_from([0.5, 2, 1.25]), memory=sizes, pids=st.integers(1, 999)),
    "stop_signal": st.sampled_from(["TERM", 15, "SIGRTMIN+3"]),
    "pull": st.sampled_from(["missing", "always", "never"]),
    "routes": routes,
    "health": healths,
    "strategy": strategies,
    "deadline": positive,
    "drain": durations,
    "stop_grace": durations,
    "bake": durations,
    "before": st.fixed_dictionaries({"command": st.just(["migrate", "no"])}, optional={"timeout": positive}),
    "suspend": st.booleans(),
    "proxy": proxies,
}
raw_specs = st.fixed_dictionaries({"name": names, "image": st.just("shop:1"), "port": st.just(8000)}, optional=fields)
specs = raw_specs.map(AppSpec.model_validate)
