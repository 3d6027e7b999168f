"""Tell the story of the demo, one function a step; each says what happened and expects it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from demo.account import Account, Table
from demo.languages import Answer, send
from demo.load import LoadReport, ReadBack, read_back, run_load
from demo.region import TENANT, Reader, Region, flk, flk_server
from demo.weather import (
    COLUMNS,
    WINDOW_DAYS,
    Day,
    by_month,
    month_record,
    read_days,
    weather_file,
    window_records,
)
from fractal_lba import (
    Client,
    FractalLBAError,
    Outcome,
    Record,
    SignedRecord,
    Submitted,
    derive_pcs_id,
    jcs,
    parse,
    sign_record,
)
from fractal_lba.keyfile import read_key_file

MONTHS: Final = 48
ROWS_PRINTED: Final = 6
LANGUAGES: Final = ("Python", "Go", "TypeScript")
OVERSTATED_BY: Final = 0.5
"""How much more D_hat one record claims than its own counts give."""


@dataclass(slots=True)
class Run:
    """What the steps share."""

    account: Account
    region: Region
    windows: int
    kills: int
    seed: int
    promised: dict[str, bytes]
    """Every acknowledged outcome by id, in the bytes of the first answer."""


def tell(run: Run) -> None:
    """Go through all steps. Raises ExpectationError at the first promise that does not hold."""
    try:
        _start(run)
        days = read_days(weather_file())
        months, whole = _summarise(run, days)
        with _client(run) as client:
            firsts = _submit(run, client, months, whole)
            _repeat(run, client, months[0], firsts[0])
            _alter(run, client, months[1])
            _contradict(run, client, days, firsts[0])
        _share(run, months)
        _kill(run, days)
        _end(run)
    finally:
        run.region.stop()


def _client(run: Run) -> Client:
    signer = read_key_file(run.region.key_file).signer()
    return Client(run.region.url, signer=signer, tenant=TENANT)


def _reader(run: Run) -> Reader:
    return Reader(run.region.port, run.region.token_file.read_text().strip())


# --- steps 1 to 3 ---------------------------------------------------------------------------


def _start(run: Run) -> None:
    account, region = run.account, run.region
    account.step("A key, a tenant, a server")
    region.make_keys()
    region.start()
    account.say(
        "`flk keys new` drew a signing key for the tenant 'demo'; the server knows the same key.",
        "`flk-server tenants token new` drew a token: outcomes are read with it, never written.",
        f"One server process listens on {region.url}, with an empty data directory.",
    )


def _summarise(run: Run, days: list[Day]) -> tuple[list[Record], Path]:
    account = run.account
    account.step("Summaries of real data")
    groups = by_month(days)
    months = [month_record(group) for group in groups.values()]
    account.expect(f"the data has {MONTHS} months", holds=len(months) == MONTHS)
    whole = run.region.key_file.with_name("whole.json")
    flk(
        "pcs", "build", str(weather_file()), "--columns", ",".join(COLUMNS),
        "--shard-id", "seattle/whole", "--epoch", "1", "--out", str(whole),
    )  # fmt: skip
    all_days = parse(whole.read_bytes().strip())
    account.say(
        f"{len(days):,} days of weather in Seattle, four measurements a day: {', '.join(COLUMNS)}.",
        f"`summarize` turned each of {len(months)} months into one small record, and",
        "`flk pcs build` the whole file into another. A record holds no day, only a hash of all",
        "of them and the figures below: how the points fill space (D_hat), how well they compress",
        "(r), how much they agree on a direction (coh_star), and the budget that follows.",
    )
    rows = [_row(month, record.to_dict()) for month, record in zip(groups, months, strict=True)]
    table = [("period", "D_hat", "regime", "r", "coh_star", "budget"), *rows]
    account.show([*table, _row("whole file", all_days)], printed_rows=ROWS_PRINTED)
    account.figures["months"] = [
        {"month": month, **{name: record.to_dict()[name] for name in table[0][1:]}}
        for month, record in zip(groups, months, strict=True)
    ]
    account.figures["whole_file"] = {name: all_days[name] for name in table[0][1:]}
    account.figures["days"] = len(days)
    return months, whole


def _row(period: str, record: dict[str, Any]) -> tuple[str, ...]:
    return (
        period,
        f"{record['D_hat']:.3f}",
        record["regime"],
        f"{record['r']:.3f}",
        f"{record['coh_star']:.3f}",
        f"{record['budget']:.3f}",
    )


def _submit(run: Run, client: Client, months: list[Record], whole: Path) -> list[Submitted]:
    account = run.account
    account.step("Signed and submitted, by SDK and by command")
    firsts = [_recorded(item.result) for item in client.submit_many(months)]
    line = flk(
        "submit", str(whole), "--endpoint", run.region.url,
        "--key-file", str(run.region.key_file), "--json",
    )  # fmt: skip
    by_command = Outcome.from_dict(json.loads(line)["outcome"])
    claim = client.submit(_overstated(months[0]))
    for first in [*firsts, claim]:
        run.promised[first.outcome.pcs_id] = first.raw.body
    run.promised[by_command.pcs_id] = jcs(by_command.to_dict())
    counts = _count([*(first.outcome for first in firsts), by_command, claim.outcome])
    account.say(
        f"{len(firsts)} records went out with `submit_many`, one with `flk submit`. The server",
        "checks each signature, computes each verdict again from the record's own counts, writes",
        "record and verdict to disk, and only then answers. One more record, signed as properly,",
        f"claims a D_hat that is {OVERSTATED_BY} too high: it is recorded, and not accepted.",
    )
    table = [("verdict", "records")]
    account.show([*table, *((name, str(n)) for name, n in counts.items())], printed_rows=9)
    account.figures["outcomes"] = counts
    account.figures["first_outcome"] = parse(firsts[0].raw.body)
    account.figures["first_outcome_text"] = firsts[0].raw.body.decode()
    account.expect("all summaries are accepted", holds=all(f.outcome.accepted for f in firsts))
    account.expect("the summary of the whole file is accepted", holds=by_command.accepted)
    account.expect(
        "an overstated D_hat is recorded, escalated and not accepted",
        holds=claim.outcome.reason == "d_hat_out_of_tolerance" and not claim.outcome.accepted,
    )
    return firsts


def _recorded(result: Submitted | None) -> Submitted:
    assert result is not None, "an item without a result raises by its error"
    return result


def _overstated(record: Record) -> dict[str, Any]:
    members = _elsewhere(record, "seattle/overstated")
    return members | {"D_hat": round(members["D_hat"] + OVERSTATED_BY, 9)}


def _elsewhere(record: Record, shard_id: str) -> dict[str, Any]:
    """Copy a record under another shard, which gives it another id."""
    pcs_id = derive_pcs_id(record.merkle_root, record.epoch, shard_id)
    return record.to_dict() | {"shard_id": shard_id, "pcs_id": pcs_id}


def _count(outcomes: Iterable[Outcome]) -> dict[str, int]:
    def name(outcome: Outcome) -> str:
        verdict = "accepted" if outcome.accepted else "not accepted"
        return f"{verdict}, escalated: {outcome.reason}" if outcome.escalated else verdict

    return dict(Counter(map(name, outcomes)))


# --- steps 4 to 6: a duplicate, a forgery, a contradiction ------------------------------------


def _repeat(run: Run, client: Client, record: Record, first: Submitted) -> None:
    account = run.account
    account.step("The same record again")
    again = client.submit(record)
    same = again.raw.body == first.raw.body
    replayed = again.raw.headers.get("idempotency-replayed", "absent")
    account.say(
        "The first month was submitted a second time. The answer is the first outcome:",
        f"{len(again.raw.body)} bytes, all equal; Idempotency-Replayed: {replayed};",
        f"the same place in the log, {again.position}. Nothing was written twice.",
    )
    account.figures["duplicate"] = {
        "bytes": len(again.raw.body), "same": same, "replayed": again.replayed,
    }  # fmt: skip
    account.expect("a duplicate gets the first outcome, byte for byte", holds=same)
    account.expect("a duplicate is marked as one", holds=again.replayed and not first.replayed)
    account.expect("a duplicate has the first position", holds=again.position == first.position)


def _alter(run: Run, client: Client, record: Record) -> None:
    account = run.account
    account.step("A record altered after signing")
    signer = read_key_file(run.region.key_file).signer()
    moved = _elsewhere(record, "seattle/altered")
    members = parse(sign_record(moved, signer, tenant=TENANT).body)
    before = members["r"]
    members["r"] = round(before / 2, 9)
    error = _refusal(client, SignedRecord.from_json(jcs(members)))
    reader = _reader(run)
    status, _ = reader.read(members["pcs_id"])
    reader.close()
    account.say(
        f"After signing, r was changed from {before} to {members['r']}.",
        f"The server refuses: {_status(error)} {_code(error)}. It keeps nothing of it: GET of this",
        f"id gives {status}.",
    )
    account.figures["altered"] = {"status": _status(error), "code": _code(error)}
    account.expect("an altered record is refused: 401", holds=_status(error) == 401)
    account.expect("the refusal says why", holds=_code(error) == "signature_invalid")
    account.expect("an altered record is not kept", holds=status == 404)


def _contradict(run: Run, client: Client, days: list[Day], first: Submitted) -> None:
    account = run.account
    account.step("Other content under the same id")
    month = next(iter(by_month(days).values()))
    error = _refusal(client, month_record(month, seed=1))
    reader = _reader(run)
    _, body = reader.read(first.outcome.pcs_id)
    reader.close()
    intact = body == first.raw.body
    account.say(
        "The first month was summarised again with another seed, and signed properly: the same",
        "id, other figures. Which of the two would be the truth? The first one stands:",
        f"{_status(error)} {_code(error)}, and GET still gives the first outcome, "
        f"{'byte for byte' if intact else 'changed'}.",
    )
    account.figures["conflict"] = {
        "status": _status(error), "code": _code(error), "first_outcome_intact": intact,
    }  # fmt: skip
    account.expect("other content is refused: 409", holds=_status(error) == 409)
    account.expect("the refusal says why", holds=_code(error) == "pcs_id_conflict")
    account.expect("the first outcome is intact", holds=intact)


def _refusal(client: Client, record: Record | SignedRecord) -> FractalLBAError | None:
    try:
        client.submit(record)
    except FractalLBAError as error:
        return error
    return None


def _status(error: FractalLBAError | None) -> int | None:
    return None if error is None else error.status


def _code(error: FractalLBAError | None) -> str:
    return "no refusal" if error is None else error.code


# --- step 7: three languages ------------------------------------------------------------------


def _share(run: Run, months: list[Record]) -> None:
    """Deal records to three SDKs, then let each send what another one sent first."""
    account = run.account
    account.step("Three languages, one record")
    records = [_elsewhere(month, "seattle/shared") for month in months]
    head = ("SDK", "records", "first", "sent again what was sent by", "duplicates", "same bytes")
    table: Table = [head]
    first: dict[str, list[Answer]] = {}
    dealt = {name: records[at :: len(LANGUAGES)] for at, name in enumerate(LANGUAGES)}
    for language in LANGUAGES:
        first[language] = send(language, run.region, dealt[language])
        run.promised.update({answer.pcs_id: answer.body for answer in first[language]})
    again: dict[str, list[Answer]] = {}
    for at, language in enumerate(LANGUAGES):
        other = LANGUAGES[at - 1]
        again[language] = send(language, run.region, dealt[other])
        new = sum(not answer.replayed for answer in first[language])
        replayed = sum(answer.replayed for answer in again[language])
        same = sum(a.body == b.body for a, b in zip(again[language], first[other], strict=True))
        row = (language, str(len(first[language])), str(new), other, str(replayed), str(same))
        table.append(row)
    account.say(
        f"The {len(records)} months were dealt out to the SDKs for Python, Go and TypeScript,",
        "under another shard so that they are new. Then each SDK signed and sent again what",
        "another one had sent. Same bytes signed, same id, same content: the server sees",
        "duplicates, whatever the language.",
    )
    account.show(table, printed_rows=len(LANGUAGES))
    account.figures["languages"] = {
        name: {"first": len(first[name]), "duplicates": len(again[name])} for name in LANGUAGES
    }
    firsts = [answer for name in LANGUAGES for answer in first[name]]
    account.expect("what one SDK sends first is new", holds=not any(a.replayed for a in firsts))
    seconds = [answer for name in LANGUAGES for answer in again[name]]
    account.expect(
        "what another sends again is a duplicate", holds=all(a.replayed for a in seconds)
    )
    kept = {answer.pcs_id: answer.body for answer in firsts}
    same_bytes = all(kept[answer.pcs_id] == answer.body for answer in seconds)
    account.expect("a duplicate has the same bytes in every language", holds=same_bytes)


# --- steps 8 and 9: kill -9, and what is left -------------------------------------------------


def _kill(run: Run, days: list[Day]) -> None:
    account, region = run.account, run.region
    account.step("kill -9 under load")
    records = window_records(days, run.windows)
    report = run_load(
        region,
        read_key_file(region.key_file).signer(),
        records,
        region.key_file.with_name("outbox"),
        kills=run.kills,
        chance=random.Random(run.seed),
    )
    run.promised.update(report.acknowledged)
    token = region.token_file.read_text().strip()
    back = read_back(region.port, token, run.promised)
    account.say(
        f"{len(records):,} records, one for each window of {WINDOW_DAYS} days, were submitted 16",
        f"at a time through an outbox on disk. Meanwhile the server got {run.kills} x SIGKILL at",
        "random moments and was started again.",
    )
    head = ("kill", "after", "acknowledged", "in flight", "away")
    rows = [
        (str(n), f"{kill.at_s:.2f} s", f"{kill.acknowledged:,}", f"{kill.in_flight:,}",
         f"{kill.away_s:.2f} s")
        for n, kill in enumerate(report.kills, 1)
    ]  # fmt: skip
    account.show([head, *rows], printed_rows=len(rows))
    _say_what_is_left(run, report, back, len(records))


def _say_what_is_left(run: Run, report: LoadReport, back: ReadBack, records: int) -> None:
    account = run.account
    promised, lost = len(run.promised), len(back.missing) + len(back.changed)
    gave_up = sum(report.failures.values())
    # The rule of three: after n trials without a loss the rate is below 3/n, 19 times in 20.
    bound = f"below {300 / promised:.2f} % with 95 % confidence" if not lost else "not zero"
    account.say(
        f"{gave_up:,} calls gave up while the server was away; the outbox delivered their records",
        f"later. {report.survived:,} records without an answer were on the server's disk already.",
        f"Acknowledged in the end: {len(report.acknowledged):,} of {records:,}, in "
        f"{report.seconds:.1f} s.",
    )
    account.say(
        "Then every outcome acknowledged since step 3 was read back:",
        f"{back.same:,} of {promised:,} are there with the same bytes.",
        f"{lost} of {promised:,} lost: {bound}. The bound is for records;",
        f"{run.kills} kills are a demonstration, and `nox -s crash` makes 300.",
    )
    account.expect("every kill came", holds=len(report.kills) == run.kills)
    account.expect(
        "a kill met records in flight", holds=any(kill.in_flight for kill in report.kills)
    )
    account.figures["load"] = {
        "records": records,
        "kills": [asdict(kill) for kill in report.kills],
        "acknowledged": len(report.acknowledged),
        "calls_that_gave_up": report.failures,
        "first_heard_as_duplicate": report.survived,
        "checked": promised,
        "same": back.same,
        "lost": lost,
        "bound_95": 3 / promised,
        "seconds": round(report.seconds, 3),
        "latency_ms": {
            "median": round(median(report.latencies_ms), 3),
            "p99": round(sorted(report.latencies_ms)[int(len(report.latencies_ms) * 0.99)], 3),
        },
        "latencies_ms": [round(value, 2) for value in report.latencies_ms],
        "answered_at_s": [round(value, 3) for value in report.answered_at_s],
    }
    account.expect("no record has two outcomes", holds=report.contradictions == 0)
    account.expect("the outbox is empty", holds=report.left == 0 and report.dead == 0)
    account.expect("every record is acknowledged", holds=len(report.acknowledged) == records)
    account.expect("nothing acknowledged is lost or changed", holds=lost == 0)


def _end(run: Run) -> None:
    account = run.account
    account.step("A graceful stop, and a look at what is kept")
    status = run.region.stop()
    account.expect("the server ends with status 0 on SIGTERM", holds=status == 0)
    checked = json.loads(flk_server("fsck", "--data", str(run.region.data), "--json"))
    dumped = flk_server("wal", "dump", "--data", str(run.region.data), "--limit", "1")
    frame = json.loads(dumped)
    account.say(
        "The server was asked to stop (SIGTERM), finished what it had, and ended with status 0.",
        f"`flk-server fsck` read every byte of the log: {checked['frames']:,} records, "
        f"{len(checked['faults'])} faults.",
        f"`flk-server wal dump` shows frame {frame['seq']}: tenant {frame['tenant']}, key",
        f"{frame['kid']}, status {frame['status']}, {frame['bytes']} bytes, id "
        f"{frame['pcs_id'][:16]}...",
    )
    account.figures["fsck"] = checked
    account.figures["frame"] = frame
    account.expect("fsck finds no fault", holds=not checked["faults"])
    account.expect("the log holds each record once", holds=checked["frames"] == len(run.promised))
