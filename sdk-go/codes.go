// Code generated from spec/errors.json by `go test -run TestCodes -update`; DO NOT EDIT.
// tidy: long because a sentence is one line

package fractal

var codes = map[string]CodeInfo{
	"alg_mismatch": {
		Code: "alg_mismatch", Class: "SignatureError",
		Fault: "caller", Status: 401, Retryable: false,
		Sentence: "The alg member differs from the algorithm of the key record.",
	},
	"attempt_timeout": {
		Code: "attempt_timeout", Class: "TimeoutError",
		Fault: "network", Status: 0, Retryable: true,
		Sentence: "One attempt took longer than its bound.",
	},
	"bad_gateway": {
		Code: "bad_gateway", Class: "APIError",
		Fault: "server", Status: 502, Retryable: true,
		Sentence: "A proxy got no usable answer from the server.",
	},
	"bad_request": {
		Code: "bad_request", Class: "APIError",
		Fault: "caller", Status: 400, Retryable: false,
		Sentence: "The request is wrong in a way that has no code of its own.",
	},
	"cancelled": {
		Code: "cancelled", Class: "CancelledError",
		Fault: "caller", Status: 0, Retryable: false,
		Sentence: "The caller cancelled, or the client was closed.",
	},
	"checkpoint_invalid": {
		Code: "checkpoint_invalid", Class: "ProofError",
		Fault: "server", Status: 0, Retryable: false,
		Sentence: "The checkpoint is malformed or its signature is wrong.",
	},
	"config_invalid": {
		Code: "config_invalid", Class: "ConfigError",
		Fault: "caller", Status: 0, Retryable: false,
		Sentence: "An option or a combination of options is invalid.",
	},
	"connect_failed": {
		Code: "connect_failed", Class: "ConnectionError",
		Fault: "network", Status: 0, Retryable: true,
		Sentence: "No connection could be made; nothing was sent.",
	},
	"connection_lost": {
		Code: "connection_lost", Class: "ConnectionError",
		Fault: "network", Status: 0, Retryable: true,
		Sentence: "The connection broke before the whole response was read.",
	},
	"deadline_exceeded": {
		Code: "deadline_exceeded", Class: "TimeoutError",
		Fault: "network", Status: 0, Retryable: false,
		Sentence: "The total bound of the call has passed, or the next wait cannot fit in it.",
	},
	"ed25519_unavailable": {
		Code: "ed25519_unavailable", Class: "SignatureError",
		Fault: "caller", Status: 0, Retryable: false,
		Sentence: "This runtime has no Ed25519.",
	},
	"epoch_invalid": {
		Code: "epoch_invalid", Class: "ValidationError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "The epoch is not a lexical integer from 0 to 9007199254740991.",
	},
	"forbidden": {
		Code: "forbidden", Class: "AuthError",
		Fault: "caller", Status: 403, Retryable: false,
		Sentence: "The caller may not do this.",
	},
	"frozen": {
		Code: "frozen", Class: "APIError",
		Fault: "server", Status: 423, Retryable: false,
		Sentence: "The namespace is frozen while it moves; X-Should-Retry tells whether to come back.",
	},
	"gateway_timeout": {
		Code: "gateway_timeout", Class: "APIError",
		Fault: "server", Status: 504, Retryable: true,
		Sentence: "A proxy waited too long for the server.",
	},
	"header_too_large": {
		Code: "header_too_large", Class: "APIError",
		Fault: "caller", Status: 431, Retryable: false,
		Sentence: "The request head exceeds 16 KiB or 100 headers.",
	},
	"hex_invalid": {
		Code: "hex_invalid", Class: "ValidationError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "A member that must be 64 lower-case hexadecimal digits is not.",
	},
	"internal": {
		Code: "internal", Class: "APIError",
		Fault: "server", Status: 500, Retryable: true,
		Sentence: "The server failed for a reason of its own.",
	},
	"json_limit": {
		Code: "json_limit", Class: "ValidationError",
		Fault: "caller", Status: 400, Retryable: false,
		Sentence: "The JSON text nests more than 32 containers.",
	},
	"json_malformed": {
		Code: "json_malformed", Class: "ValidationError",
		Fault: "caller", Status: 400, Retryable: false,
		Sentence: "The body is not one JSON object in the strict profile of canonical 3.9.",
	},
	"key_inactive": {
		Code: "key_inactive", Class: "SignatureError",
		Fault: "caller", Status: 401, Retryable: false,
		Sentence: "The key exists but is revoked or outside its time window.",
	},
	"key_unusable": {
		Code: "key_unusable", Class: "SignatureError",
		Fault: "caller", Status: 0, Retryable: false,
		Sentence: "The key is too short, of the wrong length or otherwise unfit for its algorithm.",
	},
	"kid_unknown": {
		Code: "kid_unknown", Class: "SignatureError",
		Fault: "caller", Status: 401, Retryable: false,
		Sentence: "No key record exists for the key id, or no default key for a record without one.",
	},
	"member_duplicate": {
		Code: "member_duplicate", Class: "ValidationError",
		Fault: "caller", Status: 400, Retryable: false,
		Sentence: "An object names a member twice, after unescaping.",
	},
	"member_missing": {
		Code: "member_missing", Class: "ValidationError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "A required member is absent.",
	},
	"member_type": {
		Code: "member_type", Class: "ValidationError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "A member has another JSON type, or an integer member is not written as an integer.",
	},
	"member_unknown": {
		Code: "member_unknown", Class: "ValidationError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "A record carries a member that the format does not have.",
	},
	"method_not_allowed": {
		Code: "method_not_allowed", Class: "APIError",
		Fault: "caller", Status: 405, Retryable: false,
		Sentence: "The path exists but not with this method.",
	},
	"not_found": {
		Code: "not_found", Class: "NotFoundError",
		Fault: "caller", Status: 404, Retryable: false,
		Sentence: "The tenant has no such thing.",
	},
	"not_leader": {
		Code: "not_leader", Class: "APIError",
		Fault: "server", Status: 421, Retryable: false,
		Sentence: "This region does not lead; the hint names the one that does.",
	},
	"not_primary": {
		Code: "not_primary", Class: "UnavailableError",
		Fault: "server", Status: 503, Retryable: true,
		Sentence: "This region takes no writes now.",
	},
	"number_not_finite": {
		Code: "number_not_finite", Class: "ValidationError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "A typed number is NaN or infinite.",
	},
	"number_out_of_range": {
		Code: "number_out_of_range", Class: "ValidationError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "A number lies outside its domain or overflows a double.",
	},
	"outbox_blocked": {
		Code: "outbox_blocked", Class: "OutboxError",
		Fault: "caller", Status: 0, Retryable: false,
		Sentence: "Entries of a key or tenant are paused because the server refused its credentials.",
	},
	"outbox_corrupt": {
		Code: "outbox_corrupt", Class: "OutboxError",
		Fault: "caller", Status: 0, Retryable: false,
		Sentence: "A file of the outbox has damaged frames and was set aside, or the outbox could not be written.",
	},
	"outbox_expired": {
		Code: "outbox_expired", Class: "OutboxError",
		Fault: "caller", Status: 0, Retryable: false,
		Sentence: "An entry grew older than max_age and was moved to the dead letters.",
	},
	"outbox_full": {
		Code: "outbox_full", Class: "OutboxError",
		Fault: "caller", Status: 0, Retryable: false,
		Sentence: "The outbox holds its limit of entries or bytes.",
	},
	"outbox_locked": {
		Code: "outbox_locked", Class: "OutboxError",
		Fault: "caller", Status: 0, Retryable: false,
		Sentence: "Another live process owns the outbox directory.",
	},
	"payload_too_large": {
		Code: "payload_too_large", Class: "APIError",
		Fault: "caller", Status: 413, Retryable: false,
		Sentence: "The body exceeds its size limit.",
	},
	"pcs_id_conflict": {
		Code: "pcs_id_conflict", Class: "ConflictError",
		Fault: "caller", Status: 409, Retryable: false,
		Sentence: "The pcs_id was recorded before with other content.",
	},
	"pcs_id_mismatch": {
		Code: "pcs_id_mismatch", Class: "ValidationError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "The pcs_id is not the SHA-256 of merkle_root|epoch|shard_id.",
	},
	"proof_invalid": {
		Code: "proof_invalid", Class: "ProofError",
		Fault: "server", Status: 0, Retryable: false,
		Sentence: "The proof does not lead to the root of its checkpoint.",
	},
	"proof_malformed": {
		Code: "proof_malformed", Class: "ProofError",
		Fault: "server", Status: 0, Retryable: false,
		Sentence: "The proof is not in the format of a proof.",
	},
	"quorum_not_met": {
		Code: "quorum_not_met", Class: "ProofError",
		Fault: "server", Status: 0, Retryable: false,
		Sentence: "Fewer witnesses signed the checkpoint than the policy asks for.",
	},
	"rate_limited": {
		Code: "rate_limited", Class: "RateLimitError",
		Fault: "caller", Status: 429, Retryable: true,
		Sentence: "The tenant's quota is used up for now.",
	},
	"receipt_key_unknown": {
		Code: "receipt_key_unknown", Class: "ProofError",
		Fault: "caller", Status: 0, Retryable: false,
		Sentence: "No pinned key matches the key that signed the receipt.",
	},
	"receipt_malformed": {
		Code: "receipt_malformed", Class: "ProofError",
		Fault: "server", Status: 0, Retryable: false,
		Sentence: "The receipt is not in the format of a receipt.",
	},
	"receipt_signature_invalid": {
		Code: "receipt_signature_invalid", Class: "ProofError",
		Fault: "server", Status: 0, Retryable: false,
		Sentence: "The signature of the receipt is wrong.",
	},
	"record_expired": {
		Code: "record_expired", Class: "ValidationError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "The signed sent_at lies outside the window in which the tenant's records are taken.",
	},
	"record_mismatch": {
		Code: "record_mismatch", Class: "ProofError",
		Fault: "caller", Status: 0, Retryable: false,
		Sentence: "The receipt does not bind this record.",
	},
	"request_timeout": {
		Code: "request_timeout", Class: "APIError",
		Fault: "caller", Status: 408, Retryable: true,
		Sentence: "The request did not arrive in time.",
	},
	"response_malformed": {
		Code: "response_malformed", Class: "APIError",
		Fault: "server", Status: 0, Retryable: false,
		Sentence: "The response cannot be read; if its status was 2xx the request was carried out.",
	},
	"response_too_large": {
		Code: "response_too_large", Class: "APIError",
		Fault: "server", Status: 0, Retryable: false,
		Sentence: "The response exceeds the client's limit.",
	},
	"schema_unsupported": {
		Code: "schema_unsupported", Class: "ValidationError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "The schema or version of the record is not one that is supported.",
	},
	"sig_version_unsupported": {
		Code: "sig_version_unsupported", Class: "SignatureError",
		Fault: "caller", Status: 401, Retryable: false,
		Sentence: "The signature version is unknown or lower than the tenant requires.",
	},
	"signature_invalid": {
		Code: "signature_invalid", Class: "SignatureError",
		Fault: "caller", Status: 401, Retryable: false,
		Sentence: "The signature does not belong to this record and key.",
	},
	"signature_malformed": {
		Code: "signature_malformed", Class: "SignatureError",
		Fault: "caller", Status: 401, Retryable: false,
		Sentence: "The sig member is not a signature in canonical base64 of the right length.",
	},
	"string_length": {
		Code: "string_length", Class: "ValidationError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "A string, array or object is shorter or longer than its bounds.",
	},
	"string_surrogate": {
		Code: "string_surrogate", Class: "ValidationError",
		Fault: "caller", Status: 400, Retryable: false,
		Sentence: "A string holds an unpaired surrogate.",
	},
	"tenant_mismatch": {
		Code: "tenant_mismatch", Class: "AuthError",
		Fault: "caller", Status: 403, Retryable: false,
		Sentence: "X-Tenant-Id or tenant_id names another tenant than the key.",
	},
	"tls_failed": {
		Code: "tls_failed", Class: "ConnectionError",
		Fault: "network", Status: 0, Retryable: false,
		Sentence: "The TLS handshake or the certificate check failed.",
	},
	"too_early": {
		Code: "too_early", Class: "APIError",
		Fault: "server", Status: 425, Retryable: true,
		Sentence: "The server does not yet want to process this request.",
	},
	"unauthorized": {
		Code: "unauthorized", Class: "AuthError",
		Fault: "caller", Status: 401, Retryable: false,
		Sentence: "The request carries no valid token.",
	},
	"unavailable": {
		Code: "unavailable", Class: "UnavailableError",
		Fault: "server", Status: 503, Retryable: true,
		Sentence: "The server cannot record anything now.",
	},
	"unprocessable": {
		Code: "unprocessable", Class: "APIError",
		Fault: "caller", Status: 422, Retryable: false,
		Sentence: "The request was read but cannot be carried out, for a reason without a code of its own.",
	},
	"unsupported_media_type": {
		Code: "unsupported_media_type", Class: "APIError",
		Fault: "caller", Status: 415, Retryable: false,
		Sentence: "The Content-Type is not the documented one, or a Content-Encoding is present.",
	},
	"wrong_region": {
		Code: "wrong_region", Class: "APIError",
		Fault: "caller", Status: 421, Retryable: false,
		Sentence: "The tenant's records belong to another region.",
	},
}
