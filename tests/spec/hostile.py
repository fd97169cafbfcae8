"""Values for every field that the proxy reads, as a person might get them wrong, or a tenant mean harm by them."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.spec.drawing import durations, hosts, optional, positive, sizes

odd_texts = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="/[]%@:?#\\ .*~'\"<>$()-_aéß€\u2028\x00\x01\x7f\x85\r\n\t", max_size=14),
    st.sampled_from(["", "/", "//", "//shop/old", "[", "]", "%", "%zz", "x" * 2100, "..", "*", "xn--", "xn--a"]),
)
odd_hosts = st.one_of(
    hosts,
    st.sampled_from(
        [
            "[shop",
            "[::1]",
            "::1",
            "1.2.3.4",
            "shop.test.",
            "bücher.example",
            "faß.de",
            "a_b.test",
            "xn--mnchen-3ya.de",
            "host:99999",
            "user@shop.test",
            "-a.test",
            "a" * 63 + ".test",
            ("a" * 60 + ".") * 4 + "test",
            "*.shop.test",
            "\uff10.test",
            "a..b",
            "shop.test:0",
            "shop.test:8080",
            "LOCALHOST",
        ]
    ),
    odd_texts,
)
odd_paths = st.one_of(
    st.sampled_from(["/", "/a", "/größe", "/a%2eb", "/%C3%A9", "/a//b", "/a/../b", "/a;b=c", "/$&'()*+,;=:@!", "/a b"]),
    odd_texts.map("/{}".format),
)
places = st.one_of(
    st.sampled_from(
        ["/old", "/a?b=c#d", "https://shop.test/x", "http://bücher.example:8080/ä", "https://faß.de", "/é€"]
    ),
    odd_paths,
    st.builds("{}{}{}".format, st.sampled_from(["http://", "https://", "HTTP://", "ftp://", ""]), odd_hosts, odd_paths),
    st.builds("https://{}".format, odd_hosts),
    odd_texts,
)
HASH = "N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"
accounts = st.one_of(
    st.builds(
        "{}:$2{}${:02d}${}".format,
        st.sampled_from(["ann", "ä", "a b"]),
        st.sampled_from("abyx"),
        st.integers(0, 99),
        st.just(HASH),
    ),
    st.just("bob:$apr1$salt$0123456789012345678901"),
    st.just("cid:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
    odd_texts,
)
networks = st.one_of(
    st.sampled_from(
        [
            "10.0.0.0/8",
            "10.1.2.3/8",
            "::/0",
            "2001:db8::/32",
            "fe80::1%eth0/64",
            "::ffff:10.0.0.0/104",
            "0.0.0.0/0",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/33",
            "010.0.0.1",
            "1",
            "10.0.0.0/-1",
        ]
    ),
    odd_texts,
)
numbers = st.one_of(st.integers(-2, 10**6), st.sampled_from([10**9, 10**18, 10**400, 2**63]))
names = st.one_of(
    st.sampled_from(["X-A", "Host", "content-length", "Transfer-Encoding", "X-Oton-Upstream", "a_b"]), odd_texts
)
values = st.one_of(st.sampled_from(["1", "é", "€", "a\r\nb", " a", "\x00", "a\tb", ""]), odd_texts)
edits = optional(set=st.dictionaries(names, values, max_size=3), remove=st.lists(names, max_size=3))
proxies = optional(
    timeout=positive,
    idle=positive,
    body_limit=st.one_of(sizes, numbers),
    max_in_flight=numbers,
    https=st.sampled_from(["auto", "allow", "redirect", "only"]),
    hsts=durations,
    sticky=st.booleans(),
    assets=st.lists(odd_paths, max_size=3),
    headers=optional(request=edits, response=edits),
    basic_auth=st.lists(accounts, max_size=3),
    allow=st.lists(networks, max_size=3),
    rate_limit=optional(requests=numbers, per=positive, burst=numbers),
    canonical_host=odd_hosts,
    redirects=st.lists(
        st.fixed_dictionaries(
            {"from": places, "to": places}, optional={"code": st.sampled_from([301, 302, 303, 307, 308])}
        ),
        max_size=3,
    ),
    inspect=st.booleans(),
)
routes = st.lists(
    optional(
        host=st.one_of(st.none(), odd_hosts, odd_hosts.map("*.{}".format)), path=odd_paths, strip_path=st.booleans()
    ),
    max_size=3,
)
raw_specs = st.fixed_dictionaries(
    {"name": st.just("hostile"), "image": st.just("shop:1"), "port": st.just(8000)},
    optional={
        "routes": routes,
        "proxy": proxies,
        "strategy": st.builds(lambda host: {"type": "blue_green", "preview_host": host}, odd_hosts),
    },
)
"""Specs of which many do not validate; those that do have to be taken."""
