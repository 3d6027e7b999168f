package fractal

// This file owns what the end of a delivery means for a letter, and how letters are grouped. Pure:
// courier.go carries letters out.

import (
	"errors"
	"slices"
	"strings"
)

// resigned gives a letter with a new signature; what it says stays the same.
func resigned(
	old Letter, tenant string, sign func(*Document) (*SignedRecord, error),
) (Letter, error) {
	document, err := Parse(old.Body)
	if err != nil {
		return Letter{}, err
	}
	signed, err := sign(document)
	if err != nil {
		return Letter{}, err
	}
	if signed.Content != old.Key {
		return Letter{}, newError("outbox_corrupt", "entry %s changed its content", old.ID)
	}
	fresh, err := letterOfSigned(signed, tenant)
	fresh.AtMs = old.AtMs
	return fresh, err
}

// verdictFor decides what the end of a delivery means for its entry at the level of its client.
func verdictFor(submitted *Submitted, err error, level string) Verdict {
	var known *Error
	switch {
	case err == nil:
		return JudgeRecorded(level, submitted)
	case errors.As(err, &known):
		return verdictOf(known)
	}
	return Verdict{Kind: Later, EndpointUp: true}
}

// refusesBatches says whether an answer to a batch as a whole means: this server takes no such
// batch, send singles.
func refusesBatches(err error) bool {
	var known *Error
	if !errors.As(err, &known) || isUnreadable(known) {
		return false
	}
	return slices.Contains([]int{400, 404, 405, 413, 415, 422}, known.Status)
}

// byTenant groups letters by tenant, in their order: a batch holds the lines of one.
func byTenant(letters []Letter) [][]Letter {
	ordered := slices.Clone(letters)
	slices.SortStableFunc(ordered, func(a, b Letter) int {
		return strings.Compare(a.Tenant, b.Tenant)
	})
	var groups [][]Letter
	for start := 0; start < len(ordered); {
		end := start + 1
		for end < len(ordered) && ordered[end].Tenant == ordered[start].Tenant {
			end++
		}
		groups = append(groups, ordered[start:end])
		start = end
	}
	return groups
}
