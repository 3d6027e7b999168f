"""Own how `flk` opens a client, and the one call that only programs in bulk need: a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import click

from .base import AnyRecord
from .batch import cut
from .call import batch_spec
from .client import Client
from .clock import AnyCancel
from .errors import FractalLBAError
from .outcome import LEVELS, Submitted
from .secret import Secret
from .sign import SignedRecord, Signer
from .spool import Outbox

Command = TypeVar("Command", bound=Callable[..., Any])


def endpoint_option(command: Command) -> Command:
    """Give a command the option `--endpoint`."""
    option = click.option(
        "--endpoint",
        "endpoints",
        multiple=True,
        required=True,
        envvar="FLK_ENDPOINT",
        metavar="URL",
        help="Server; repeat it for others to fail over to.  [env: FLK_ENDPOINT]",
    )
    return option(command)


def timeout_option(command: Command) -> Command:
    """Give a command the option `--timeout`."""
    option = click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        show_default=True,
        help="Seconds to go on, retries and waits included.",
    )
    return option(command)


class BulkClient(Client):
    """Submit records in batches as well."""

    def prepare(self, record: AnyRecord) -> SignedRecord:
        """Check a record as `submit` does, and sign it unless it is signed."""
        return self._prepare(record)

    def submit_batches(
        self, records: Iterable[SignedRecord]
    ) -> Iterator[Submitted | FractalLBAError]:
        """Send signed records in batches as large as the limits allow; answer in order.

        A batch that could not be sent gives its error for each of its records.
        """
        for batch in cut(records):
            yield from self._submit_batch(batch)

    def _submit_batch(self, batch: Sequence[SignedRecord]) -> Sequence[Submitted | FractalLBAError]:
        spec = batch_spec(batch, agent=self._agent, tenant=self._tenant)
        call = self._exchange(spec, self._deadline_ms(None))
        try:
            return self._drive(call, AnyCancel(self._closing))
        except FractalLBAError as error:
            return [error] * len(batch)


def open_client(
    endpoints: Sequence[str],
    *,
    signer: Signer | None = None,
    tenant: str | None = None,
    token: Secret | None = None,
    outbox: Outbox | None = None,
    durability: str = LEVELS[0],
    timeout_s: float = 60.0,
) -> BulkClient:
    """Open a client with the options of a command line."""
    return BulkClient(
        endpoints,
        signer=signer,
        tenant=tenant,
        token=token,
        outbox=outbox,
        durability=durability,
        total_timeout_s=timeout_s,
    )
