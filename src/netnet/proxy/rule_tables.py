"""The rules of a configuration: tables of the file become ``Rules``, and what is wrong with one is told with its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from netnet.proxy.keys import RULE, read_keys
from netnet.proxy.problems import Place, near_miss, quoted
from netnet.socks.requests import Command
from netnet.socks.rules import Mistake, Route, Rule, Rules, RulesError
from netnet.socks.settings import User

#: what a request has to meet
_CONDITIONS: Final = ("clients", "users", "commands", "destinations", "ports", "times")

#: what only makes sense for what is let through
_ROUTE: Final = ("upstream", "source", "interface", "mark")

#: what a rule has that matches everything
_NO_CONDITIONS: Final = frozenset({"name", "action", *_ROUTE})

#: who is nobody in particular, in a rule
_ANYBODY: Final = frozenset({"*", "-"})


def read_rules(
    place: Place,
    tables: Sequence[Mapping[str, Any]],
    users: Mapping[str, User],
    upstreams: Mapping[str, tuple[str, ...]],
    default_allow: bool,
) -> Rules | None:
    """The rules that *tables* tell; ``None`` where there is nothing to be asked. What is wrong is noted."""
    rules = [_rule(place / index, table, users, upstreams) for index, table in enumerate(tables)]
    _check_reached(place, tables, rules)
    if default_allow and not rules:
        return None
    try:
        return Rules(rules, default_allow=default_allow)
    except RulesError as error:
        for mistake in error.mistakes:
            _place_of(place, tables, mistake).wrong(f"{quoted(mistake.item)} {mistake.text}")
        return None


def _rule(
    place: Place, table: Mapping[str, Any], users: Mapping[str, User], upstreams: Mapping[str, tuple[str, ...]]
) -> Rule:
    values = read_keys(place, table, RULE)
    allow = values["action"] == "allow"
    if values["action"] == "deny":
        for name in _ROUTE:
            if name in table:
                (place / name).wrong('says how to connect, but the action is "deny"')
    for index, user in enumerate(values["users"]):
        if user not in users and user not in _ANYBODY:
            (place / "users" / index).wrong(f"there is no {quoted(user)} in [users]{near_miss(user, users)}")
    return Rule(
        name=values["name"] or f"rule {int(place.path[-1]) + 1}",
        allow=allow,
        route=_route(place, values, upstreams) if allow else Route(),
        **{name: values[name] for name in _CONDITIONS if name != "commands"},
        commands=tuple(Command[name.upper()] for name in values["commands"]),
    )


def _route(place: Place, values: Mapping[str, Any], upstreams: Mapping[str, tuple[str, ...]]) -> Route:
    name = values["upstream"]
    if name is not None and name not in upstreams:
        hint = near_miss(name, upstreams) if "/" not in name else "; URLs stand there, in a list with a name"
        (place / "upstream").wrong(f"there is no {quoted(name)} in [upstreams]{hint}")
    return Route(
        upstream=upstreams.get(name, ()),
        upstream_name=name or "",
        **{one: values[one] for one in ("source", "interface", "mark")},
    )


def _check_reached(place: Place, tables: Sequence[Mapping[str, Any]], rules: Sequence[Rule]) -> None:
    """Notes the first rule that stands below one that matches everything."""
    for index, table in enumerate(tables[:-1]):
        if set(table) <= _NO_CONDITIONS:
            (place / (index + 1)).wrong(
                f"is never reached: rule {index + 1} ({quoted(rules[index].name)}) has no conditions, so it matches"
                " everything; move it to the end"
            )
            return


def _place_of(place: Place, tables: Sequence[Mapping[str, Any]], mistake: Mistake) -> Place:
    """Where the item stands that ``Rules`` does not take."""
    value = tables[mistake.number].get(mistake.field)
    where = place / mistake.number / mistake.field
    return where / value.index(mistake.item) if isinstance(value, list) and mistake.item in value else where


__all__ = ["read_rules"]
