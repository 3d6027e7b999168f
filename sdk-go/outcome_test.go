package fractal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// outcomeBody is an outcome with members replaced, added, or removed (a token of "").
func outcomeBody(changes map[string]string) string {
	members := map[string]string{
		"accepted": "true", "escalated": "false", "first_seen": `{"region":"fra","hlc":"0123456789abcdef"}`,
		"pcs_id": `"` + samplePcsID + `"`, "policy_version": `"3fcb272de67aa246"`,
		"recomputed_D_hat": "1.41", "recomputed_budget": "0.42",
	}
	maps.Copy(members, changes)
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if members[name] != "" {
			parts = append(parts, `"`+name+`":`+members[name])
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func TestAnOutcomeIsReadStrictly(t *testing.T) {
	for _, reason := range append(slices.Clone(refusingReasons), acceptingReasons...) {
		accepting := slices.Contains(acceptingReasons, reason)
		for _, accepted := range []bool{true, false} {
			outcome, err := ParseOutcome([]byte(outcomeBody(map[string]string{
				"accepted": fmt.Sprint(accepted), "escalated": "true", "reason": `"` + reason + `"`,
			})), MaxResponseBytes)
			if (err == nil) != (accepted == accepting) || err == nil && outcome.Reason != reason {
				t.Errorf("%s, %t: %v", reason, accepted, err)
			}
		}
	}
	zero, err := ParseOutcome(
		[]byte(outcomeBody(map[string]string{"recomputed_D_hat": "0", "recomputed_budget": "0e5"})),
		MaxResponseBytes,
	)
	if err != nil || zero.RecomputedDHat != 0 || zero.RecomputedBudget != 0 ||
		zero.FirstSeen != (FirstSeen{"fra", "0123456789abcdef"}) {
		t.Errorf("%+v (%v)", zero, err)
	}
	for _, changes := range []map[string]string{
		{"accepted": "1"}, {"accepted": ""}, {"escalated": "null"}, {"extra": "1"}, {"accepted": "false"},
		{"reason": `"regime_mismatch"`}, {"reason": "null"}, {"escalated": "true"},
		{"escalated": "true", "reason": `"other"`}, {"escalated": "true", "reason": "7"},
		{"first_seen": "null"}, {"first_seen": `{"region":"fra"}`},
		{"first_seen": `{"region":"fr","hlc":"0123456789abcdef"}`}, {"first_seen": `{"region":"f-a","hlc":"0123456789abcdef"}`},
		{"first_seen": `{"region":"fra","hlc":"0123456789abcde"}`}, {"first_seen": `{"region":"fra","hlc":"0123456789abcdef","x":1}`},
		{"first_seen": `{"region":"fra","x":1}`}, {"pcs_id": "1"}, {"policy_version": `"x"`},
		{"recomputed_D_hat": "3.6"}, {"recomputed_D_hat": "-1"}, {"recomputed_D_hat": "1e400"},
		{"recomputed_budget": "true"}, {"recomputed_budget": "1.1"},
	} {
		if _, err := ParseOutcome([]byte(outcomeBody(changes)), MaxResponseBytes); errorCode(
			err,
		) != "response_malformed" {
			t.Errorf("%v: %v", changes, err)
		}
	}
	if _, err := ParseOutcome([]byte(sampleBody), len(sampleBody)-1); errorCode(
		err,
	) != "response_malformed" {
		t.Error(err)
	}
}

func TestAPositionHasFourParts(t *testing.T) {
	for text, good := range map[string]bool{
		"use/open/1/4711": true, "fra/eu-only/0/0": true, "a1b/x/9999999999/9999999999999999": true,
		"us/open/1/1": false, "USE/open/1/1": false, "use/open/01/1": false, "use/open/1": false,
		"use/open/1/1/1": false, "use//1/1": false, "use/open/1/-1": false, "use/open/1/1\n": false,
		"use/open/1/10000000000000000": false, "use/open//1": false, "": false, "use/Open/1/1": false,
		"use/" + strings.Repeat("x", 65) + "/1/1": false, "use/open/10000000000/1": false,
	} {
		position, err := ParsePosition(text)
		if (err == nil) != good || good && position.String() != text ||
			err != nil && codeOf(err) != "response_malformed" {
			t.Errorf("%q: %+v (%v)", text, position, err)
		}
	}
}
