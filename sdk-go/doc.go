// Package fractal signs Proof-of-Computation Summaries (PCS) and submits them to a server.
//
// # What is signed
//
// A record is one JSON object. Version 1 of the signature covers eight members, written as RFC
// 8785 writes them, the four floats rounded to whole billionths (spec/canonical.md 3):
//
//	{"D_hat":1.41,"budget":0.42,"coh_star":0.73,"epoch":1,"merkle_root":"<64 hex>",
//	 "pcs_id":"<64 hex>","r":0.87,"shard_id":"shard-001"}
//
// in one line without the break. Version 2 adds a hash of the whole record, so that no member of
// it can be altered (spec/canonical.md 4). What is signed is the SHA-256 of that payload, with
// HMAC-SHA256 or Ed25519. With merkle_root 64 times `a`, its derived pcs_id and the ten bytes
// `testsecret` as the key, the signature of the payload above is
//
//	NTiQIl9mwhSTvJpIJ/4tShR1buANQjhXoefZzBUQDIM=
//
// and TestTheFirstValuesOfTheSpecification holds this package to it.
//
// # How to use it
//
// A Client signs, sends, waits and changes the endpoint where one fails. An Outbox keeps what was
// not yet acknowledged on disk. Both are thin: every decision is a pure function of this package,
// which takes clock, chance and network as arguments. Those functions are public, so that other
// people's tests can hold them to the published vectors, and are not needed by a program that
// has a Client:
//
//	Parse, JCS, Canonicalize, Sign, SignV1, Verify, DerivePcsID, ContentDigest
//	PlanRetry, ParseRetryAfter, Fleet, SubmitRequest, OutcomeRequest, ReadResponse
//
// # Promises
//
// The bytes of a record are frozen before the first attempt; every attempt, at every endpoint and
// after every restart, sends those bytes. A record of the caller is never changed. Zero is a
// value, never "unset", but for the four members of Record that cannot be zero. Secrets print as
// `***`. Every error is an *Error with one code of spec/errors.json; errors.Is tells its class.
package fractal
