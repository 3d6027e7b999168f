"""Own the closed list of error codes and the one tree of exceptions.

    FractalLBAError
    +-- ConfigError       an option is wrong
    +-- ValidationError   a record, or its text, is outside the specification
    +-- SignatureError    a key or a signature is wrong
    +-- ProofError        a receipt or its proof does not hold
    +-- OutboxError       the durable outbox cannot take or keep an entry
    +-- CancelledError    the caller cancelled
    +-- ConnectionError   no answer: the network (also the built-in ConnectionError)
    +-- TimeoutError      no answer in time (also the built-in TimeoutError)
    +-- APIError          the server refused
        +-- AuthError 401 403      +-- NotFoundError 404     +-- ConflictError 409
        +-- RateLimitError 429     +-- UnavailableError 503

`spec/errors.json` holds the same list; a test keeps the two equal. A program that needs to tell
errors apart reads `code`; the class is a coarser choice for `except`.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class CodeInfo(NamedTuple):
    """Describe one code of the closed list."""

    code: str
    error_class_name: str
    fault: str  # "caller" | "server" | "network"
    status: int | None  # the HTTP status that carries it; None: never sent by a server
    retryable: bool
    sentence: str


class FractalLBAError(Exception):
    """Carry one code of the closed list and the facts of the exchange that led to it."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        pointer: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retry_after_ms: int | None = None,
        attempts: int = 0,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        stop: str | None = None,
        queued: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.pointer = pointer
        self.status = status
        self.request_id = request_id
        self.retry_after_ms = retry_after_ms
        self.attempts = attempts
        self.headers = NO_HEADERS if headers is None else headers
        self.body = body
        self.stop = stop
        self.queued = queued

    @property
    def fault(self) -> str:
        """Name whose fault it is: "caller", "server" or "network"."""
        info = CODES.get(self.code)
        if info is not None:
            return info.fault
        return "server" if self.status is not None and self.status >= 500 else "caller"

    @property
    def retry_after(self) -> float | None:
        """Give the server's Retry-After in seconds, or None if it sent none."""
        return None if self.retry_after_ms is None else self.retry_after_ms / 1000

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}"
        return f"{text} (request {self.request_id})" if self.request_id else text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The built-in way would call the class with one positional argument and fail.
        state = dict(self.__dict__, headers=dict(self.headers))
        return _restore, (type(self), self.code, self.message, state)


def _restore(
    kind: type[FractalLBAError], code: str, message: str, state: dict[str, Any]
) -> FractalLBAError:
    error = kind(code, message)
    error.__dict__.update(state)
    return error


class ConfigError(FractalLBAError):
    """Say that an option is wrong; raised by constructors, before any I/O."""


class ValidationError(FractalLBAError):
    """Say that a record or its text is outside the specification."""


class SignatureError(FractalLBAError):
    """Say that a key, or a signature, is wrong."""


class ProofError(FractalLBAError):
    """Say that a receipt or its proof does not hold."""


class OutboxError(FractalLBAError):
    """Say that the outbox cannot take or keep an entry."""


class CancelledError(FractalLBAError):
    """Say that the caller cancelled, or closed the client, while the call ran."""


class ConnectionError(FractalLBAError, builtins.ConnectionError):
    """Say that no whole answer came back: the network failed."""


class TimeoutError(FractalLBAError, builtins.TimeoutError):
    """Say that a time bound ran out."""


class APIError(FractalLBAError):
    """Carry a refusal of the server."""


class AuthError(APIError):
    """Carry a 401 or 403."""


class NotFoundError(APIError):
    """Carry a 404."""


class ConflictError(APIError):
    """Carry a 409: the id is known with other content."""


class RateLimitError(APIError):
    """Carry a 429."""


class UnavailableError(APIError):
    """Carry a 503."""


_CLASSES: dict[str, type[FractalLBAError]] = {
    kind.__name__: kind
    for kind in (
        ConfigError, ValidationError, SignatureError, ProofError, OutboxError, CancelledError,
        ConnectionError, TimeoutError, APIError, AuthError, NotFoundError, ConflictError,
        RateLimitError, UnavailableError,
    )
}  # fmt: skip

# code, class, fault, status, retryable, sentence. Sorted by code, as spec/errors.json is.
# fmt: off
_TABLE: tuple[tuple[str, str, str, int | None, bool, str], ...] = (
    ("alg_mismatch", "SignatureError", "caller", 401, False,
     "The alg member differs from the algorithm of the key record."),
    ("attempt_timeout", "TimeoutError", "network", None, True,
     "One attempt took longer than its bound."),
    ("bad_gateway", "APIError", "server", 502, True,
     "A proxy got no usable answer from the server."),
    ("bad_request", "APIError", "caller", 400, False,
     "The request is wrong in a way that has no code of its own."),
    ("cancelled", "CancelledError", "caller", None, False,
     "The caller cancelled, or the client was closed."),
    ("checkpoint_invalid", "ProofError", "server", None, False,
     "The checkpoint is malformed or its signature is wrong."),
    ("config_invalid", "ConfigError", "caller", None, False,
     "An option or a combination of options is invalid."),
    ("connect_failed", "ConnectionError", "network", None, True,
     "No connection could be made; nothing was sent."),
    ("connection_lost", "ConnectionError", "network", None, True,
     "The connection broke before the whole response was read."),
    ("deadline_exceeded", "TimeoutError", "network", None, False,
     "The total bound of the call has passed, or the next wait cannot fit in it."),
    ("ed25519_unavailable", "SignatureError", "caller", None, False,
     "This runtime has no Ed25519."),
    ("epoch_invalid", "ValidationError", "caller", 422, False,
     "The epoch is not a lexical integer from 0 to 9007199254740991."),
    ("forbidden", "AuthError", "caller", 403, False,
     "The caller may not do this."),
    ("frozen", "APIError", "server", 423, False,
     "The namespace is frozen while it moves; X-Should-Retry tells whether to come back."),
    ("gateway_timeout", "APIError", "server", 504, True,
     "A proxy waited too long for the server."),
    ("header_too_large", "APIError", "caller", 431, False,
     "The request head exceeds 16 KiB or 100 headers."),
    ("hex_invalid", "ValidationError", "caller", 422, False,
     "A member that must be 64 lower-case hexadecimal digits is not."),
    ("internal", "APIError", "server", 500, True,
     "The server failed for a reason of its own."),
    ("json_limit", "ValidationError", "caller", 400, False,
     "The JSON text nests more than 32 containers."),
    ("json_malformed", "ValidationError", "caller", 400, False,
     "The body is not one JSON object in the strict profile of canonical 3.9."),
    ("key_inactive", "SignatureError", "caller", 401, False,
     "The key exists but is revoked or outside its time window."),
    ("key_unusable", "SignatureError", "caller", None, False,
     "The key is too short, of the wrong length or otherwise unfit for its algorithm."),
    ("kid_unknown", "SignatureError", "caller", 401, False,
     "No key record exists for the key id, or no default key for a record without one."),
    ("member_duplicate", "ValidationError", "caller", 400, False,
     "An object names a member twice, after unescaping."),
    ("member_missing", "ValidationError", "caller", 422, False,
     "A required member is absent."),
    ("member_type", "ValidationError", "caller", 422, False,
     "A member has another JSON type, or an integer member is not written as an integer."),
    ("member_unknown", "ValidationError", "caller", 422, False,
     "A record carries a member that the format does not have."),
    ("method_not_allowed", "APIError", "caller", 405, False,
     "The path exists but not with this method."),
    ("not_found", "NotFoundError", "caller", 404, False,
     "The tenant has no such thing."),
    ("not_leader", "APIError", "server", 421, False,
     "This region does not lead; the hint names the one that does."),
    ("not_primary", "UnavailableError", "server", 503, True,
     "This region takes no writes now."),
    ("number_not_finite", "ValidationError", "caller", 422, False,
     "A typed number is NaN or infinite."),
    ("number_out_of_range", "ValidationError", "caller", 422, False,
     "A number lies outside its domain or overflows a double."),
    ("outbox_blocked", "OutboxError", "caller", None, False,
     "Entries of a key or tenant are paused because the server refused its credentials."),
    ("outbox_corrupt", "OutboxError", "caller", None, False,
     ("A file of the outbox has damaged frames and was set aside, or the outbox could "
      "not be written.")),
    ("outbox_expired", "OutboxError", "caller", None, False,
     "An entry grew older than max_age and was moved to the dead letters."),
    ("outbox_full", "OutboxError", "caller", None, False,
     "The outbox holds its limit of entries or bytes."),
    ("outbox_locked", "OutboxError", "caller", None, False,
     "Another live process owns the outbox directory."),
    ("payload_too_large", "APIError", "caller", 413, False,
     "The body exceeds its size limit."),
    ("pcs_id_conflict", "ConflictError", "caller", 409, False,
     "The pcs_id was recorded before with other content."),
    ("pcs_id_mismatch", "ValidationError", "caller", 422, False,
     "The pcs_id is not the SHA-256 of merkle_root|epoch|shard_id."),
    ("proof_invalid", "ProofError", "server", None, False,
     "The proof does not lead to the root of its checkpoint."),
    ("proof_malformed", "ProofError", "server", None, False,
     "The proof is not in the format of a proof."),
    ("quorum_not_met", "ProofError", "server", None, False,
     "Fewer witnesses signed the checkpoint than the policy asks for."),
    ("rate_limited", "RateLimitError", "caller", 429, True,
     "The tenant's quota is used up for now."),
    ("receipt_key_unknown", "ProofError", "caller", None, False,
     "No pinned key matches the key that signed the receipt."),
    ("receipt_malformed", "ProofError", "server", None, False,
     "The receipt is not in the format of a receipt."),
    ("receipt_signature_invalid", "ProofError", "server", None, False,
     "The signature of the receipt is wrong."),
    ("record_expired", "ValidationError", "caller", 422, False,
     "The signed sent_at lies outside the window in which the tenant's records are taken."),
    ("record_mismatch", "ProofError", "caller", None, False,
     "The receipt does not bind this record."),
    ("request_timeout", "APIError", "caller", 408, True,
     "The request did not arrive in time."),
    ("response_malformed", "APIError", "server", None, False,
     "The response cannot be read; if its status was 2xx the request was carried out."),
    ("response_too_large", "APIError", "server", None, False,
     "The response exceeds the client's limit."),
    ("schema_unsupported", "ValidationError", "caller", 422, False,
     "The schema or version of the record is not one that is supported."),
    ("sig_version_unsupported", "SignatureError", "caller", 401, False,
     "The signature version is unknown or lower than the tenant requires."),
    ("signature_invalid", "SignatureError", "caller", 401, False,
     "The signature does not belong to this record and key."),
    ("signature_malformed", "SignatureError", "caller", 401, False,
     "The sig member is not a signature in canonical base64 of the right length."),
    ("string_length", "ValidationError", "caller", 422, False,
     "A string, array or object is shorter or longer than its bounds."),
    ("string_surrogate", "ValidationError", "caller", 400, False,
     "A string holds an unpaired surrogate."),
    ("tenant_mismatch", "AuthError", "caller", 403, False,
     "X-Tenant-Id or tenant_id names another tenant than the key."),
    ("tls_failed", "ConnectionError", "network", None, False,
     "The TLS handshake or the certificate check failed."),
    ("too_early", "APIError", "server", 425, True,
     "The server does not yet want to process this request."),
    ("unauthorized", "AuthError", "caller", 401, False,
     "The request carries no valid token."),
    ("unavailable", "UnavailableError", "server", 503, True,
     "The server cannot record anything now."),
    ("unprocessable", "APIError", "caller", 422, False,
     "The request was read but cannot be carried out, for a reason without a code of its own."),
    ("unsupported_media_type", "APIError", "caller", 415, False,
     "The Content-Type is not the documented one, or a Content-Encoding is present."),
    ("wrong_region", "APIError", "caller", 421, False,
     "The tenant's records belong to another region."),
)
# fmt: on

CODES: Mapping[str, CodeInfo] = MappingProxyType({row[0]: CodeInfo(*row) for row in _TABLE})


def error_for(code: str, message: str, **fields: Any) -> FractalLBAError:
    """Build the error of `code` with the class that the closed list names."""
    info = CODES.get(code)
    kind = FractalLBAError if info is None else _CLASSES[info.error_class_name]
    return kind(code, message, **fields)
