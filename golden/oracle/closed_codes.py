"""The closed list of codes as the oracle's own table; a test holds it to `spec/errors.json`.

Kept apart so that the oracle depends on no file of the repository.
"""

from __future__ import annotations

_VALIDATION = {
    400: "json_malformed json_limit member_duplicate string_surrogate",
    422: "member_missing member_type member_unknown number_not_finite number_out_of_range "
    "epoch_invalid hex_invalid string_length pcs_id_mismatch schema_unsupported record_expired",
}
_SIGNATURE = {
    401: "signature_invalid signature_malformed sig_version_unsupported alg_mismatch "
    "kid_unknown key_inactive",
    0: "key_unusable ed25519_unavailable",
}
_PROOF = (
    "receipt_malformed receipt_key_unknown receipt_signature_invalid record_mismatch "
    "proof_malformed proof_invalid checkpoint_invalid quorum_not_met"
)
_API = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "tenant_mismatch": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "pcs_id_conflict": 409,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "not_leader": 421,
    "wrong_region": 421,
    "unprocessable": 422,
    "frozen": 423,
    "too_early": 425,
    "rate_limited": 429,
    "header_too_large": 431,
    "internal": 500,
    "bad_gateway": 502,
    "unavailable": 503,
    "not_primary": 503,
    "gateway_timeout": 504,
}
_CLASS = {
    401: "AuthError",
    403: "AuthError",
    404: "NotFoundError",
    409: "ConflictError",
    429: "RateLimitError",
    503: "UnavailableError",
}
_SERVER_FAULT = ("not_leader", "frozen", "too_early")
_LOCAL = {
    "response_malformed": ("APIError", "server"),
    "response_too_large": ("APIError", "server"),
    "connect_failed": ("ConnectionError", "network"),
    "tls_failed": ("ConnectionError", "network"),
    "connection_lost": ("ConnectionError", "network"),
    "attempt_timeout": ("TimeoutError", "network"),
    "deadline_exceeded": ("TimeoutError", "network"),
    "cancelled": ("CancelledError", "caller"),
    "config_invalid": ("ConfigError", "caller"),
    "outbox_full": ("OutboxError", "caller"),
    "outbox_locked": ("OutboxError", "caller"),
    "outbox_corrupt": ("OutboxError", "caller"),
    "outbox_expired": ("OutboxError", "caller"),
    "outbox_blocked": ("OutboxError", "caller"),
}
_CALLER_PROOF = ("receipt_key_unknown", "record_mismatch")
# What a status means when the body names no known code (formats 12.7).
BY_STATUS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "pcs_id_conflict",
    413: "payload_too_large",
    415: "unsupported_media_type",
    421: "wrong_region",
    422: "unprocessable",
    423: "frozen",
    425: "too_early",
    429: "rate_limited",
    431: "header_too_large",
    500: "internal",
    502: "bad_gateway",
    503: "unavailable",
    504: "gateway_timeout",
}


def table() -> dict[str, tuple[str, str, int | None]]:
    """Give class, fault and status of every code."""
    out: dict[str, tuple[str, str, int | None]] = {}
    for status, names in _VALIDATION.items():
        out |= dict.fromkeys(names.split(), ("ValidationError", "caller", status))
    for status, names in _SIGNATURE.items():
        out |= dict.fromkeys(names.split(), ("SignatureError", "caller", status or None))
    for name in _PROOF.split():
        out[name] = ("ProofError", "caller" if name in _CALLER_PROOF else "server", None)
    for name, status in _API.items():
        fault = "server" if status >= 500 or name in _SERVER_FAULT else "caller"
        out[name] = (_CLASS.get(status, "APIError"), fault, status)
    out |= {name: (kind, fault, None) for name, (kind, fault) in _LOCAL.items()}
    return out


CODES = table()


def of_status(status: int) -> str:
    return BY_STATUS.get(status, "bad_request" if status < 500 else "internal")
