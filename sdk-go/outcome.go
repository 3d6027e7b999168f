package fractal

// This file reads what the server says about a record: the stored outcome, and the place of the
// record in a log (spec/formats.md 2.9 to 2.11, 4.1). Anything outside the format is
// `response_malformed`, never a guess.

import (
	"slices"
	"strconv"
	"strings"
)

// The durability levels; each includes those before it.
const (
	Durable    = "durable"
	Replicated = "replicated"
	Witnessed  = "witnessed"
)

var levels = []string{Durable, Replicated, Witnessed}

// Why an outcome escalates, in the order in which the first that applies is taken. With the
// first three it is not accepted, with the last two it is.
const (
	ReasonDHat    = "d_hat_out_of_tolerance"
	ReasonCohStar = "coh_star_out_of_range"
	ReasonCounts  = "n_j_implausible"
	ReasonRegime  = "regime_mismatch"
	ReasonBudget  = "budget_deviation"
)

var (
	refusingReasons  = []string{ReasonDHat, ReasonCohStar, ReasonCounts}
	acceptingReasons = []string{ReasonRegime, ReasonBudget}
	outcomeMembers   = []string{
		"accepted", "escalated", "first_seen", "pcs_id", "policy_version", "recomputed_D_hat",
		"recomputed_budget",
	}
)

// FirstSeen says where and when the first write of an id was recorded.
type FirstSeen struct {
	Region string
	HLC    string
}

// Outcome holds the stored verdict about one record; final, and the same for every duplicate.
// Accepted is the verdict, Escalated says that a person should look, Reason why ("": none).
type Outcome struct {
	Accepted         bool
	Escalated        bool
	FirstSeen        FirstSeen
	PcsID            string
	PolicyVersion    string
	Reason           string
	RecomputedDHat   float64
	RecomputedBudget float64
}

// ParseOutcome reads an outcome of at most maxBytes.
func ParseOutcome(body []byte, maxBytes int) (*Outcome, error) {
	outcome, fault := parseOutcome(body, maxBytes)
	if fault != nil {
		return nil, fault
	}
	return outcome, nil
}

func parseOutcome(body []byte, maxBytes int) (*Outcome, *Error) {
	document, fault := parseObject(body, maxBytes)
	if fault != nil {
		return nil, malformed("outcome: " + fault.Message)
	}
	for _, name := range outcomeMembers {
		if !document.Has(name) {
			return nil, malformed("outcome: expected the member " + name)
		}
	}
	for _, name := range document.Names() {
		if !slices.Contains(outcomeMembers, name) && name != "reason" {
			return nil, malformed("outcome: an unknown member")
		}
	}
	reader := outcomeReader{of: document}
	outcome := &Outcome{
		Accepted:         reader.flag("accepted"),
		Escalated:        reader.flag("escalated"),
		FirstSeen:        reader.firstSeen(),
		PcsID:            reader.hex("pcs_id", 64),
		PolicyVersion:    reader.hex("policy_version", 16),
		RecomputedDHat:   reader.number("recomputed_D_hat", floatsMax[dHat]),
		RecomputedBudget: reader.number("recomputed_budget", floatsMax[budget]),
	}
	outcome.Reason = reader.reason(outcome)
	if reader.fault != nil {
		return nil, reader.fault
	}
	return outcome, nil
}

func malformed(what string) *Error { return newError("response_malformed", "%s", what) }

// outcomeReader keeps the first fault of an outcome.
type outcomeReader struct {
	of    *Document
	fault *Error
}

func (o *outcomeReader) expect(holds bool, what string) {
	if !holds && o.fault == nil {
		o.fault = malformed("outcome: " + what)
	}
}

func (o *outcomeReader) flag(name string) bool {
	yes, ok := o.of.Bool(name)
	o.expect(ok, name+": expected true or false")
	return yes
}

func (o *outcomeReader) hex(name string, length int) string {
	text := o.of.text(name)
	o.expect(isHex(text, length), name+": expected "+strconv.Itoa(length)+" characters 0-9 a-f")
	return text
}

func (o *outcomeReader) number(name string, high float64) float64 {
	x, ok := o.of.Number(name)
	o.expect(ok && 0 <= x && x <= high, name+": expected a number in its range")
	return x
}

func (o *outcomeReader) firstSeen() FirstSeen {
	seen, ok := o.of.Object("first_seen")
	if !ok || len(seen.root.in) != 2 {
		o.expect(false, "first_seen: expected region and hlc")
		return FirstSeen{}
	}
	region, hlc := seen.text("region"), seen.text("hlc")
	o.expect(isRegion(region) && isHex(hlc, 16), "first_seen: expected region and hlc")
	return FirstSeen{Region: region, HLC: hlc}
}

// reason refuses a verdict whose parts contradict each other (spec/formats.md 2.9).
func (o *outcomeReader) reason(outcome *Outcome) string {
	if !outcome.Escalated {
		o.expect(outcome.Accepted && !o.of.Has("reason"),
			"not escalated: expected accepted and no reason")
		return ""
	}
	allowed := refusingReasons
	if outcome.Accepted {
		allowed = acceptingReasons
	}
	reason := o.of.text("reason")
	o.expect(slices.Contains(allowed, reason),
		"reason: expected one of "+strings.Join(allowed, ", "))
	return reason
}

// isRegion says whether a text is the code of a region: 3 characters a-z 0-9.
func isRegion(text string) bool {
	return len(text) == 3 && hasOnly(text, isRegionCharacter) && !strings.Contains(text, "-")
}

// Position names a place in a region's log: `<region>/<placement>/<region_epoch>/<seq>`.
type Position struct {
	Region      string
	Placement   string
	RegionEpoch uint64
	Seq         uint64
}

const (
	// maxPlacementCharacters is the longest placement of a position (spec/formats.md 4.1).
	maxPlacementCharacters = 64

	// maxEpochDigits and maxSeqDigits are the longest numbers of a position: 32 bits, 53 bits.
	maxEpochDigits = 10
	maxSeqDigits   = 16
)

// ParsePosition reads the value of PCS-Position.
func ParsePosition(text string) (Position, error) {
	position, ok := parsePosition(text)
	if !ok {
		return Position{}, malformed("PCS-Position: not a position")
	}
	return position, nil
}

func parsePosition(text string) (position Position, ok bool) {
	parts := strings.Split(text, "/")
	if len(parts) != 4 || !isRegion(parts[0]) || !isPlacement(parts[1]) {
		return Position{}, false
	}
	epoch, goodEpoch := parseNatural(parts[2], maxEpochDigits)
	seq, goodSeq := parseNatural(parts[3], maxSeqDigits)
	return Position{parts[0], parts[1], epoch, seq}, goodEpoch && goodSeq
}

// isPlacement says whether a text is the name of a placement: 1 to 64 characters a-z 0-9 -.
func isPlacement(text string) bool {
	return 1 <= len(text) && len(text) <= maxPlacementCharacters && hasOnly(text, isRegionCharacter)
}

// parseNatural reads `0|[1-9][0-9]*` of at most so many digits.
func parseNatural(text string, maxDigits int) (n uint64, ok bool) {
	if len(text) > maxDigits || len(text) > 1 && text[0] == '0' || !isDigits(text) {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// String writes the position as the header has it.
func (p Position) String() string {
	epoch, seq := strconv.FormatUint(p.RegionEpoch, 10), strconv.FormatUint(p.Seq, 10)
	return strings.Join([]string{p.Region, p.Placement, epoch, seq}, "/")
}

// Raw keeps the exchange as it was, so that nothing needs a second API. Headers have lower-case
// names; several fields of one name are joined by ", ".
type Raw struct {
	Status    int
	Headers   map[string]string
	Body      []byte
	RequestID string
	Attempts  int
}

// Submitted holds a recorded submit: the outcome, and how this exchange went. Replayed is true
// for a duplicate, Level the durability reached, Position nil if the server named none, Replicated
// how far the region that answered is replicated, nil if it did not say, Receipt nil until the
// server issues receipts.
type Submitted struct {
	Outcome    Outcome
	Replayed   bool
	Level      string
	Position   *Position
	Replicated *Position
	Receipt    []byte
	Raw        Raw
}
