from __future__ import annotations

from tests.publisher.fakes import FakeWorker, publishing, until


def report(count: int, held: int = 0) -> dict[str, object]:
    row = {"app": "shop", "release": 1, "class": 2, "count": count, "seconds": 0.5, "buckets": [count, 0]}
    return {
        "kind": "meters",
        "counters": {
            "requests": [row],
            "events": [{"app": "shop", "what": "retry", "count": 1}],
            "bounds": [0.1],
            "active": [{"app": "shop", "requests": 3, "held": held}],
            "connections": 4,
            "lag_s": count / 1000,
        },
    }


def test_counters_are_summed_and_do_not_go_back_when_a_worker_ends(tmp_path):
    with publishing(tmp_path) as publisher:
        publisher.set_roster([1, 2])
        publisher.publish("shop", None)
        one, two = FakeWorker(tmp_path, 1), FakeWorker(tmp_path, 2)
        until(publisher.is_current)
        from tests.publisher.fakes import routes

        publisher.publish("shop", routes("shop", "a"))
        one.say(report(10, held=2))
        two.say(report(5, held=1))
        until(lambda: publisher.counters()["connections"] == 8)
        assert publisher.counters()["requests"][0]["count"] == 15
        assert publisher.counters()["requests"][0]["buckets"] == [15, 0]
        assert publisher.counters()["lag_s"] == 0.01
        assert publisher.routing("shop").held == 3
        two.close()
        publisher.set_roster([1])
        summed = publisher.counters()
        assert (summed["requests"][0]["count"], summed["events"][0]["count"]) == (15, 2)
        assert (summed["connections"], summed["active"][0]["requests"]) == (4, 3)
        assert publisher.routing("shop").held == 2
        one.close()
