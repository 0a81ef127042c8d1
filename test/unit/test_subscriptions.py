"""Who follows what: in any order of events each subscriber is told exactly the changes that it asked for.

The state machine plays Klipper (one subscription per connection, whole answers, then only what changed) and a set of
subscribers, and keeps for each of them what it was told. What it should know is worked out naively from what Klipper
reported last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from klipper_router.errors import CallError
from klipper_router.messages import Objects, Status
from klipper_router.subscriptions import (
    MAX_OBJECTS_BYTES,
    MAX_SUBSCRIPTIONS_PER_CALLER,
    OWN_WANTS,
    Following,
    Subscription,
    Values,
)

WEBHOOKS = "webhooks"
FIELDS = {WEBHOOKS: ("state", "state_message"), "print_stats": ("state", "info"), "toolhead": ("position", "speed")}
VALUES = st.sampled_from(
    [None, True, 0, 1.5, "", "printing", {"layer": 1}, {"layer": 2, "all": 9}, {"layer": [1]}, [1, 2, 3], [1, 2, 4], []]
)
WANTED_FIELDS = {
    WEBHOOKS: ("state",),
    "print_stats": ("state", "info", "info.layer", "info.layer.0", "info.none"),
    "toolhead": ("position.2", "position.1", "position", "missing", "speed"),
    "probe": ("x",),
}
WANTS = st.lists(st.sampled_from(sorted(WANTED_FIELDS)), unique=True, max_size=3).flatmap(
    lambda names: st.fixed_dictionaries(
        {name: st.none() | st.lists(st.sampled_from(WANTED_FIELDS[name]), unique=True) for name in names}
    )
)
CALLERS = st.sampled_from(["led", "afc"])
CALLBACKS = st.sampled_from(["ON_STATUS", "ON_OTHER"])

Known = dict[tuple[str, str], Any]


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


def pick(value: Any, steps: list[str]) -> Any:
    for step in steps:
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return value


def covers(asked: Mapping[str, list[str] | None], wants: Mapping[str, list[str] | None]) -> bool:
    for name, fields in wants.items():
        if name not in asked:
            return False
        have = asked[name]
        if have is not None and (fields is None or any(field.split(".")[0] not in have for field in fields)):
            return False
    return True


class Follower:
    """A subscriber beside the subscription: what it was told, and what it should know."""

    def __init__(self, subscription: Subscription[str], wants: Objects) -> None:
        self.subscription = subscription
        self.wants = wants
        self.told: Known = {}
        self.is_served = False

    def should_know(self, reported: Mapping[str, Mapping[str, Any]], *, has_objects: bool) -> Known:
        known: Known = {}
        for name, wanted in self.wants.items():
            if name in reported and (has_objects or name == WEBHOOKS):
                for field in reported[name] if wanted is None else wanted:
                    base, *steps = field.split(".")
                    known[name, field] = pick(reported[name].get(base), steps)
        return known

    def take(self) -> Values:
        news = self.subscription.take()
        for key, value in news.items():
            assert key not in self.told or text(self.told[key]) != text(json.loads(value)), "told twice"
            self.told[key] = json.loads(value)
        return news


class KlipperAndFollowers(RuleBasedStateMachine):
    """Klipper's side: ``truth`` is what it would report, ``sends`` what its subscription holds.

    ``asked`` is the subscription whose snapshot counts, ``request`` one that is under way.
    """

    @initialize(ready=st.booleans())
    def begin(self, ready: bool) -> None:
        self.following: Following[str] = Following()
        self.followers: dict[tuple[str, str], Follower] = {}
        self.truth: dict[str, dict[str, Any]] = {name: dict.fromkeys(fields) for name, fields in FIELDS.items()}
        self.reported: dict[str, dict[str, Any]] = {}
        self.asked: Objects = {}
        self.sends: Objects = {}
        self.request: Objects | None = None
        self.ready = ready
        self.has_objects = False
        self.connected = True

    # -- subscribers ---------------------------------------------------------------------------------------------

    @rule(caller=CALLERS, callback=CALLBACKS, wants=WANTS)
    def subscribe(self, caller: str, callback: str, wants: Objects) -> None:
        self.followers.pop((caller, callback), None)
        follower = Follower(self.following.subscribe(caller, callback, wants), wants)
        follower.is_served = bool(self.asked) and covers(self.asked, wants)
        self.followers[caller, callback] = follower

    @rule(caller=CALLERS, callback=st.none() | CALLBACKS)
    def unsubscribe(self, caller: str, callback: str | None) -> None:
        gone = [key for key in self.followers if key[0] == caller and callback in (None, key[1])]
        ended = self.following.unsubscribe(caller, callback)
        assert {id(s) for s in ended} == {id(self.followers.pop(key).subscription) for key in gone}
        assert all(self.following.get(s.caller, s.callback) is None for s in ended)

    @precondition(lambda self: self.followers)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.followers)))
        follower = self.followers[key]
        follower.take()
        assert not follower.subscription.has_news
        assert follower.subscription.take() == {}

    # -- Klipper -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.connected and self.request is None)
    @rule()
    def ask(self) -> None:
        self.request = self.following.ask()
        self.asked = {}
        for name, fields in OWN_WANTS.items():
            assert covers(self.request, {name: fields})
        for follower in self.followers.values():
            assert covers(self.request, follower.wants)

    @precondition(lambda self: self.connected and self.request is not None)
    @rule()
    def answer(self) -> None:
        assert self.request is not None
        self.asked = self.sends = self.request
        self.request = None
        self.has_objects = self.ready
        self.reported = {}
        for name, fields in self.asked.items():
            # webhooks.py: {} of an unknown object, null of an unknown field
            has = self.truth.get(name, {}) if self.has_objects or name == WEBHOOKS else {}
            self.reported[name] = dict(has) if fields is None else {field: has.get(field) for field in fields if has}
        for follower in self.followers.values():
            if covers(self.asked, follower.wants):
                follower.is_served = True
        told = self.following.snapshot(self.asked, self.as_status(self.reported), has_objects=self.ready)
        self.check_told(told)
        for follower in self.followers.values():
            assert (follower.subscription in told) or not self.news_of(follower), "nobody would deliver it"

    @precondition(lambda self: self.connected and self.sends)
    @rule(
        changes=st.lists(
            st.sampled_from([(name, field) for name, fields in FIELDS.items() for field in fields]), max_size=3
        ),
        value=VALUES,
    )
    def change(self, changes: list[tuple[str, str]], value: Any) -> None:
        """Klipper reports of a change what the connection's subscription holds, and only that."""
        update: dict[str, dict[str, Any]] = {}
        before = {key: self.news_of(follower) for key, follower in self.followers.items()}
        for name, field in changes:
            self.truth[name][field] = value
            fields = self.sends.get(name, [])
            if (fields is None or field in fields) and (self.has_objects or name == WEBHOOKS):
                update.setdefault(name, {})[field] = value
                self.reported.setdefault(name, {})[field] = value
        told = self.following.update(self.as_status(update))
        self.check_told(told)
        for key, follower in self.followers.items():
            if any(k not in before[key] or before[key][k] != v for k, v in self.news_of(follower).items()):
                assert follower.subscription in told, "nobody would deliver it"

    @precondition(lambda self: self.connected and self.asked and not self.ready)
    @rule()
    def become_ready(self) -> None:
        self.ready = True
        self.following.objects_appear()
        self.asked = {}
        self.request = None  # an answer that was under way is asked for once more
        for follower in self.followers.values():
            follower.is_served = False

    @precondition(lambda self: self.connected)
    @rule(ready=st.booleans())
    def lose(self, ready: bool) -> None:
        self.connected = self.has_objects = False
        self.ready = ready
        self.asked = self.sends = {}
        self.reported = {}
        self.request = None
        self.following.lose()
        for follower in self.followers.values():
            assert not follower.subscription.has_news
            follower.told = {}
            follower.is_served = False

    @precondition(lambda self: not self.connected)
    @rule()
    def return_(self) -> None:
        self.connected = True

    # -- what must hold ------------------------------------------------------------------------------------------

    def as_status(self, values: Mapping[str, Mapping[str, Any]]) -> Status:
        return {name: {field: text(value) for field, value in fields.items()} for name, fields in values.items()}

    def check_told(self, told: list[Subscription[str]]) -> None:
        """Whoever has news was named, once, and nobody before a snapshot held all that it wants."""
        named = [id(subscription) for subscription in told]
        assert len(named) == len(set(named))
        assert {*named} <= {id(follower.subscription) for follower in self.followers.values()}, "it has ended"
        for follower in self.followers.values():
            if self.news_of(follower):
                assert follower.subscription.has_news
            if id(follower.subscription) in named:
                assert follower.subscription.has_news
                assert follower.is_served

    def news_of(self, follower: Follower) -> Known:
        if not follower.is_served:
            return {}
        known = follower.should_know(self.reported, has_objects=self.has_objects)
        return {k: v for k, v in known.items() if k not in follower.told or text(follower.told[k]) != text(v)}

    @invariant()
    def everybody_would_be_told_exactly_what_changed(self) -> None:
        """Looked at without taking: what is pending and differs from what was delivered is what should be told."""
        for follower in self.followers.values():
            if follower.is_served:
                view, missed = follower.subscription.view, follower.subscription._missed
                pending = view.news(missed) if view is not None else {}
                assert {k: json.loads(v) for k, v in pending.items()} == self.news_of(follower)

    @invariant()
    def no_view_is_kept_for_nobody(self) -> None:
        seen = [id(subscription) for view in self.following._views for subscription in view.followers]
        assert {*seen} <= {id(follower.subscription) for follower in self.followers.values()}
        assert len(seen) == len({*seen})
        assert all(view.followers for view in self.following._views)

    @invariant()
    def the_subscriptions_are_the_followers(self) -> None:
        assert len(self.following) == len(self.followers)
        assert {id(s) for s in self.following} == {id(f.subscription) for f in self.followers.values()}
        for caller in ("led", "afc"):
            mine = [id(f.subscription) for (who, _), f in self.followers.items() if who == caller]
            assert {id(s) for s in self.following.of(caller)} == set(mine)

    def teardown(self) -> None:
        """Whatever happened: once all is quiet, each follower knows what Klipper has of what it wants."""
        if not hasattr(self, "following"):
            return
        self.connected = True
        if not self.ready and self.asked:
            self.become_ready()
        self.ready = True
        if self.request is not None:
            self.answer()
        self.ask()
        self.answer()
        for follower in self.followers.values():
            follower.take()
            truth = {name: self.reported[name] for name in follower.wants}
            assert follower.told == follower.should_know(truth, has_objects=True)


KlipperAndFollowers.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestKlipperAndFollowers = KlipperAndFollowers.TestCase


READY = {WEBHOOKS: {"state": b'"ready"', "state_message": b'"Printer is ready"'}}


def test_with_no_subscriber_only_our_own_wants_are_asked_for() -> None:
    following: Following[str] = Following()
    assert following.union() == {"webhooks": ["state", "state_message"]}
    assert following.snapshot(following.union(), dict(READY), has_objects=True) == []


def test_the_union_asks_for_each_field_once_and_for_all_fields_where_one_wants_all() -> None:
    following: Following[str] = Following()
    following.subscribe("led", "A", {"toolhead": ["position.2", "speed"], "print_stats": None})
    following.subscribe(
        "afc", "A", {"toolhead": ["position.0", "position"], "print_stats": ["state"], "webhooks": None}
    )
    assert following.union() == {"webhooks": None, "toolhead": ["position", "speed"], "print_stats": None}


def test_a_dotted_field_is_told_only_when_its_own_value_changes() -> None:
    following: Following[str] = Following()
    subscription = following.subscribe("led", "A", {"toolhead": ["position.2"], "print_stats": ["info.current_layer"]})
    status = {"toolhead": {"position": b"[0, 0, 5.5]"}, "print_stats": {"info": b'{"current_layer": 3}'}}
    assert following.snapshot(following.union(), status, has_objects=True) == [subscription]
    assert subscription.take() == {("toolhead", "position.2"): b"5.5", ("print_stats", "info.current_layer"): b"3"}
    assert following.update({"toolhead": {"position": b"[9, 9, 5.5]"}}) == []
    assert following.update({"toolhead": {"position": b"[9, 9, 6]"}}) == [subscription]
    assert subscription.take() == {("toolhead", "position.2"): b"6"}


@pytest.mark.parametrize(
    "field", ["a.-1", "a.9", "a.x", "a.0.0", "a.²", "a.", "a." + "9" * 5000, "b.x", "c.0", "d.x", "e.x"]
)
def test_a_dotted_field_that_leads_nowhere_is_null(field: str) -> None:
    following: Following[str] = Following()
    subscription = following.subscribe("led", "A", {"o": [field]})
    values = {"a": b"[1, 2]", "b": b'"text"', "c": b"{}", "d": b'{"x": 1e400}', "e": b"[" * 5000 + b"]" * 5000}
    following.snapshot(following.union(), {"o": values}, has_objects=True)
    assert subscription.take() == {("o", field): b"null"}


def test_a_second_subscriber_to_known_values_is_told_at_once_without_asking_klipper() -> None:
    following: Following[str] = Following()
    following.subscribe("led", "A", {"print_stats": None})
    following.snapshot(following.union(), {"print_stats": {"state": b'"printing"'}}, has_objects=True)
    subscription = following.subscribe("afc", "B", {"print_stats": ["state"]})
    assert subscription.has_news
    assert subscription.take() == {("print_stats", "state"): b'"printing"'}


def test_nothing_is_told_before_a_snapshot_held_all_that_is_wanted() -> None:
    following: Following[str] = Following()
    following.snapshot(following.union(), dict(READY), has_objects=True)
    subscription = following.subscribe("led", "A", {"webhooks": None})
    assert not subscription.has_news
    assert following.update({"webhooks": {"state": b'"shutdown"'}}) == []
    following.snapshot(following.union(), {"webhooks": {"state": b'"shutdown"', "x": b"1"}}, has_objects=True)
    assert subscription.take() == {("webhooks", "state"): b'"shutdown"', ("webhooks", "x"): b"1"}


def test_an_update_before_the_first_snapshot_tells_nobody() -> None:
    following: Following[str] = Following()
    subscription = following.subscribe("led", "A", {"print_stats": ["state"]})
    assert following.update({"print_stats": {"state": b'"printing"'}}) == []
    assert not subscription.has_news


def test_what_changed_in_the_gap_of_a_new_subscription_is_told_and_nothing_twice() -> None:
    following: Following[str] = Following()
    first = following.subscribe("led", "A", {"print_stats": ["state", "filename"]})
    before = {"print_stats": {"state": b'"standby"', "filename": b'""'}}
    following.snapshot(following.union(), before, has_objects=True)
    first.take()
    following.subscribe("afc", "B", {"toolhead": ["speed"]})
    after = {"print_stats": {"state": b'"printing"', "filename": b'""'}, "toolhead": {"speed": b"5"}}
    following.snapshot(following.union(), after, has_objects=True)
    assert first.take() == {("print_stats", "state"): b'"printing"'}


def test_changes_meanwhile_are_merged_and_one_that_was_undone_is_not_told() -> None:
    following: Following[str] = Following()
    subscription = following.subscribe("led", "A", {"print_stats": ["state"]})
    following.snapshot(following.union(), {"print_stats": {"state": b'"standby"'}}, has_objects=True)
    subscription.take()
    for state in (b'"printing"', b'"paused"'):
        assert following.update({"print_stats": {"state": state}}) == [subscription]
    assert subscription.take() == {("print_stats", "state"): b'"paused"'}
    following.update({"print_stats": {"state": b'"error"'}})
    following.update({"print_stats": {"state": b'"paused"'}})
    assert subscription.take() == {}


def test_followers_of_the_same_share_one_encoding_of_what_is_news_to_both() -> None:
    following: Following[str] = Following()
    first, second = (following.subscribe(caller, "A", {"print_stats": ["state"]}) for caller in ("led", "afc"))
    made: list[Values] = []

    def encode(values: Values) -> bytes:
        made.append(dict(values))
        return b"frame %d" % len(made)

    assert first.take_encoded(encode) == b""  # before the first snapshot
    following.snapshot(following.union(), {"print_stats": {"state": b'"standby"'}}, has_objects=True)
    for each in (first, second):
        each.take()
    following.update({"print_stats": {"state": b'"printing"'}})
    assert first.take_encoded(encode) == second.take_encoded(encode) == b"frame 1"
    assert made == [{("print_stats", "state"): b'"printing"'}]
    assert first.take_encoded(encode) == b""
    following.update({"print_stats": {"state": b'"paused"'}})
    following.update({"print_stats": {"state": b'"printing"'}})
    assert first.take_encoded(encode) == b""  # undone meanwhile


def test_a_printer_that_returns_is_told_in_full() -> None:
    following: Following[str] = Following()
    subscription = following.subscribe("led", "A", {"print_stats": ["state"]})
    status = {"print_stats": {"state": b'"standby"'}}
    following.snapshot(following.union(), dict(status), has_objects=True)
    subscription.take()
    following.lose()
    assert not subscription.live
    assert following.update(dict(status)) == []
    following.snapshot(following.union(), dict(status), has_objects=True)
    assert subscription.take() == {("print_stats", "state"): b'"standby"'}


def test_before_klipper_has_its_objects_only_its_own_state_is_told() -> None:
    following: Following[str] = Following()
    subscription = following.subscribe("led", "A", {"print_stats": ["state"], "webhooks": ["state"]})
    answer: Status = {"print_stats": {"state": b"null"}, "webhooks": {"state": b'"startup"'}}
    following.snapshot(following.union(), answer, has_objects=False)
    assert subscription.take() == {("webhooks", "state"): b'"startup"'}
    assert following.update({"print_stats": {"state": b'"standby"'}}) == []
    assert following.update({"webhooks": {"state": b'"ready"'}}) == [subscription]
    following.objects_appear()
    answer = {"print_stats": {"state": b'"standby"'}, "webhooks": {"state": b'"ready"'}}
    following.snapshot(following.union(), answer, has_objects=True)
    assert subscription.take() == {("print_stats", "state"): b'"standby"', ("webhooks", "state"): b'"ready"'}


def test_a_macro_that_makes_up_callbacks_cannot_fill_the_memory() -> None:
    following: Following[str] = Following()
    for number in range(MAX_SUBSCRIPTIONS_PER_CALLER):
        following.subscribe("led", f"CB{number}", {"toolhead": None})
    with pytest.raises(CallError, match="100 callbacks follow it already"):
        following.subscribe("led", "ONE_MORE", {"toolhead": None})
    assert len(following) == MAX_SUBSCRIPTIONS_PER_CALLER
    following.subscribe("led", "CB0", {"print_stats": None})
    following.subscribe("afc", "CB", {"toolhead": None})
    assert len(following) == MAX_SUBSCRIPTIONS_PER_CALLER + 1


def test_the_objects_of_a_subscription_cannot_fill_the_memory_either() -> None:
    following: Following[str] = Following()
    following.subscribe("led", "CB", {f"gcode_macro NUMBER_{number}": None for number in range(1500)})
    before = following.get("led", "CB")
    wants: list[Objects] = [{"x" * MAX_OBJECTS_BYTES: None}, {"toolhead": ["x"] * MAX_OBJECTS_BYTES}]
    for too_much in wants:
        with pytest.raises(CallError, match=f"too many to follow, {MAX_OBJECTS_BYTES} are the most"):
            following.subscribe("led", "CB", too_much)
    assert following.get("led", "CB") is before


def test_a_subscription_that_was_replaced_is_told_nothing_more() -> None:
    following: Following[str] = Following()
    for _ in range(3):
        following.subscribe("led", "A", {"print_stats": ["state"]})
        following.snapshot(following.union(), {"print_stats": {"state": b'"standby"'}, **READY}, has_objects=True)
    newest = following.get("led", "A")
    assert following.update({"print_stats": {"state": b'"printing"'}}) == [newest]


def test_followers_of_the_same_are_told_each_of_its_own_changes() -> None:
    following: Following[str] = Following()
    wants: Objects = {"print_stats": ["state"]}
    quick, slow = following.subscribe("led", "A", wants), following.subscribe("afc", "A", wants)
    following.snapshot(following.union(), {"print_stats": {"state": b'"standby"'}, **READY}, has_objects=True)
    key = ("print_stats", "state")
    assert quick.take() == {key: b'"standby"'}
    following.update({"print_stats": {"state": b'"printing"'}})
    assert quick.take() == {key: b'"printing"'}
    late = following.subscribe("mmu", "A", wants)
    assert late.take() == {key: b'"printing"'}
    following.update({"print_stats": {"state": b'"standby"'}})
    assert slow.take() == {key: b'"standby"'}
    assert quick.take() == {key: b'"standby"'}
    assert late.take() == {key: b'"standby"'}


def test_what_is_encoded_for_one_is_what_all_who_missed_the_same_are_told() -> None:
    following: Following[str] = Following()
    wants: Objects = {"print_stats": ["state"]}
    followers = [following.subscribe(name, "A", wants) for name in ("led", "afc", "mmu")]
    following.snapshot(following.union(), {"print_stats": {"state": b'"standby"'}, **READY}, has_objects=True)
    for follower in followers[:2]:
        follower.take()
    following.update({"print_stats": {"state": b'"printing"'}})
    following.update({"print_stats": {"state": b'"paused"'}})
    calls: list[Values] = []

    def encode(values: Values) -> bytes:
        calls.append(values)
        return b"".join(values.values())

    assert [follower.take_encoded(encode) for follower in followers] == [b'"paused"'] * 3
    assert [follower.take_encoded(encode) for follower in followers] == [b""] * 3
    following.update({"print_stats": {"state": b'"standby"'}})
    assert [follower.take_encoded(encode) for follower in followers] == [b'"standby"'] * 3
    assert calls[-1] == {("print_stats", "state"): b'"standby"'}
    assert sum(values == calls[-1] for values in calls) == 1
