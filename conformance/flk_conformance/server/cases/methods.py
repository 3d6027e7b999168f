"""Routes, methods, health, and what a browser is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from .. import judge
from ..judge import require
from ..trial import BATCH, REGION, SELF, SUBMIT, Case, Trial, add, case

_OUTCOME = "/v1/pcs/" + "a" * 64
ROUTES = {
    SUBMIT: ("POST", "submit"),
    BATCH: ("POST", "batch"),
    _OUTCOME: ("GET", "get"),
    SELF: ("GET", "tenant"),
    REGION: ("GET", "region"),
    "/health": ("GET", "health"),
    "/healthz": ("GET", "health"),
    "/readyz": ("GET", "health"),
}
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")


def _other_method(number: int, method: str, path: str, right: str, feature: str) -> None:
    def run(trial: Trial) -> None:
        reply = trial.ask(method, path, (), None if method == "GET" else b"")
        judge.refused(reply, 405, "method_not_allowed")
        allowed = {name.strip() for name in (reply.header("allow") or "").split(",")}
        require(right in allowed, f"Allow: {reply.header('allow')!r}")
        require(method not in allowed, f"Allow: {reply.header('allow')!r}")

    text = f"{method} {path[:20]} is 405 with Allow: {right}."
    add(Case(f"methods/9.3/{number}", "formats 9.3", text, run, frozenset({feature})))


for _number, (_path, _method) in enumerate(
    [(path, method) for path in ROUTES for method in _METHODS if method != ROUTES[path][0]], 1
):
    _other_method(_number, _method, _path, *ROUTES[_path])


_ELSEWHERE = (
    "/", "/v1", "/v1/pcs", "/v1/pcs/submit/", "/metrics", "/admin/drain", "/admin/reload",
    "/v1/pcs/a/b", "//v1/pcs/submit", "/v1/pcs/submit%2F", "/%ff", "/v2/pcs/submit",
)  # fmt: skip


def _elsewhere(number: int, path: str) -> None:
    def run(trial: Trial) -> None:
        judge.refused(trial.ask("POST", path, (), b""), 404, "not_found")

    text, needs = f"{path} is 404 not_found.", frozenset({"submit"})
    add(Case(f"methods/9.5/{number}", "formats 9.5", text, run, needs))


for _number, _path in enumerate(_ELSEWHERE, 1):
    _elsewhere(_number, _path)


@case("methods/9.5/13", "openapi")
def query_plays_no_part(trial: Trial) -> None:
    """A query after the path changes nothing."""
    one = trial.records.fresh(trial.key())
    judge.recorded(trial.submit(one.body, path=SUBMIT + "?x=1"))


# --- health ------------------------------------------------------------------------------------


def _healthy(path: str) -> Callable[[Trial], None]:
    def run(trial: Trial) -> None:
        reply = trial.ask("GET", path)
        require(reply.status == 200, f"{path} answers {reply.status}")
        require(reply.media_type == "application/json", f"{path} answers no JSON")
        members = json.loads(reply.body)
        require(set(members) == {"ok", "region", "primary"}, f"{path}: {members}")
        require(members["ok"] is True and type(members["primary"]) is bool, f"{path}: {members}")
        require(re.fullmatch("[a-z0-9]{3}", members["region"]), f"{path}: {members['region']!r}")

    return run


for _number, _path in enumerate(("/health", "/healthz", "/readyz"), 1):
    _text = f"{_path} says that the region lives, which it is and what it is."
    add(Case(f"health/9.1/{_number}", "openapi", _text, _healthy(_path), frozenset({"health"})))


@case("health/9.1/4", "openapi", needs="health")
def head_of_health(trial: Trial) -> None:
    """HEAD of a health path answers as GET does, without the body."""
    for path in ("/health", "/healthz", "/readyz"):
        reply = trial.ask("HEAD", path)
        require(reply.status == 200, f"HEAD {path} answers {reply.status}")


@case("health/9.1/5", "openapi", needs="submit health")
def region_of_health_is_that_of_positions(trial: Trial) -> None:
    """Positions name the region that health names."""
    reply = trial.send(trial.records.fresh(trial.key()))
    region = json.loads(trial.ask("GET", "/healthz").body)["region"]
    place = reply.header("pcs-position") or ""
    require(place.startswith(region + "/"), f"{place} is not in {region}")


# --- browsers ----------------------------------------------------------------------------------


@case("methods/9.5/14", "openapi")
def strange_page(trial: Trial) -> None:
    """A page of another origin is let in by no answer."""
    one = trial.records.fresh(trial.key())
    origin = ("Origin", "https://stranger.invalid")
    wanted = ("Access-Control-Request-Method", "POST")
    for reply in (trial.send(one, origin), trial.ask("OPTIONS", SUBMIT, [origin, wanted])):
        names = [name for name, _ in reply.headers if name.startswith("access-control-allow")]
        require(not names, f"a stranger is told {names}")
