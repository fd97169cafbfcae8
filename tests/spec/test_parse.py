"""A file of specs is answered as a compiler would: all problems at once, each with its line."""

from __future__ import annotations

import pytest

from controller.spec.parse import parse_file
from tests.spec.reading import problems_of, spec_of


def texts(data, **more):
    data = data if isinstance(data, bytes) else data.encode()
    return [problem.text for problem in parse_file(data, "f.yaml", **more).problems]


GOOD = "name: a\nimage: b\n"


def test_all_problems_are_told_at_once_in_the_words_of_the_contract():
    text = 'name: shop\nimage: shop:1\nport: 8000\nhealth:\n  path: /x\n  interval: "fast"\nstrategi: rolling\nreplicas: -1\n'
    assert texts(text) == [
        'f.yaml:6: health.interval: found "fast", allowed: a duration such as 500ms, 10s, 2m, 1h30m',
        'f.yaml:7: strategi: unknown field, did you mean "strategy"?',
        'f.yaml:8: replicas: found "-1", allowed: at least 0',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("health: {pth: /}", '1: health.pth: unknown field, did you mean "path"?'),
        (
            "routes:\n  - host: a.test\n    strippath: true\nport: 1",
            '3: routes[0].strippath: unknown field, did you mean "strip_path"?',
        ),
        ("strategy:\n  type: blue_green\n  promot: auto", '3: strategy.promot: unknown field, did you mean "promote"?'),
        ("strategy: {type: canary, steps: [{wait: 1}]}", "1: strategy.steps[0].weight: is missing; it is required"),
        (
            "strategy: {type: canary, abort_on: {p59: 1s}}",
            '1: strategy.abort_on.p59: unknown field, did you mean "p95"?',
        ),
        ("resources: {mem: 1G}", '1: resources.mem: unknown field, did you mean "memory"?'),
        (
            "proxy: {headers: {request: {sett: {}}}}",
            '1: proxy.headers.request.sett: unknown field, did you mean "set"?',
        ),
        ("proxy: {rate_limit: {request: 1}}", '1: proxy.rate_limit.request: unknown field, did you mean "requests"?'),
        ("proxy: {redirects: [{form: /a, to: /b}]}", '1: proxy.redirects[0].form: unknown field, did you mean "from"?'),
        ("volumes: [{target: /a, sorce: x}]", '1: volumes[0].sorce: unknown field, did you mean "source"?'),
        ("secrets: [{nam: x}]", '1: secrets[0].nam: unknown field, did you mean "name"?'),
        ("before: {comand: x}", '1: before.comand: unknown field, did you mean "command"?'),
        ("ulimits: {nofile: {sof: 1, hard: 2}}", '1: ulimits.nofile.sof: unknown field, did you mean "soft"?'),
        ("zzz: 1", "1: zzz: unknown field"),
        ("health: {zzz: 1}", "1: health.zzz: unknown field, allowed: path, interval, steady"),
        ("ports: ['80:80']", "1: ports: unknown field; `port` is the one that speaks HTTP"),
        ("depends_on: [db]", "1: depends_on: unknown field; apps do not wait"),
        ("services: {web: {}}", "1: services: unknown field; this looks like a Compose file"),
    ],
)
def test_an_unknown_field_comes_with_a_suggestion_at_every_level(text, expected):
    assert any(expected in problem for problem in problems_of(text)), problems_of(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: Shop", '1: name: found "Shop", allowed: a-z, 0-9 and -, starting with a letter, at most 40 characters'),
        ("name: 1shop", '1: name: found "1shop", allowed: a-z'),
        ("name: " + "a" * 41, "1: name: found"),
        ("name: true", '1: name: found "true", allowed: a-z'),
        ("name: []", "1: name: found a list, allowed"),
        ("name:", "1: name: found nothing, allowed"),
        ("image: 'shop 1'", '1: image: found "shop 1", allowed: an image reference'),
        ("image: Shop", "allowed: an image reference in lower case"),
        ("image: 1.4", '1: image: found "1.4", allowed'),
        ("port: 0", '1: port: found "0", allowed: at least 1'),
        ("port: 65536", '1: port: found "65536", allowed: at most 65535'),
        ("port: '80'", '1: port: found "80", allowed: a whole number'),
        ("port: 1.5", '1: port: found "1.5", allowed: a whole number'),
        ("replicas: yes", '1: replicas: found "yes", allowed: a whole number'),
        ("replicas: true", '1: replicas: found "true", allowed: a whole number'),
        ("read_only: yes", '1: read_only: found "yes", allowed: true or false'),
        ("init: 1", '1: init: found "1", allowed: true or false'),
        ("pull: maybe", '1: pull: found "maybe", allowed: missing, always, never'),
        ("deadline: 120", '1: deadline: found "120", allowed: a duration such as'),
        ("deadline: 0s", "allowed: a duration above 0s"),
        ("drain: -1s", '1: drain: found "-1s", allowed: a duration'),
        ("health: /healthz", '1: health: found "/healthz", allowed: a mapping'),
        ("health: {interval: 10ms}", '1: health.interval: found "10ms", allowed: a duration of at least 50ms'),
        ("health: {status: 200-x}", '1: health.status: found "200-x", allowed: statuses such as 200, 200-399'),
        ("health: {status: [200, 99]}", '1: health.status[1]: found "99"'),
        ("health: {status: 399-200}", "a range from low to high"),
        ("health: {command: []}", "1: health.command: found a list, allowed: a line for the shell"),
        ("health: {command: [NONE]}", "1: health.command: found a list"),
        ("health: {headers: {'a b': x}}", '1: health.headers.a b: found "x", allowed: a header name'),
        ('health: {headers: {A: "x\\r\\ny"}}', "allowed: a value of visible characters on one line"),
        ("health: {headers: {Host: x}}", "for Host there is health.host"),
        ("routes: {host: a}\nport: 1", "1: routes: found a mapping, allowed: a list"),
        ("routes: [a.test]\nport: 1", '1: routes[0]: found "a.test", allowed: a mapping such as'),
        ("routes: [{host: '*'}]\nport: 1", "leave it out for any host"),
        ("routes: [{path: shop}]\nport: 1", '1: routes[0].path: found "shop", allowed: a path that starts with /'),
        ("strategy: rollin", '1: strategy: found "rollin", allowed: one of rolling, blue_green'),
        ("strategy: {max_surge: 1}", "1: strategy.type: found nothing, allowed: rolling, blue_green, canary, recreate"),
        ("strategy: {type: x}", '1: strategy.type: found "x", allowed: rolling'),
        ("strategy: [rolling]", "1: strategy: found a list, allowed: one of"),
        (
            "strategy: {type: rolling, max_surge: 120%}",
            '1: strategy.max_surge: found "120%", allowed: a number, or a percentage',
        ),
        ("strategy:\n  type: recreate\n  hold: x", '3: strategy.hold: found "x", allowed: a duration'),
        ("strategy: {type: blue_green, preview_host: '*.a.b'}\nport: 1", "allowed: a host name"),
        ("strategy: {type: canary, steps: []}", "1: strategy.steps: found a list, allowed: at least one step"),
        (
            "strategy: {type: canary, steps: [{weight: 50}, {weight: 10}]}",
            '1: strategy.steps[1].weight: found "10", allowed: a weight above',
        ),
        ("strategy: {type: canary, abort_on: {error_rate: 0.05}}", "allowed: a percentage from 0% to 100%"),
        ("before: migrate", '1: before: found "migrate", allowed: a mapping'),
        ("before: {command: []}", "1: before.command: found a list, allowed: at least one item"),
        ('before: {command: "run \'x"}', "allowed: a command that a shell could split"),
        ("command: {a: b}", "1: command: found a mapping, allowed: a command"),
        ("command: [a, [b]]", "1: command[1]: found a list, allowed: a string"),
        ("command: [a, null]", "1: command[1]: found nothing, allowed: a string"),
        ("proxy: {https: never}", '1: proxy.https: found "never", allowed: auto, allow, redirect, only'),
        ("proxy: {body_limit: 0}", '1: proxy.body_limit: found "0", allowed: at least 1'),
        ("proxy: {allow: [nonsense]}", '1: proxy.allow[0]: found "nonsense", allowed: an address range'),
        ("proxy: {redirects: [{from: /a, to: 'javascript:x'}]}", "allowed: a path that starts with /, or a URL"),
        ("proxy: {redirects: [{from: /a, to: /b, code: 200}]}", "allowed: 301, 302, 303, 307, 308"),
        (
            "proxy: {inspect_required: true}",
            '1: proxy.inspect_required: found "true", allowed: only together with inspect: true',
        ),
        ("proxy: {addons: [../x], inspect: true}", "1: proxy.addons[0]"),
    ],
)
def test_a_bad_value_is_answered_with_line_field_found_and_allowed(text, expected):
    assert any(expected in problem for problem in problems_of(text)), problems_of(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("routes: [{host: a.test}]", "1: routes: found a list, allowed: only together with `port`"),
        ("health:\n  path: /x", '2: health.path: found "/x", allowed: only together with `port`'),
        (
            "strategy: {type: blue_green, preview_host: p.test}",
            '1: strategy.preview_host: found "p.test", allowed: only together with `port`',
        ),
        (
            "strategy: {type: rolling, max_surge: 0}",
            "1: strategy.max_unavailable: found nothing, allowed: above 0 where max_surge is 0",
        ),
        ("strategy: {type: rolling, max_surge: 0%, max_unavailable: 0%}", "allowed: above 0"),
        ("port: 1\nroutes:\n- host: a.test\n- host: A.test.\n  path: /", "4: routes[1]: a.test/ is routed twice"),
        ("port: 1\nroutes: [{path: /a}, {path: /a/}]", "2: routes[1]: any host/a is routed twice"),
        (
            "port: 1\nroutes: [{host: p.test}]\nstrategy: {type: blue_green, preview_host: p.test}",
            "a host that none of its own routes has",
        ),
        ("volumes: ['a:/x', 'b:/x/']", "1: volumes[1]: /x is there twice"),
        ("secrets: [A, A]", "1: secrets[1]: A is there twice"),
        (
            "secrets: [A]\nenvironment: {A: x}",
            '1: secrets[0]: found "A", allowed: a name that `environment` does not set too',
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(text, expected):
    assert any(expected in problem for problem in problems_of(text)), problems_of(text)


def test_a_problem_in_one_field_does_not_hide_a_contradiction_between_others():
    found = problems_of("routes: [{host: a.test}]\nreplicas: x\n")
    assert any("replicas" in text for text in found)
    assert any("only together with `port`" in text for text in found)


def test_a_field_that_is_wrong_itself_contradicts_nothing():
    assert len(problems_of("port: x\nroutes: [{host: a.test}]")) == 1


def test_surge_0_is_fine_where_something_may_be_unavailable():
    assert spec_of("strategy: {type: rolling, max_surge: 0, max_unavailable: 25%}").strategy.limits(2) == (0, 1)


def test_a_name_or_image_that_is_missing_is_told():
    assert texts("port: 1\n") == [
        "f.yaml:1: name: is missing; it is required",
        "f.yaml:1: image: is missing; it is required",
    ]


def test_at_most_80_characters_of_one_scalar_are_quoted():
    secret = "s" * 500
    (problem,) = texts(GOOD + f"replicas: {secret}\n")
    assert "s" * 79 + "…" in problem
    assert "s" * 80 not in problem


def test_a_password_hash_that_is_nearly_right_is_not_quoted():
    (problem,) = problems_of("proxy: {basic_auth: ['ops:hunter2']}")
    assert "hunter2" not in problem
    assert "1: proxy.basic_auth[0]: allowed: a line of `htpasswd -nB NAME`" in problem


def test_control_characters_of_a_value_do_not_reach_the_terminal():
    (problem,) = texts(GOOD + 'replicas: "\\e[31m\\nfake.yaml:1: all good"\n')
    assert "\x1b" not in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "f.yaml:1: found no document, allowed: at least one app, with `name` and `image`"),
        (b"# nothing\n---\n", "f.yaml:1: found no document"),
        (b"\xef\xbb\xbf", "f.yaml:1: found no document"),
        (b"name: a\nimage: \xe9\n", "f.yaml:2: found the byte 0xE9, allowed: UTF-8"),
        ("name: a".encode("utf-16"), "f.yaml:1: found UTF-16, allowed: UTF-8"),
        (b"x" * (1024 * 1024 + 1), "f.yaml:1: found 1048577 bytes, allowed: at most 1 MiB"),
        (b"- a\n", "f.yaml:1: found a list, allowed: a mapping with `name` and `image`"),
        (b"hello\n", 'f.yaml:1: found "hello", allowed: a mapping'),
        (b"--- ~\n", "f.yaml:1: found nothing, allowed: a mapping"),
        (b"\x00\x01\x02", "f.yaml:1: control character U+0000"),
        (b"\x89PNG\r\n\x1a\n", "f.yaml:1: found the byte 0x89, allowed: UTF-8"),
    ],
)
def test_a_file_that_is_no_spec_at_all_says_why(data, expected):
    assert texts(data)[0].startswith(expected)


def test_a_byte_order_mark_of_an_editor_is_no_problem():
    (document,) = parse_file(b"\xef\xbb\xbf" + GOOD.encode(), "f").documents
    assert document.spec is not None
    assert document.spec.name == "a"


def test_windows_line_ends_are_no_problem():
    (document,) = parse_file(b"name: a\r\nimage: b\r\nport: x\r\n", "f").documents
    assert [problem.line for problem in document.problems] == [3]


def test_a_broken_document_does_not_hide_the_others():
    text = "name: a\nimage: b\n---\nname: broken\nimage: [\n---\nname: c\nimage: d\nport: x\n---\nname: e\nimage: f\n"
    parsed = parse_file(text.encode(), "f.yaml")
    assert [(document.name, document.spec is not None) for document in parsed.documents] == [
        ("a", True),
        ("broken", False),
        ("c", False),
        ("e", True),
    ]
    assert [problem.line for problem in parsed.problems] == [5, 9]
    assert [(document.first_line, document.last_line) for document in parsed.documents] == [
        (1, 2),
        (3, 5),
        (6, 9),
        (10, 12),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "name: shop\nimage: [",
        "---\nname: 'shop' # x\n\t\n",
        "{name: shop, image: ",
        "# x\nimage: 'x\nname: shop\n",
        "name: shop\r\nimage: [",
    ],
)
def test_the_app_of_a_broken_document_is_still_told(text):
    (document,) = parse_file(text.encode(), "f").documents
    assert (document.name, document.spec) == ("shop", None)
    assert document.problems
    assert not parse_file(text.encode(), "f").unowned


def test_a_problem_whose_app_cannot_be_told_is_nobody_s():
    parsed = parse_file(b"image: x\n---\nname: b\nimage: [\n", "f")
    assert [problem.field for problem in parsed.unowned] == ["name"]


def test_an_app_that_is_in_one_file_twice_is_refused_the_second_time():
    parsed = parse_file(b"name: a\nimage: b\n---\nname: a\nimage: c\n", "f.yaml")
    assert parsed.documents[0].spec is not None
    assert parsed.documents[1].spec is None
    assert [problem.text for problem in parsed.problems] == [
        "f.yaml:3: name: a is in this file already, on line 1; one document per app"
    ]


def test_lines_count_from_the_start_of_the_file_in_every_document():
    text = GOOD + "---\n# c\nname: b\nimage: c\nhealth:\n  interval: x\n"
    assert texts(text)[0].startswith("f.yaml:8: health.interval")


def test_a_problem_in_a_merged_block_points_at_the_line_where_it_is_written():
    text = "x-base: &base\n  interval: fast\nname: a\nimage: b\nhealth:\n  <<: *base\n"
    assert texts(text) == ['f.yaml:2: health.interval: found "fast", allowed: a duration such as 500ms, 10s, 2m, 1h30m']


def test_top_level_extensions_are_ignored_and_others_are_not():
    assert not texts(GOOD + "x-anything: {a: [1]}\n")
    assert texts(GOOD + "health: {x-y: 1}\n")


def test_the_dollar_sign_is_literal():
    assert spec_of("environment: {A: '${HOME}', B: $X}").environment == {"A": "${HOME}", "B": "$X"}


def test_a_key_whose_lines_are_all_commented_out_is_not_set():
    assert spec_of("environment:\n  # A: b\nroutes:\nport:\n") == spec_of("")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("secrets: [A]", "3: secrets"),
        ("strategy: canary", "3: strategy"),
        ("strategy: {type: canary}", "3: strategy"),
        ("proxy: {inspect: true}", "3: proxy.inspect"),
        ("proxy: {assets: [/static]}", "3: proxy.assets"),
    ],
)
def test_what_is_not_there_yet_says_so(text, field):
    assert texts(GOOD + text, not_yet=frozenset({"secrets", "strategy.canary", "proxy.inspect", "proxy.assets"})) == [
        f"f.yaml:{field}: not available yet in this version"
    ]


def test_a_default_that_is_written_out_asks_for_nothing():
    text = GOOD + "secrets: []\nproxy: {assets: [], inspect: false, inspect_required: false, addons: []}\n"
    assert not texts(text)


def test_what_is_not_there_yet_is_told_beside_other_problems():
    not_yet = frozenset({"secrets"})
    assert len(texts(GOOD + "secrets: [A]\nport: x\n", not_yet=not_yet)) == 2


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("environment: {{KEY: {long}}}", ": environment.KEY: "),
        ("environment: [A=1, 'KEY={long}']", ": environment"),
        ("command: [run, {long}KEY=]", ": command: "),
        ("before: {{command: [run, {long}KEY=]}}", ": before.command: "),
        ("health: {{command: [run, {long}KEY=]}}", ": health.command: "),
    ],
)
def test_what_linux_hands_to_no_process_is_refused_with_its_place(text: str, place: str) -> None:
    longest = 128 * 1024 - 1 - len("KEY=")
    assert texts(GOOD + text.format(long="x" * longest)) == []
    (problem,) = texts(GOOD + text.format(long="x" * (longest + 1)))
    assert place in problem
    assert "found 131072 bytes, allowed: at most 131071 (128K)" in problem
