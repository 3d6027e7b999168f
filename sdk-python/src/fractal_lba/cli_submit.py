"""The commands `flk submit` and `flk get`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from .base import AnyRecord
from .canonical import parse
from .cli_client import BulkClient, endpoint_option, open_client, timeout_option
from .cli_input import read_sources
from .cli_output import EXIT_FAILED, EXIT_NOT_ACCEPTED, LongWork, Output, json_option
from .cli_signer import (
    Identity,
    check_names,
    find_identity,
    key_options,
    require_signer,
    tenant_option,
)
from .errors import ConfigError, FractalLBAError
from .keyfile import read_token_file
from .outcome import Outcome, Submitted
from .record import Record
from .sign import SignedRecord
from .spool import open_outbox

Prepared = TypeVar("Prepared")


@dataclass(slots=True)
class Run:
    """Read the records of one command, and account for each of them."""

    output: Output
    identity: Identity
    places: deque[str] = field(default_factory=deque)
    recorded: int = 0
    failed: int = 0
    not_accepted: int = 0

    def records(
        self, paths: Iterable[str], prepare: Callable[[AnyRecord], Prepared]
    ) -> Iterator[Prepared]:
        """Yield what can be sent, remembering where it stood; report what cannot."""
        for source in read_sources(paths):
            try:
                prepared = prepare(self._read(source.text))
            except ConfigError:
                raise
            except FractalLBAError as error:
                self.fail(error, source.where)
                continue
            self.places.append(source.where)
            yield prepared

    def _read(self, text: bytes) -> AnyRecord:
        if "sig" in parse(text):
            return SignedRecord.from_json(text)
        require_signer(self.identity)
        return Record.from_json(text)

    def account(self, answer: Submitted | FractalLBAError) -> None:
        """Print the answer to the first record that has none yet."""
        where = self.places.popleft()
        if isinstance(answer, FractalLBAError):
            self.fail(answer, where)
            return
        self.recorded += 1
        self.not_accepted += not answer.outcome.accepted
        self.output.result({"where": where, **_facts(answer)}, _line(answer))

    def fail(self, error: FractalLBAError, where: str) -> None:
        """Print why a record was not recorded."""
        self.failed += 1
        self.output.error(error, where=where)

    def finish(self, require_accepted: bool) -> int:
        """Say the totals and return the exit code."""
        if self.recorded + self.failed > 1:
            self.output.note(
                f"{self.recorded} recorded, {self.not_accepted} of them not accepted, "
                f"{self.failed} failed"
            )
        if self.failed:
            return EXIT_FAILED
        return EXIT_NOT_ACCEPTED if require_accepted and self.not_accepted else 0


@click.command()
@click.argument("paths", metavar="FILE...", nargs=-1, required=True)
@endpoint_option
@key_options
@tenant_option
@click.option("--outbox", metavar="DIR", help="Keep records in DIR until they are acknowledged.")
@click.option("--require-accepted", is_flag=True, help="Exit 3 if a record is not accepted.")
@click.option("--batch", is_flag=True, help="Send up to 1,000 records in a request.")
@timeout_option
@json_option
def submit(
    *,
    paths: tuple[str, ...],
    endpoints: tuple[str, ...],
    key_file: str | None,
    env: bool,
    kid: str | None,
    alg: str | None,
    tenant: str | None,
    outbox: str | None,
    require_accepted: bool,
    batch: bool,
    timeout_s: float,
    as_json: bool,
) -> int:
    """Submit records, one document or one record a line (`-`: stdin), and print the outcomes.

    A record that is signed is sent as it is; others are signed with the key, by version 2. The
    exit code is 0 if all were recorded, whatever the verdict. With --outbox a record that could
    not be sent is kept, which is exit code 1 as well: `flk outbox flush DIR` sends it later.
    """
    if batch and outbox is not None:
        raise click.UsageError("--batch and --outbox: expected one of them")
    identity = find_identity(key_file=key_file, env=env, kid=kid, alg=alg, tenant=tenant)
    check_names(identity)
    run = Run(Output(as_json=as_json), identity)
    with ExitStack() as opened:
        box = None
        if outbox is not None:
            box = opened.enter_context(open_outbox(outbox, background=False))
        client = opened.enter_context(
            open_client(
                endpoints,
                signer=identity.signer,
                tenant=identity.tenant,
                outbox=box,
                timeout_s=timeout_s,
            )
        )
        work = opened.enter_context(LongWork(run.output))
        for done, answer in enumerate(_answers(client, run, paths, batch), 1):
            run.account(answer)
            work.update("submitting", done)
    return run.finish(require_accepted)


def _answers(
    client: BulkClient, run: Run, paths: Iterable[str], batch: bool
) -> Iterator[Submitted | FractalLBAError]:
    if batch:
        yield from client.submit_batches(run.records(paths, client.prepare))
        return
    for item in client.submit_many(run.records(paths, _unchanged)):
        answer = item.error or item.result
        assert answer is not None
        yield answer


def _unchanged(record: AnyRecord) -> AnyRecord:
    return record


@click.command()
@click.argument("pcs_id")
@endpoint_option
@tenant_option
@click.option("--token-file", metavar="FILE", required=True, help="File of the read token.")
@timeout_option
@json_option
def get(
    *,
    pcs_id: str,
    endpoints: tuple[str, ...],
    tenant: str | None,
    token_file: str,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Print the outcome of PCS_ID, one of your tenant. Exit code 1 if there is none.

    FILE holds the tenant's read token, which `flk-server tenants token new` makes, and nothing
    else; only its owner may read it.
    """
    token = read_token_file(token_file)
    with open_client(endpoints, tenant=tenant, token=token, timeout_s=timeout_s) as client:
        outcome = client.get(pcs_id)
    Output(as_json=as_json).result(outcome.to_dict(), _text(outcome))


def _facts(submitted: Submitted) -> dict[str, Any]:
    position = submitted.position
    return {
        "pcs_id": submitted.outcome.pcs_id,
        "status": submitted.raw.status,
        "replayed": submitted.replayed,
        "level": submitted.level,
        "position": None if position is None else str(position),
        "attempts": submitted.raw.attempts,
        "request_id": submitted.raw.request_id,
        "outcome": submitted.outcome.to_dict(),
    }


def _line(submitted: Submitted) -> str:
    words = [submitted.outcome.pcs_id, "duplicate" if submitted.replayed else "recorded"]
    words.append(_verdict(submitted.outcome))
    if submitted.position is not None:
        words.append(str(submitted.position))
    return "  ".join(words)


def _verdict(outcome: Outcome) -> str:
    verdict = "accepted" if outcome.accepted else "not accepted"
    return f"{verdict}, escalated: {outcome.reason}" if outcome.escalated else verdict


def _text(outcome: Outcome) -> str:
    """Describe an outcome in lines; the first 48 bits of an HLC are Unix milliseconds."""
    seen = outcome.first_seen
    seen_at = datetime.fromtimestamp((int(seen.hlc, 16) >> 16) / 1000, UTC)
    rows = (
        ("pcs_id", outcome.pcs_id),
        ("verdict", _verdict(outcome)),
        ("first seen", f"{seen_at:%Y-%m-%d %H:%M:%S} UTC in {seen.region}"),
        ("D_hat", f"{outcome.recomputed_D_hat} as recomputed"),
        ("budget", f"{outcome.recomputed_budget} as recomputed"),
        ("policy", outcome.policy_version),
    )
    return "\n".join(f"{name:<12}{value}" for name, value in rows)
