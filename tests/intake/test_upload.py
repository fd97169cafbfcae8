"""An upload ends up in the right lines of the right file, whole, and is counted."""

import os
import stat
import threading
from pathlib import Path

import pytest

from controller.errors import ControllerError, Refused, Retry
from controller.intake import upload
from controller.intake.upload import Uploaded
from tests.intake.rig import Rig, a_document, several


def put(rig: Rig, app: str, text: str, by: str = "ann") -> Uploaded:
    return rig.desired.upload(app, text.encode(), by)


def listing(rig: Rig) -> dict[str, str]:
    return {str(path.relative_to(rig.root)): path.read_text() for path in rig.root.rglob("*") if path.is_file()}


def test_a_new_app_gets_a_file_of_its_own(rig: Rig):
    rig.look()
    done = put(rig, "shop", a_document(image="shop:2"))
    assert listing(rig) == {"shop.yaml": a_document(image="shop:2")}
    wanted = rig.desired.standing("shop").wanted
    assert wanted is not None
    assert (done.app, done.file, done.digest) == ("shop", f"{rig.root}/shop.yaml", wanted.digest)
    assert wanted.by == "ann"
    assert rig.desired.looked_at() == done.change


def test_the_file_that_holds_the_app_alone_is_replaced_wherever_it_is(rig: Rig):
    path = rig.write("team/x.yml", a_document() + "# old\n")
    path.chmod(0o640)
    os.chown(path, 12, 34)
    done = put(rig, "shop", a_document(image="shop:2"))
    assert listing(rig) == {"team/x.yml": a_document(image="shop:2")}
    assert done.file == str(path)
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 12, 34)


OTHERS = (
    "# head\n---\n# web\nname: web\nimage: web:1   # keep\n---\nname: shop\nimage: shop:1\n---\nname: api\nimage: api:1"
)


@pytest.mark.parametrize(
    "new", ["name: shop\nimage: shop:2\n", "---\nname: shop\nimage: shop:2\n", "name: shop\nimage: shop:2"]
)
def test_in_a_file_of_several_only_the_documents_lines_are_replaced(rig: Rig, new: str):
    rig.write("all.yaml", OTHERS)
    put(rig, "shop", new)
    assert listing(rig) == {"all.yaml": OTHERS.replace("shop:1", "shop:2")}
    assert rig.images() == {"web": "web:1", "shop": "shop:2", "api": "api:1"}


@pytest.mark.parametrize("app", ["web", "api"])
def test_the_first_and_the_last_document_can_be_replaced_too(rig: Rig, app: str):
    rig.write("all.yaml", OTHERS)
    put(rig, app, f"name: {app}\nimage: {app}:2\nreplicas: 3\n")
    assert rig.images() == {"web": "web:1", "shop": "shop:1", "api": "api:1"} | {app: f"{app}:2"}
    for other in {"web", "shop", "api"} - {app}:
        assert f"image: {other}:1" in listing(rig)["all.yaml"]


@pytest.mark.parametrize("break_", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "---\n", "%YAML 1.2\n---\n", "\ufeff"])
@pytest.mark.parametrize("end", ["", "...\n"])
def test_borders_of_every_kind_stay_borders(rig: Rig, break_: str, start: str, end: str):
    parts = [f"{start if app == 'a' else '---' + chr(10)}name: {app}\nimage: x:1\n{end}" for app in "abc"]
    for app in "abc":
        rig.write("all.yaml", "".join(parts).replace("\n", break_))
        rig.rest(1)
        put(rig, app, f"name: {app}\nimage: x:2\n")
        assert rig.images() == dict.fromkeys("abc", "x:1") | {app: "x:2"}
        assert not rig.desired.problems()


def test_the_first_document_gets_no_border_that_it_did_not_have(rig: Rig):
    rig.write("all.yaml", several(a_document("a"), a_document("b")))
    put(rig, "a", a_document("a", "a:2"))
    assert listing(rig)["all.yaml"] == several(a_document("a", "a:2"), a_document("b"))


def test_a_document_after_dots_alone_stays_a_document(rig: Rig):
    rig.write("all.yaml", a_document("a") + "...\n" + a_document("b") + "...\n" + a_document("c"))
    put(rig, "b", a_document("b", "b:2"))
    assert rig.images() == {"a": "shop:1", "b": "b:2", "c": "shop:1"}
    rig.desired.delete("b")
    assert (rig.image("a"), rig.image("c")) == ("shop:1", "shop:1")


def test_a_change_made_at_the_last_moment_is_recorded_too(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    rig.write("shop.yaml", a_document())
    rig.look()
    rings = len(rig.memory.rings)
    put_document, late = upload.put_document, [a_document(image="shop:late")]

    def interfere(*arguments):
        if late:
            rig.write("shop.yaml", late.pop())
        return put_document(*arguments)

    monkeypatch.setattr("controller.intake.desired.put_document", interfere)
    put(rig, "shop", a_document(image="shop:2"))
    assert rig.image("shop") == "shop:2"
    assert rig.memory.rings[rings:] == ["shop"] * 3, "the late one, ours, and the upload's own"


def test_a_broken_document_among_others_can_be_mended_by_upload(rig: Rig):
    rig.write("all.yaml", several(a_document("web"), a_document("shop")))
    rig.look()
    rig.write("all.yaml", several(a_document("web"), "name: shop\nimage: [\n"))
    rig.rest(1)
    put(rig, "shop", a_document(image="shop:2"))
    assert rig.image("shop") == "shop:2"
    assert listing(rig)["all.yaml"] == several(a_document("web"), a_document(image="shop:2"))


def test_a_broken_file_that_was_the_apps_alone_is_replaced(rig: Rig):
    rig.write("x.yaml", a_document())
    rig.look()
    rig.write("x.yaml", b"\xff\xfe")
    rig.rest(1)
    put(rig, "shop", a_document(image="shop:2"))
    assert listing(rig) == {"x.yaml": a_document(image="shop:2")}


def test_a_broken_file_of_several_is_refused_and_left_alone(rig: Rig):
    rig.write("x.yaml", several(a_document("web"), a_document("shop")))
    rig.look()
    path = rig.write("x.yaml", b"\xff\xfe")
    rig.rest(1)
    with pytest.raises(Refused, match="fix the file by hand"):
        put(rig, "shop", a_document(image="shop:2"))
    assert path.read_bytes() == b"\xff\xfe"


def test_anothers_file_of_that_name_is_never_overwritten(rig: Rig):
    rig.write("shop.yaml", a_document("other"))
    rig.write("shop-2.yml", "# mine\n")
    done = put(rig, "shop", a_document())
    assert done.file == f"{rig.root}/shop-3.yaml"
    assert listing(rig)["shop.yaml"] == a_document("other")
    assert rig.image("other") == "shop:1"


def test_through_a_link_its_target_is_written(rig: Rig):
    rig.write(".store/shop.yaml", a_document())
    (rig.root / "shop.yaml").symlink_to(".store/shop.yaml")
    put(rig, "shop", a_document(image="shop:2"))
    assert (rig.root / "shop.yaml").is_symlink()
    assert (rig.root / ".store/shop.yaml").read_text() == a_document(image="shop:2")
    assert rig.image("shop") == "shop:2"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no document"),
        (several(a_document(), a_document("web")), "found 2 documents, allowed: exactly one"),
        (a_document("web"), "shop.yaml:1: name: found web, allowed: shop"),
        ("name: shop\nimage: x\nreplicas: many\nstrategi: rolling\n", "shop.yaml:3: replicas.*\nshop.yaml:4: strategi"),
        (a_document() + "#" * 1024**2, "1 MiB|1M"),
        ("name: shop\nimage: [", "shop.yaml"),
    ],
)  # fmt: skip
def test_a_bad_upload_is_refused_with_every_problem_and_changes_nothing(rig: Rig, text: str, says: str):
    rig.look()
    change = rig.memory.change
    with pytest.raises(Refused, match=f"(?s){says}"):
        put(rig, "shop", text)
    assert listing(rig) == {}
    assert rig.memory.change == change


def test_a_file_would_not_grow_beyond_the_limit(rig: Rig):
    rig.write("all.yaml", a_document("web") + "#" * 700_000 + "\n---\n" + a_document("shop"))
    with pytest.raises(Refused, match="would grow"):
        put(rig, "shop", a_document() + "#" * 700_000)


def test_every_upload_has_a_greater_number_and_is_looked_at(rig: Rig):
    rig.look()
    changes = [put(rig, "shop", a_document(image=f"shop:{number % 2}")).change for number in range(4)]
    changes.append(put(rig, "shop", a_document(image="shop:1")).change)
    assert changes == sorted(set(changes))
    assert rig.desired.looked_at() == changes[-1]
    assert rig.memory.rings[-1] == "shop"


def test_numbers_given_before_a_restart_are_looked_at_after_it(rig: Rig):
    rig.look()
    change = put(rig, "shop", a_document()).change
    rig.restart()
    rig.look()
    assert rig.desired.looked_at() >= change


def test_what_a_person_wrote_meanwhile_is_recorded_before_it_is_replaced(rig: Rig):
    rig.write("shop.yaml", a_document(image="shop:1"))
    rig.look()
    images: list[str] = []
    save = rig.memory.save

    def record(standing, change):
        images.append(standing.wanted.spec.image)
        save(standing, change)

    rig.memory.save = record  # type: ignore[method-assign]
    rig.restart()
    rig.look()
    rig.write("shop.yaml", a_document(image="shop:by-hand"))
    put(rig, "shop", a_document(image="shop:uploaded"))
    assert images == ["shop:by-hand", "shop:uploaded"]
    wanted = rig.desired.standing("shop").wanted
    assert wanted is not None
    assert wanted.by == "ann"


def test_of_two_uploads_at_once_the_last_wins_and_both_are_whole(rig: Rig):
    rig.write("all.yaml", several(a_document("web"), a_document("shop")))
    rig.look()
    failures: list[Exception] = []
    results: list[tuple[int, str]] = []

    def keep_uploading(app: str, by: int) -> None:
        try:
            for number in range(5):
                image = f"{app}:{by}-{number}"
                results.append((put(rig, app, a_document(app, image)).change, image))
        except (OSError, RuntimeError, AssertionError, ControllerError) as error:
            failures.append(error)

    threads = [
        threading.Thread(target=keep_uploading, args=(app, by)) for by in range(2) for app in ("web", "shop", "new")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len({change for change, _ in results}) == 30
    for app in ("web", "shop", "new"):
        newest = max(result for result in results if result[1].startswith(app + ":"))
        assert rig.image(app) == newest[1]
    assert [name for name in listing(rig) if "." in name[:1]] == []


def test_without_a_directory_an_upload_is_refused(rig: Rig):
    rig.root.rmdir()
    with pytest.raises(Refused, match="the watched directory is missing"):
        put(rig, "shop", a_document())


def test_what_a_crash_left_behind_is_gone_with_the_next_upload(rig: Rig):
    rig.write(".shop.yaml.oton.tmp", "name: sh")
    rig.rest(1)
    assert not rig.desired.problems()
    put(rig, "shop", a_document())
    assert listing(rig) == {"shop.yaml": a_document()}


def test_while_the_store_is_full_no_file_is_touched(rig: Rig):
    rig.look()
    rig.memory.full = True
    with pytest.raises(Retry):
        put(rig, "shop", a_document())
    assert listing(rig) == {}


def test_an_upload_that_waits_for_a_host_is_written_and_says_so(rig: Rig):
    rig.write("a.yaml", a_document("a", host="x.example"))
    rig.look()
    done = put(rig, "shop", a_document(host="x.example"))
    assert Path(done.file).exists()
    assert rig.desired.looked_at() >= done.change
    assert [owner for _, owner in rig.desired.waits_for("shop")] == ["a"]


def test_deleting_an_app_removes_its_file_and_does_not_wait(rig: Rig):
    put(rig, "shop", a_document())
    rig.desired.delete("shop")
    assert listing(rig) == {}
    assert rig.gone() == {"shop"}


def test_deleting_most_apps_one_by_one_holds_none(rig: Rig):
    for app in "abcde":
        put(rig, app, a_document(app))
    for app in "abcde":
        rig.desired.delete(app)
        assert app in rig.gone()
    rig.rest(60)
    assert rig.gone() == set("abcde")


def test_deleting_takes_out_only_the_documents_lines(rig: Rig):
    rig.write("all.yaml", OTHERS)
    rig.look()
    rig.desired.delete("shop")
    assert listing(rig) == {"all.yaml": OTHERS.replace("---\nname: shop\nimage: shop:1\n", "")}
    assert rig.gone() == {"shop"}
    assert (rig.image("web"), rig.image("api")) == ("web:1", "api:1")


def test_deleting_takes_out_every_copy(rig: Rig):
    rig.write("a.yaml", a_document("shop"))
    rig.write("b.yaml", several(a_document("web"), a_document("shop")))
    rig.look()
    rig.desired.delete("shop")
    rig.rest(60)
    assert rig.gone() == {"shop"}
    assert listing(rig) == {"b.yaml": a_document("web")}


def test_deleting_a_held_app_lets_it_go(rig: Rig):
    for app in "ab":
        put(rig, app, a_document(app))
        (rig.root / f"{app}.yaml").unlink()
    rig.rest(10)
    assert rig.held() == set("ab")
    rig.desired.delete("b")
    assert rig.gone() == {"b"}


def test_deleting_an_app_whose_file_is_broken_removes_it_if_it_was_alone(rig: Rig):
    put(rig, "shop", a_document())
    rig.write("shop.yaml", "name: [")
    rig.rest(1)
    rig.desired.delete("shop")
    assert listing(rig) == {}
    assert rig.gone() == {"shop"}


def test_deleting_what_nobody_knows_is_refused(rig: Rig):
    with pytest.raises(Refused, match="no such app"):
        rig.desired.delete("shop")


def test_a_deleted_app_can_be_uploaded_again_at_once(rig: Rig):
    put(rig, "shop", a_document())
    rig.desired.delete("shop")
    put(rig, "shop", a_document(image="shop:2"))
    rig.rest(60)
    assert rig.image("shop") == "shop:2"
    assert not rig.gone()
