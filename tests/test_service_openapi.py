"""The service keeps to its OpenAPI document: schemathesis reads it, and asks what it allows and what it forbids."""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import schemathesis
from hypothesis import strategies as st
from schemathesis.engine import events, from_schema

from http_clients import DOCUMENTED, make_app, make_counted, outcomes
from pictures import encoded, jpeg, square
from service.images import ImageLimits

PICTURES = {"image/jpeg": jpeg(), "image/png": encoded(square()), "image/webp": encoded(square(), "WEBP")}

for kind, picture in PICTURES.items():
    schemathesis.openapi.media_type(kind, st.just(picture) | st.binary(max_size=200))

SEEDS = range(1, 7)

SETTINGS = {
    "continue-on-failure": True,
    "generation": {"deterministic": True, "max-examples": 80},
    "checks": {
        # 504 is the right answer to a deadline of a millisecond.
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "504"]},
        # Whether bytes are a picture, and a box lies in it, no schema can say.
        "positive_data_acceptance": {"enabled": False},
    },
}


def ask(app, seed, statuses, wrong):
    """Ask what the document allows and forbids; count the answers, and note what it does not say."""
    config = schemathesis.Config.from_dict({**SETTINGS, "seed": seed})
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            wrong.append(str(event))
        if isinstance(event, events.ScenarioFinished):
            counted = statuses.setdefault(event.recorder.label, Counter())
            counted.update(
                int(asked.response.status_code) for asked in event.recorder.interactions.values() if asked.response
            )
            wrong += [
                f"{event.recorder.label}: {check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
                for checks in event.recorder.checks.values()
                for check in checks
                if check.failure_info is not None
                and not was_left_out(check.failure_info)
                and not was_a_header_of_somebody_else(check.failure_info)
            ]


def was_left_out(failure_info) -> bool:
    """Whether what was forbidden never left: an array or object without items has no part in a form."""
    emptied = re.search(
        r"violates `type` at /properties/(\w+) \(.*became (?:array|object)\)", str(failure_info.failure)
    )
    return emptied is not None and f'name="{emptied[1]}"' not in failure_info.code_sample


def was_a_header_of_somebody_else(failure_info) -> bool:
    """Whether all that was wrong is a header that the document does not name, as any proxy may add one."""
    return "Invalid component: in header - object with unexpected properties" in str(failure_info.failure)


def test_what_the_document_says_holds():
    service, metrics = make_counted(limits=ImageLimits(max_bytes=10_000))
    asyncio.run(service.warm_up())
    app = make_app(service, metrics)
    statuses: dict[str, Counter[int]] = {}
    wrong: list[str] = []
    # Where the one box that serves most requests of a seed is good in form only, all of them are refused. What a seed
    # draws depends on all code that happens to be imported: the next one is taken until every kind of answer was given.
    for seed in SEEDS:
        ask(app, seed, statuses, wrong)
        if all(counted[200] > 1 for counted in statuses.values()) and all(
            statuses[f"POST /{path}"][status] for path in ("pose", "dependency") for status in (400, 415, 422)
        ):
            break
    assert service.close(30.0)
    assert not wrong, "\n\n".join(wrong)
    asked_for = {"POST /pose", "POST /dependency", "GET /model", "GET /healthz", "GET /readyz", "GET /metrics"}
    assert statuses.keys() == asked_for
    for label, counted in statuses.items():
        assert counted[200] > 1, label
        assert counted[405] > 1, f"{label}: other methods are asked for, too"
    for path in ("pose", "dependency"):
        asked = statuses[f"POST /{path}"]
        assert asked.keys() <= DOCUMENTED | {405}
        assert min(asked[200], asked[400], asked[415], asked[422]) > 0
        assert asked.total() > 150
        assert sum(outcomes(metrics, path).values()) == asked.total() - asked[405]
    assert service.admission.requests == 0
