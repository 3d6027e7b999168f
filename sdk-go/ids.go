package fractal

// This file derives the id of a record (spec/canonical.md 5.5). The content digest, which is the
// idempotency key, is Canonical.Content.

import "strconv"

// DerivePcsID hashes `merkle_root|epoch|shard_id` to 64 lower-case hexadecimal digits.
func DerivePcsID(merkleRoot string, epoch uint64, shardID string) string {
	var room [128]byte
	name := append(append(room[:0], merkleRoot...), '|')
	name = append(strconv.AppendUint(name, epoch, 10), '|')
	return hashText(append(name, shardID...))
}

// ContentDigest digests what a record says, without how it was delivered (spec/canonical.md 5).
func ContentDigest(record RecordSource) (string, error) {
	seen, err := Canonicalize(record, 1)
	if err != nil {
		return "", err
	}
	return seen.Content()
}

// checkPcsID refuses an id that is not the derived one. Signing does not ask this; a client does.
func checkPcsID(pcsID, merkleRoot string, epoch uint64, shardID string) *Error {
	expected := DerivePcsID(merkleRoot, epoch, shardID)
	if pcsID != expected {
		return newError("pcs_id_mismatch", "pcs_id: expected %s, got %s", expected, pcsID).
			at("/pcs_id")
	}
	return nil
}
