"""Names, hosts and paths have one owner; a newcomer waits and is taken up by itself."""

import pytest

from controller.plan.claims import Claim, claims_of
from controller.plan.situation import Heir
from tests.intake.rig import Rig, a_document, several


def go_live(rig: Rig, *apps: str) -> None:
    """Let the newest spec in force be what runs."""
    for app in apps:
        wanted = rig.desired.standing(app).wanted
        rig.memory.live[app] = claims_of(wanted.spec) if wanted else frozenset()
    rig.rest(1)


def test_the_file_that_has_an_app_keeps_it(rig: Rig):
    rig.write("b.yaml", a_document("shop", image="shop:1"))
    rig.look()
    rig.write("a.yaml", a_document("shop", image="shop:2"))
    rig.rest(1)
    assert rig.image("shop") == "shop:1"
    assert rig.invalid("shop") == f"{rig.root}/a.yaml:1: name: found shop, which {rig.root}/b.yaml:1 has already"
    rig.write("b.yaml", a_document("shop", image="shop:3"))
    rig.rest(1)
    assert rig.image("shop") == "shop:3"
    (rig.root / "b.yaml").unlink()
    rig.rest(1)
    assert rig.image("shop") == "shop:2"
    assert rig.invalid("shop") == ""


def test_the_first_name_has_it_if_two_come_at_once(rig: Rig):
    rig.write("b.yaml", a_document("shop", image="shop:b"))
    rig.write("a.yaml", a_document("shop", image="shop:a"))
    rig.look()
    assert rig.image("shop") == "shop:a"
    assert f"{rig.root}/b.yaml:1" in rig.invalid("shop")


def test_after_a_restart_the_file_that_had_it_still_has_it(rig: Rig):
    rig.write("b.yaml", a_document("shop", image="shop:b"))
    rig.look()
    rig.write("a.yaml", a_document("shop", image="shop:a"))
    rig.restart()
    rig.rest(1)
    assert rig.image("shop") == "shop:b"


def test_a_second_document_of_one_app_in_a_file_is_a_problem(rig: Rig):
    rig.write("a.yaml", several(a_document("shop", "shop:1"), a_document("shop", "shop:2")))
    rig.rest(1)
    assert rig.image("shop") == "shop:1"
    assert rig.invalid("shop").startswith(f"{rig.root}/a.yaml:3: name: shop is in this file already")


def test_a_broken_home_keeps_its_app_against_a_newcomer_and_an_empty_one_does_not(rig: Rig):
    rig.write("a.yaml", a_document("shop", image="shop:1"))
    rig.look()
    rig.write("a.yaml", "name: [")
    rig.write("b.yaml", a_document("shop", image="shop:2"))
    rig.rest(5)
    assert rig.image("shop") == "shop:1"
    rig.write("a.yaml", "# it lives in b.yaml now\n")
    rig.rest(5)
    assert rig.image("shop") == "shop:2"


def test_the_app_that_has_a_host_and_path_keeps_it(rig: Rig):
    rig.write("a.yaml", a_document("b", host="x.example"))
    rig.look()
    rig.write("b.yaml", a_document("a", host="X.example."))
    rig.rest(1)
    assert rig.image("a") is None
    path = rig.root / "b.yaml"
    assert rig.invalid("a") == f"{path}:1: routes: found x.example/, which b has; this is applied once it is free"
    assert rig.desired.waits_for("a") == ((Claim("x.example"), "b"),)
    assert rig.invalid("b") == ""


def test_a_newcomer_is_taken_up_when_the_release_without_the_claim_is_live(rig: Rig):
    rig.write("a.yaml", a_document("a", host="x.example"))
    rig.look()
    go_live(rig, "a")
    rig.write("b.yaml", a_document("b", host="x.example"))
    rig.rest(1)
    rig.write("a.yaml", a_document("a", host="y.example"))
    rig.rest(1)
    assert rig.invalid("a") == ""
    assert rig.desired.waits_for("b") == ((Claim("x.example"), "a"),), "the old release still serves it"
    go_live(rig, "a")
    assert rig.invalid("b") == ""
    assert rig.image("b") == "shop:1"


def test_a_waiting_spec_leaves_the_last_good_one_in_force(rig: Rig):
    rig.write("a.yaml", a_document("a", host="x.example"))
    rig.write("b.yaml", a_document("b", host="y.example", image="b:1"))
    rig.look()
    rig.write("b.yaml", a_document("b", host="x.example", image="b:2"))
    rig.rest(1)
    assert rig.image("b") == "b:1"
    assert "which a has" in rig.invalid("b")


def test_two_that_change_in_one_look_move_together(rig: Rig):
    rig.write("a.yaml", a_document("a", host="x.example"))
    rig.write("b.yaml", a_document("b", host="y.example"))
    rig.look()
    go_live(rig, "a", "b")
    rig.write("a.yaml", a_document("a", host="y.example"))
    rig.write("b.yaml", a_document("b", host="x.example"))
    rig.rest(1)
    assert (rig.invalid("a"), rig.invalid("b")) == ("", "")
    x, y = Claim("x.example"), Claim("y.example")
    assert rig.desired.heirs("a", {x: "", y: ""}) == {x: Heir("b")}
    assert rig.desired.heirs("b", {x: "", y: ""}) == {y: Heir("a")}
    assert rig.desired.owners() == {Claim("x.example"): "b", Claim("y.example"): "a"}


def test_after_a_restart_what_is_live_has_it_else_the_first_name(rig: Rig):
    rig.write("a.yaml", a_document("a", host="x.example"))
    rig.write("b.yaml", a_document("b", host="x.example"))
    rig.memory.live = {"b": frozenset({Claim("x.example")})}
    rig.look()
    assert (rig.image("a"), rig.image("b")) == (None, "shop:1")
    rig.memory.live = {}
    rig.memory.stored.clear()
    rig.restart()
    rig.look()
    assert (rig.image("a"), rig.image("b")) == ("shop:1", None)


def test_preview_hosts_and_fixed_routes_claim_likewise(rig: Rig):
    rig.memory.fixed = {"the fixed route printer": frozenset({Claim("printer.example")})}
    rig.write("a.yaml", a_document("a", host="a.example", strategy="{type: blue_green, preview_host: x.example}"))
    rig.write("b.yaml", a_document("b", host="x.example"))
    rig.write("c.yaml", a_document("c", host="printer.example"))
    rig.look()
    assert rig.desired.waits_for("b") == ((Claim("x.example"), "a"),)
    assert "which the fixed route printer has" in rig.invalid("c")
    rig.memory.fixed = {}
    rig.rest(2)
    assert rig.invalid("c") == ""


def test_a_removed_apps_claims_are_free_for_whoever_asks_and_it_knows_its_heir(rig: Rig):
    rig.write("z.yaml", a_document("z"))
    rig.write("a.yaml", a_document("a", host="x.example"))
    rig.look()
    go_live(rig, "a")
    rig.write("a.yaml", a_document("shop", host="x.example"))
    rig.rest(1)
    assert "which a has" in rig.invalid("shop"), "its file may come back"
    rig.rest(10)
    assert rig.gone() == {"a"}
    assert rig.image("shop") == "shop:1"
    assert rig.desired.heirs("a", {Claim("x.example"): ""}) == {Claim("x.example"): Heir("shop")}


def test_a_removed_app_that_is_suspended_keeps_its_claims(rig: Rig):
    rig.write("z.yaml", a_document("z"))
    rig.write("a.yaml", a_document("a", host="x.example"))
    rig.look()
    go_live(rig, "a")
    rig.memory.kept = {"a": frozenset({Claim("x.example")})}
    rig.write("a.yaml", a_document("shop", host="x.example"))
    rig.rest(10)
    assert "which a has" in rig.invalid("shop")
    rig.memory.kept = {}
    rig.rest(2)
    assert rig.image("shop") == "shop:1"


def test_a_giver_that_comes_to_rest_elsewhere_keeps_the_claim_and_the_taker_is_told(rig: Rig):
    x, y = Claim("x.example"), Claim("y.example")
    rig.write("a.yaml", a_document("a", host="x.example"))
    rig.write("b.yaml", a_document("b", host="y.example"))
    rig.look()
    go_live(rig, "a", "b")
    rig.write("a.yaml", a_document("a", host="z.example"))
    rig.write("b.yaml", a_document("b", host="x.example", image="b:2"))
    rig.rest(1)
    assert (rig.invalid("a"), rig.invalid("b")) == ("", "")
    rig.memory.kept = {"a": frozenset({x})}  # it failed, is suspended, or waits for a promotion
    rig.rest(2)
    assert (
        rig.invalid("b") == f"{rig.root}/b.yaml: routes: found x.example/, which a has; this is applied once it is free"
    )
    rig.write("b.yaml", a_document("b", host="x.example", image="b:3"))
    rig.rest(1)
    assert rig.image("b") == "b:3", "the rest of its next spec waits for nobody"
    rig.write("a.yaml", a_document("a", host="x.example", image="a:2"))
    rig.rest(1)
    assert rig.image("a") == "a:2", "what it keeps it may have back"
    rig.memory.kept = {}
    rig.rest(2)
    assert "which a has" in rig.invalid("b")
    rig.memory.rings.clear()
    rig.write("a.yaml", a_document("a", host="z.example"))
    rig.rest(1)
    assert rig.invalid("b") == ""
    assert rig.desired.heirs("a", {x: "", y: ""}) == {x: Heir("b")}
    assert "a" in rig.memory.rings


def test_a_reserved_host_is_nobodys_on_any_path_and_however_it_is_written(rig: Rig):
    rig.memory.reserved["api.shop.test"] = "the service's own API"
    for number, (host, path) in enumerate(
        [("API.shop.test.", "/v1"), ("api.shop.test", "/"), ("api.shop.test", "/x/y")]
    ):
        name = f"a{number}"
        rig.write(f"{name}.yaml", f"name: {name}\nimage: x:1\nport: 80\nroutes: [{{host: {host}, path: {path}}}]\n")
        rig.rest(1)
        assert "which the service's own API has" in rig.invalid(name)
        assert rig.image(name) is None
    rig.write("p.yaml", a_document("p", host="p.example", strategy="{type: blue_green, preview_host: api.shop.test}"))
    rig.rest(1)
    assert "which the service's own API has" in rig.invalid("p")


@pytest.mark.parametrize("path", ["/shop", "/shop/deep"])
def test_two_apps_may_share_a_host_with_different_paths(rig: Rig, path: str):
    rig.write("a.yaml", a_document("a", host="x.example"))
    rig.write("b.yaml", a_document("b") + f"port: 80\nroutes: [{{host: x.example, path: {path}}}]\n")
    rig.look()
    assert (rig.invalid("a"), rig.invalid("b")) == ("", "")


def test_heirs_are_known_after_a_restart_before_anything_was_looked_at(rig: Rig):
    x, y = Claim("x.example"), Claim("y.example")
    rig.write("a.yaml", a_document("a", host="z.example"))
    rig.write("b.yaml", a_document("b", host="x.example"))
    rig.look()
    rig.restart()
    assert rig.desired.heirs("a", {x: "", y: "c"}) == {x: Heir("b"), y: Heir("c")}
    rig.look()
    assert rig.desired.heirs("a", {x: "", y: "c"}) == {x: Heir("b")}
