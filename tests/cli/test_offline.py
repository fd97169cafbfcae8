"""What needs no service: init, validate, schema, edits of a spec, where to talk to, and the help."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from controller.cli.edit import set_environment, set_image
from controller.cli.main import VERBS, main
from controller.cli.options import read_duration
from controller.cli.target import Asked, find_target, parse_host
from controller.cli.trouble import Trouble, worst
from controller.spec.parse import parse_file


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(words))
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_help_is_one_screen_with_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert len(out.splitlines()) <= 50
    assert all(len(line) <= 80 for line in out.splitlines())
    for verb in VERBS:
        assert f"  {verb} " in out


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_has_help_that_begins_with_what_it_does(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, err = run(capsys, verb, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: oton {verb}")
    assert len(out.splitlines()) > 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nope"], "oton: No such command 'nope'."),
        (["status", "--nope"], "oton status: No such option: --nope"),
        (["status", "-o", "xml"], "oton status: Invalid value for '--output'"),
        (["history"], "oton history: Missing argument 'APP'."),
        (["rollback", "shop", "--to", "zero"], "oton rollback: Invalid value for '--to'"),
        (["rollback", "shop", "--to", "0"], "oton rollback: Invalid value for '--to'"),
        (["rollback", "shop", "--timeout", "soon"], 'oton: --timeout: found "soon", allowed: a duration'),
        (["maintenance", "shop", "off", "-m", "x"], "oton: --message goes with `on`"),
        (["delete", "shop"], "oton: delete shop: needs -y: not a terminal\n  next: oton delete shop -y"),
        (["apply"], "oton apply: Missing argument 'FILE…'."),
        (["apply", "none.yaml"], "oton: none.yaml: cannot be read: No such file or directory"),
        (["exec", "shop"], "oton: exec: no command\n  next: oton exec shop -- CMD…"),
        (["init", "Not-A-Name"], 'oton: init: found "Not-A-Name", allowed: a-z'),
    ],
)
def test_usage_errors_are_2_and_say_what_next(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith(said), err


def test_init_writes_a_spec_that_is_valid_and_never_overwrites(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(capsys, "init", "shop")[:2] == (0, "shop.yaml\n")
    assert run(capsys, "validate", "shop.yaml")[:2] == (0, "shop.yaml: valid (shop)\n")
    Path("shop.yaml").write_text("mine")
    code, _, err = run(capsys, "init", "shop")
    assert (code, Path("shop.yaml").read_text()) == (2, "mine")
    assert "exists already" in err


def test_validate_says_everything_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text("name: a\nimage: x\nport: many\nhealth:\n  interval: fast\n")
    Path("b.yaml").write_text("name: b\nimage: x\n---\nname: c\nimage: x\nstrategi: rolling\n")
    code, out, err = run(capsys, "validate", "a.yaml", "b.yaml")
    assert (code, out) == (2, "")
    assert [line.split(": ")[0:2] for line in err.splitlines()] == [
        ["a.yaml:3", "port"],
        ["a.yaml:5", "health.interval"],
        ["b.yaml:6", "strategi"],
    ]
    code, out, err = run(capsys, "validate", "a.yaml", "b.yaml", "-o", "json")
    rows = json.loads(out)
    assert (code, err) == (2, "")
    assert [(row["file"], row["valid"], len(row["problems"])) for row in rows] == [
        ("a.yaml", False, 2),
        ("b.yaml", False, 1),
    ]


def test_a_directory_means_the_specs_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("specs/deep").mkdir(parents=True)
    Path("specs/.hidden").mkdir()
    Path("specs/a.yaml").write_text("name: a\nimage: x\n")
    Path("specs/deep/b.yml").write_text("name: b\nimage: x\n")
    Path("specs/.hidden/c.yaml").write_text("not looked at")
    Path("specs/readme.txt").write_text("nor this")
    assert run(capsys, "validate", "specs")[1] == "specs/a.yaml: valid (a)\nspecs/deep/b.yml: valid (b)\n"


def test_schema_is_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "schema")
    assert code == 0
    assert "image" in json.loads(out)["properties"]


COMMENTED = """\
# The shop.
name: shop   # its name
image: shop:1  # built by CI
x-note: &note shop:1
command: [serve, "--image", "shop:1"]
environment:
  IMAGE: shop:1   # not this
"""


def test_another_image_changes_that_one_value_and_no_comment() -> None:
    assert set_image(COMMENTED, "shop:2", "shop.yaml") == COMMENTED.replace(
        "image: shop:1  # built", 'image: "shop:2"  # built'
    )


@pytest.mark.parametrize(
    "line",
    [
        "image: shop:1",
        "image: 'shop:1'",
        'image: "shop:1"',
        "image: &i shop:1",
        "image: >-\n  shop:1",
        "image: |-\n  shop:1\n",
    ],
)
def test_every_way_of_writing_the_image_can_be_edited(line: str) -> None:
    text = f"name: shop\n{line}\nreplicas: 2  # two\n"
    edited = set_image(text, "reg/shop@sha256:abc", "shop.yaml")
    assert yaml.safe_load(edited) == {"name": "shop", "image": "reg/shop@sha256:abc", "replicas": 2}
    assert "# two" in edited


def test_an_image_that_is_an_alias_does_not_change_what_it_names() -> None:
    text = "x-base: &base shop:1\nname: shop\nimage: *base\nlabels: {base: *base}\n"
    edited = yaml.safe_load(set_image(text, "shop:2", "shop.yaml"))
    assert (edited["image"], edited["labels"]["base"]) == ("shop:2", "shop:1")


def test_an_image_that_others_refer_to_keeps_its_anchor() -> None:
    text = "name: shop\nimage: &i shop:1\nlabels: {i: *i}\n"
    assert yaml.safe_load(set_image(text, "shop:2", "x"))["labels"] == {"i": "shop:2"}


def test_a_merged_image_is_refused() -> None:
    with pytest.raises(Trouble, match="needs a line `image:`"):
        set_image("x-base: &b {image: x}\nname: shop\n<<: *b\n", "shop:2", "shop.yaml")


@pytest.mark.parametrize(
    "own",
    [
        "",
        "environment:\n  OWN: kept   # mine\n  BOTH: own\n",
        "environment: {OWN: kept, BOTH: own}\n",
        "environment:\n  - OWN=kept\n  - BOTH=own\n",
        "environment: [OWN=kept, BOTH=own]\n",
        "environment: {}\n",
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_env_files_go_below_what_the_spec_says_itself(own: str, before: bool, tmp_path: Path) -> None:
    listed = "env_file:\n  - a.env   # first\n  - b.env\n"
    body = (listed + own) if before else (own + listed)
    text = f"# top\nname: shop\n{body}image: shop:1  # last\n"
    values = {"A": '1 # "x"', "BOTH": "file", "NONE": None}
    edited = set_environment(text, values, "shop.yaml")
    [document] = parse_file(edited.encode(), "shop.yaml").documents
    assert document.spec is not None, document.problems
    expected = {"A": '1 # "x"', "BOTH": "own" if "BOTH" in own else "file", "NONE": None}
    assert dict(document.spec.environment) == expected | ({"OWN": "kept"} if "OWN" in own else {})
    assert "# top" in edited
    assert "# last" in edited
    assert "env_file" not in edited


def test_pieces_of_a_file_keep_their_own_lines(tmp_path: Path) -> None:
    from controller.cli.specs import read_pieces

    Path("both.yaml").write_text("# one\nname: one\nimage: x # 1\n---\nname: two # 2\nimage: y\nenv_file: .e\n")
    Path(".e").write_text("KEY=value\n")
    one, two = read_pieces(["both.yaml"])
    assert one.data == b"# one\nname: one\nimage: x # 1\n"
    assert b"# 2" in two.data
    assert two.spec.environment == {"KEY": "value"}
    [parsed] = parse_file(two.data, "x").documents
    assert parsed.digest == two.digest


def test_an_app_that_is_there_twice_is_refused() -> None:
    from controller.cli.specs import read_pieces

    for name in ("a", "b"):
        Path(f"{name}.yaml").write_text("name: shop\nimage: x\n")
    with pytest.raises(Trouble, match="twice"):
        read_pieces(["a.yaml", "b.yaml"])


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert read_duration(text, "--x") == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5x", "-5s", "5 s", "\u0665s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Trouble):
        read_duration(text, "--x")


def test_where_to_talk_to_is_the_first_that_is_set(tmp_path: Path) -> None:
    import socket

    contexts = tmp_path / "oton" / "contexts.json"
    contexts.parent.mkdir()
    contexts.write_text(
        json.dumps({"current": "b", "contexts": {"a": {"host": "https://a"}, "b": {"host": "https://b"}}})
    )
    env = {
        "XDG_CONFIG_HOME": str(tmp_path),
        "OTON_SOCKET": "/s.sock",
        "OTON_HOST": "https://h",
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    assert find_target(Asked(host="unix:///f.sock"), env).place == "/f.sock"
    assert find_target(Asked(context="a"), env).place == "https://a"
    assert find_target(Asked(), env).place == "https://h"
    del env["OTON_HOST"]
    assert find_target(Asked(), env).place == "https://b"
    contexts.unlink()
    assert find_target(Asked(), env).place == "/s.sock"
    del env["OTON_SOCKET"]
    Path(".oton").mkdir()
    with socket.socket(socket.AF_UNIX) as ours, socket.socket(socket.AF_UNIX) as usual:
        ours.bind(".oton/oton.sock")
        usual.bind(str(tmp_path / "oton" / "oton.sock"))
        assert find_target(Asked(), env).place == str(tmp_path / ".oton" / "oton.sock")
        Path(".oton/oton.sock").unlink()
        if not Path("/run/oton/oton.sock").exists():
            assert find_target(Asked(), env).place == str(tmp_path / "oton" / "oton.sock")


def test_a_dotenv_names_the_socket_but_never_a_host() -> None:
    Path(".env").write_text("OTON_SOCKET=/from/dotenv.sock\nOTON_HOST=https://evil.example\n")
    assert find_target(Asked(), {}).place == "/from/dotenv.sock"


@pytest.mark.parametrize(
    "text",
    ["", "nope", "ftp://x", "unix://x/y", "http://", "https://x/path", "ssh://-oProxyCommand=x", "ssh://-l@host",
     "ssh://user:pw@host", "http://x:99999", "https://x?a=b", "http://x:0"],
)  # fmt: skip
def test_a_host_that_names_no_service(text: str) -> None:
    with pytest.raises(Trouble) as refused:
        parse_host(text, "", "OTON_HOST")
    assert refused.value.code == 2


def test_a_token_goes_over_plain_http_only_to_loopback() -> None:
    for good in ("http://127.0.0.1:3080", "http://localhost:3080", "http://[::1]:3080", "https://x.example.com"):
        assert parse_host(good, "oton_x", "OTON_HOST").token == "oton_x"
    with pytest.raises(Trouble, match="plain http only to loopback"):
        parse_host("http://10.0.0.1:3080", "oton_x", "OTON_HOST")
    assert parse_host("http://10.0.0.1:3080", "", "OTON_HOST").place == "http://10.0.0.1:3080"


def test_of_several_codes_the_first_of_the_contract_counts() -> None:
    order = [8, 7, 2, 5, 3, 4, 9, 0]
    for index, code in enumerate(order):
        assert worst(order[index:]) == code
    assert worst([]) == 0
