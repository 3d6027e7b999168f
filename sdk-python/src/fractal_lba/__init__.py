"""Summarise data, sign the summary, submit it, and keep the answer.

    from fractal_lba import Client, HmacSigner, summarize

    record = summarize(points, shard_id="sensor-7", epoch=1)
    with Client("https://eu.example", signer=HmacSigner.from_env(), tenant="acme") as client:
        submitted = client.submit(record)

Names are loaded when they are first used, so importing this package is fast and needs nothing
but the standard library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Item as Item
    from .call import EndpointHealth as EndpointHealth
    from .canonical import Canonical as Canonical
    from .canonical import canonicalize as canonicalize
    from .canonical import jcs as jcs
    from .canonical import parse as parse
    from .canonical import payload as payload
    from .client import Client as Client
    from .endpoints import Endpoint as Endpoint
    from .endpoints import FailoverPolicy as FailoverPolicy
    from .errors import APIError as APIError
    from .errors import AuthError as AuthError
    from .errors import CancelledError as CancelledError
    from .errors import ConfigError as ConfigError
    from .errors import ConflictError as ConflictError
    from .errors import ConnectionError as ConnectionError
    from .errors import FractalLBAError as FractalLBAError
    from .errors import NotFoundError as NotFoundError
    from .errors import OutboxError as OutboxError
    from .errors import ProofError as ProofError
    from .errors import RateLimitError as RateLimitError
    from .errors import SignatureError as SignatureError
    from .errors import TimeoutError as TimeoutError
    from .errors import UnavailableError as UnavailableError
    from .errors import ValidationError as ValidationError
    from .hooks import AttemptEvent as AttemptEvent
    from .hooks import FailoverEvent as FailoverEvent
    from .hooks import Hooks as Hooks
    from .hooks import OutboxEvent as OutboxEvent
    from .hooks import RetryEvent as RetryEvent
    from .hooks import StopEvent as StopEvent
    from .http import RawResponse as RawResponse
    from .http import Request as Request
    from .http import Transport as Transport
    from .ids import content_digest as content_digest
    from .ids import derive_pcs_id as derive_pcs_id
    from .ids import idempotency_key as idempotency_key
    from .keys import Key as Key
    from .keys import keyring as keyring
    from .outbox import DeadLetter as DeadLetter
    from .outcome import Outcome as Outcome
    from .outcome import Position as Position
    from .outcome import Submitted as Submitted
    from .record import Ft as Ft
    from .record import Record as Record
    from .record import check_record as check_record
    from .retry import RetryPolicy as RetryPolicy
    from .ring import Arc as Arc
    from .ring import Moved as Moved
    from .ring import Movement as Movement
    from .ring import Range as Range
    from .ring import Ring as Ring
    from .ring import Shard as Shard
    from .ring import movement as movement
    from .ring import ring_key as ring_key
    from .secret import Secret as Secret
    from .sign import CallableSigner as CallableSigner
    from .sign import Ed25519Signer as Ed25519Signer
    from .sign import HmacSigner as HmacSigner
    from .sign import SignedRecord as SignedRecord
    from .sign import Signer as Signer
    from .sign import Verified as Verified
    from .sign import sign_record as sign_record
    from .sign import verify as verify
    from .signals import summarize as summarize
    from .spool import Outbox as Outbox
    from .spool import OutboxStats as OutboxStats
    from .spool import open_outbox as open_outbox
    from .transport import HttpTransport as HttpTransport

_NAMES_BY_MODULE = {
    "base": ("Item",),
    "call": ("EndpointHealth",),
    "canonical": ("Canonical", "canonicalize", "jcs", "parse", "payload"),
    "client": ("Client",),
    "endpoints": ("Endpoint", "FailoverPolicy"),
    "errors": (
        "APIError",
        "AuthError",
        "CancelledError",
        "ConfigError",
        "ConflictError",
        "ConnectionError",
        "FractalLBAError",
        "NotFoundError",
        "OutboxError",
        "ProofError",
        "RateLimitError",
        "SignatureError",
        "TimeoutError",
        "UnavailableError",
        "ValidationError",
    ),
    "hooks": (
        "AttemptEvent",
        "FailoverEvent",
        "Hooks",
        "OutboxEvent",
        "RetryEvent",
        "StopEvent",
    ),
    "http": ("RawResponse", "Request", "Transport"),
    "ids": ("content_digest", "derive_pcs_id", "idempotency_key"),
    "keys": ("Key", "keyring"),
    "outbox": ("DeadLetter",),
    "outcome": ("Outcome", "Position", "Submitted"),
    "record": ("Ft", "Record", "check_record"),
    "retry": ("RetryPolicy",),
    "ring": ("Arc", "Moved", "Movement", "Range", "Ring", "Shard", "movement", "ring_key"),
    "secret": ("Secret",),
    "sign": (
        "CallableSigner",
        "Ed25519Signer",
        "HmacSigner",
        "SignedRecord",
        "Signer",
        "Verified",
        "sign_record",
        "verify",
    ),
    "signals": ("summarize",),
    "spool": ("Outbox", "OutboxStats", "open_outbox"),
    "transport": ("HttpTransport",),
}
_MODULE_BY_NAME = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = sorted(_MODULE_BY_NAME)


def __getattr__(name: str) -> Any:
    module = _MODULE_BY_NAME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
