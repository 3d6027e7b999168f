package fractal

// When an outbox entry is due again, and what an answer means for it.

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func scheduled(widthMax int, numbers ...uint64) *schedule {
	s := newSchedule(widthMax)
	for _, number := range numbers {
		s.add(entryNo(number, "file", 100), false)
	}
	return s
}

func upTo(last uint64) []uint64 {
	var numbers []uint64
	for number := uint64(1); number <= last; number++ {
		numbers = append(numbers, number)
	}
	return numbers
}

func (s *schedule) takeNumbers(nowMs int64, limit, bytesMax int) []uint64 {
	var numbers []uint64
	for _, id := range s.take(nowMs, limit, bytesMax) {
		numbers = append(numbers, numberOfID(id))
	}
	return numbers
}

func expectNumbers(t *testing.T, what string, got []uint64, want ...uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

const noLimit = math.MaxInt32

func down() Verdict { return Verdict{Kind: Later} }

func TestAnAnswerBuriesPausesOrPostpones(t *testing.T) {
	bury := func(status int) Verdict {
		return Verdict{Kind: Bury, Status: status, Code: "c", Reason: "r", Response: "body"}
	}
	later := Verdict{Kind: Later, RetryAfterMs: 70}
	for status, want := range map[int]Verdict{
		400: bury(400), 409: bury(409), 413: bury(413), 422: bury(422),
		401: {Kind: Pause, What: "kid", Code: "c"}, 403: {Kind: Pause, What: "tenant", Code: "c"},
		429: {Kind: Later, RetryAfterMs: 70, EndpointUp: true},
		503: later, 0: later, 404: later, 405: later, 415: later, 421: later, 500: later,
	} {
		if got := JudgeDelivery(status, "c", "r", []byte("body"), 70); got != want {
			t.Errorf("%d: %+v", status, got)
		}
	}
	cancelled := JudgeDelivery(0, "cancelled", "", nil, 0)
	if want := (Verdict{Kind: Later, EndpointUp: true}); cancelled != want {
		t.Errorf("a cancel says something about the endpoint: %+v", cancelled)
	}
	unreadable := &Error{Code: "response_malformed", Status: 409}
	if got := verdictOf(unreadable); got.Kind != Later {
		t.Errorf("an answer that cannot be read ends an entry: %+v", got)
	}
}

func TestADeadLetterKeepsTheHeadOfALongAnswer(t *testing.T) {
	long := JudgeDelivery(409, "c", "r\xff", []byte(strings.Repeat("\xff", 1_000_000)), 0)
	if got := utf8.RuneCountInString(long.Response); got != maxDeadResponseBytes {
		t.Errorf("%d characters", got)
	}
	if long.Reason != "r\ufffd" {
		t.Errorf("%q", long.Reason)
	}
	dead := DeadLetter{sampleLetter, 409, "c", "r", strings.Repeat("\x00", maxDeadResponseBytes)}
	dead.Letter.Body = []byte(strings.Repeat(`"`, MaxRecordBytes))
	if _, ok := readFrame(dead.encode(), 0); !ok {
		t.Error("the longest dead letter is no frame")
	}
}

func TestWhatIsNoUTF8BecomesReadableOncePerCharacter(t *testing.T) {
	for text, want := range map[string]string{
		"\u20ac": "\u20ac", "\xe2\x82": "\ufffd", "\xe2\x82A": "\ufffdA", "\xff\xfe": "\ufffd\ufffd",
		"\xf0\x9f\x98": "\ufffd", "\xe2\xe2\x82\xac": "\ufffd\u20ac", "\xc0\x80": "\ufffd\ufffd",
		"\xed\xa0\x80": "\ufffd\ufffd\ufffd",
	} {
		if got := readable([]byte(text)); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestEntriesGoInOrderAndOnce(t *testing.T) {
	s := scheduled(16, 3, 1, 2)
	expectNumbers(t, "two", s.takeNumbers(0, 2, noLimit), 1, 2)
	expectNumbers(t, "the rest", s.takeNumbers(0, 9, noLimit), 3)
	expectNumbers(t, "nothing", s.takeNumbers(0, 9, noLimit))
	if _, waits := s.nextDueMs(); waits || len(s.inFlight) != 3 {
		t.Errorf("waits %v, in flight %d", waits, len(s.inFlight))
	}
	s = scheduled(16, 1, 2, 3)
	expectNumbers(t, "bytes are bounded", s.takeNumbers(0, 9, 200), 1, 2)
	expectNumbers(t, "but one always goes", s.takeNumbers(0, 9, 1), 3)
}

func TestAnEntryThatItsOwnCallSendsIsNotTaken(t *testing.T) {
	s := newSchedule(16)
	s.add(entryNo(1, "file", 100), true)
	expectNumbers(t, "in flight", s.takeNumbers(0, 9, noLimit))
	s.postpone(entryID(1), down(), 1000, 0)
	expectNumbers(t, "postponed", s.takeNumbers(1000, 9, noLimit), 1)
}

func TestTheOutboxWaitDoublesToItsCap(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for tries := range 41 {
		s := scheduled(16, 1)
		for range tries {
			s.take(math.MaxInt64, 9, noLimit)
			s.postpone(entryID(1), down(), 0, 0)
		}
		s.take(math.MaxInt64, 9, noLimit)
		u := random.Float64()
		s.postpone(entryID(1), down(), 5_000, u)
		bound := min(1_000*math.Pow(2, float64(tries)), outboxWaitMaxMs)
		if got, _ := s.nextDueMs(); got != 5_000+int64(u*bound) {
			t.Errorf("after %d tries: %d", tries, got)
		}
	}
}

func TestWhatTheServerAskedForIsAFloor(t *testing.T) {
	s := scheduled(16, 1)
	s.take(0, 9, noLimit)
	s.postpone(entryID(1), Verdict{Kind: Later, RetryAfterMs: 120_000}, 1_000, 0.5)
	if got, _ := s.nextDueMs(); got != 121_500 {
		t.Errorf("due at %d", got)
	}
	s.hurry()
	if got, _ := s.nextDueMs(); got != 121_000 {
		t.Errorf("in a hurry due at %d", got)
	}
	expectNumbers(t, "before", s.takeNumbers(120_999, 9, noLimit))
	expectNumbers(t, "at it", s.takeNumbers(121_000, 9, noLimit), 1)
	s.postpone(entryID(1), Verdict{Kind: Later, RetryAfterMs: math.MaxInt64}, 1_000, 0.5)
	if got, _ := s.nextDueMs(); got != math.MaxInt64 {
		t.Errorf("an endless wait ends at %d", got)
	}
}

func TestHurryLeavesAloneWhatIsInFlightOrParked(t *testing.T) {
	s := scheduled(16, 1, 2, 3)
	s.take(0, 2, noLimit)
	s.pause(entryID(2), "kid")
	s.hurry()
	expectNumbers(t, "the third is of the paused kid", s.takeNumbers(0, 9, noLimit))
	s.resume(s.blocked()...)
	expectNumbers(t, "resumed", s.takeNumbers(0, 9, noLimit), 2, 3)
}

func TestAfterAFailureOneProbesAndEachSuccessDoublesTheWidth(t *testing.T) {
	s := scheduled(8, upTo(99)...)
	expectNumbers(t, "first", s.takeNumbers(0, 1, noLimit), 1)
	s.postpone(entryID(1), down(), 1<<40, 0.5)
	var taken []int
	for range 6 {
		ids := s.take(0, 1000, noLimit)
		taken = append(taken, len(ids))
		for _, id := range ids {
			s.drop(id)
		}
		s.delivered()
	}
	if want := []int{1, 2, 4, 98 - 7, 0, 0}; !slices.Equal(taken, want) {
		t.Errorf("%v", taken)
	}
	s = scheduled(16, upTo(49)...)
	s.take(0, 1, noLimit)
	s.postpone(entryID(1), Verdict{Kind: Later, EndpointUp: true}, 1<<40, 0.5)
	if got := len(s.take(0, 1000, noLimit)); got != 48 {
		t.Errorf("a 429 narrows to %d", got)
	}
}

func TestARefusedCredentialPausesItsOwnEntriesAlone(t *testing.T) {
	for what, left := range map[string][]uint64{"kid": {2, 4}, "tenant": {3, 4}} {
		s := newSchedule(16)
		for number, names := range [][2]string{{"k1", "t1"}, {"k2", "t1"}, {"k1", "t2"}, {"", ""}} {
			added := entryNo(uint64(number+1), "file", 100)
			added.kid, added.tenant = names[0], names[1]
			s.add(added, false)
		}
		expectNumbers(t, what, s.takeNumbers(0, 1, noLimit), 1)
		group := s.pause(entryID(1), what)
		want := map[string]OutboxGroup{"kid": {"kid", "k1"}, "tenant": {"tenant", "t1"}}[what]
		if group != want || !slices.Equal(s.blocked(), []OutboxGroup{want}) {
			t.Errorf("%v, blocked %v", group, s.blocked())
		}
		expectNumbers(t, what, s.takeNumbers(0, 9, noLimit), left...)
		s.resume(group)
		if len(s.blocked()) != 0 {
			t.Errorf("still blocked: %v", s.blocked())
		}
		paused := slices.DeleteFunc(upTo(3), func(number uint64) bool {
			return slices.Contains(left, number)
		})
		expectNumbers(t, what, s.takeNumbers(0, 9, noLimit), paused...)
	}
}

func TestADroppedEntryLeavesNoTrace(t *testing.T) {
	s := scheduled(16, 1, 2)
	s.take(0, 1, noLimit)
	s.pause(entryID(1), "kid")
	s.drop(entryID(1))
	s.drop(entryID(1))
	s.drop(entryID(2))
	s.resume(s.blocked()...)
	expectNumbers(t, "dropped", s.takeNumbers(math.MaxInt64, 9, noLimit))
	if _, waits := s.nextDueMs(); waits {
		t.Error("something waits")
	}
}

func TestAMovedEntryIsTheSameEntry(t *testing.T) {
	s := scheduled(16, 1)
	s.move(entryNo(1, "other", 1_000_000))
	s.move(entryNo(9, "other", 1))
	expectNumbers(t, "moved", s.takeNumbers(0, 9, noLimit), 1)
	if s.entries[entryID(1)].file != "other" {
		t.Error("it lies where it lay")
	}
}

func TestWhatMovedOrIsParkedIsNotDue(t *testing.T) {
	s := scheduled(16, 1, 2)
	expectNumbers(t, "first", s.takeNumbers(0, 1, noLimit), 1)
	s.pause(entryID(1), "tenant")
	// The second waits; taking it shows that it is paused.
	if due, waits := s.nextDueMs(); due != 0 || !waits {
		t.Errorf("due %d, %v", due, waits)
	}
	expectNumbers(t, "paused", s.takeNumbers(0, 9, noLimit))
	if _, waits := s.nextDueMs(); waits {
		t.Error("a parked entry is due")
	}
	s.resume(s.blocked()...)
	s.hurry()
	expectNumbers(t, "resumed", s.takeNumbers(0, 1, noLimit), 1)
	s.postpone(entryID(1), Verdict{Kind: Later, RetryAfterMs: 50}, 0, 0)
	s.drop(entryID(2))
	if due, _ := s.nextDueMs(); due != 50 {
		t.Errorf("due %d", due)
	}
}

// --- vectors -------------------------------------------------------------------------------------

func TestStepVectors(t *testing.T) {
	text, err := os.ReadFile("../golden/vectors/outbox/step.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Cases []struct {
			ID   string
			Args struct {
				WidthMax   int `json:"width_max,string"`
				Durability string
				Events     []map[string]string
			}
			Expect struct {
				Steps []struct {
					Taken    []string
					Verdict  string
					InFlight string `json:"in_flight"`
					Blocked  [][2]string
					Held     [][2]string
					Released []string
					Again    []string
				}
			}
		}
	}
	if err := json.Unmarshal(text, &vectors); err != nil || len(vectors.Cases) < 50 {
		t.Fatal(len(vectors.Cases), err)
	}
	for _, each := range vectors.Cases {
		s := NewOutboxSchedule(each.Args.WidthMax)
		for index, event := range each.Args.Events {
			found := stepOf(s, event, cmp.Or(each.Args.Durability, Durable))
			var blocked [][2]string
			for _, group := range s.Blocked() {
				blocked = append(blocked, [2]string{group.What, group.Name})
			}
			slices.SortFunc(blocked, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
			want := each.Expect.Steps[index]
			got := fmt.Sprintln(found.taken, found.verdict, s.InFlight(), blocked,
				heldOf(s), found.released, found.again)
			if got != fmt.Sprintln(want.Taken, want.Verdict, want.InFlight, want.Blocked,
				want.Held, want.Released, want.Again) {
				t.Errorf("%s, step %d: got %s, want %+v", each.ID, index, got, want)
				break
			}
		}
	}
}

// played is what came of one event.
type played struct {
	taken, released, again []string
	verdict                VerdictKind
}

func heldOf(s *OutboxSchedule) [][2]string {
	var held [][2]string
	for id, position := range s.Held() {
		held = append(held, [2]string{id, position.String()})
	}
	slices.SortFunc(held, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	return held
}

func stepOf(s *OutboxSchedule, event map[string]string, level string) (found played) {
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(event[name], 10, 64)
		return n
	}
	id, nowMs := event["id"], number("now_ms")
	switch event["event"] {
	case "put":
		kid, tenant, length := event["kid"], event["tenant"], int(number("length"))
		if !s.PutHeld(id, kid, tenant, length, event["hold"]) {
			s.Put(id, kid, tenant, length, event["in_flight"] == "true")
		}
	case "heard":
		found.released, found.again = s.Hear(event["value"])
	case "status":
		body, _ := hex.DecodeString(event["body"])
		found.released, found.again = s.HearStatus(body)
	case "take":
		found.taken = s.Take(nowMs, int(number("limit")), int(number("bytes_max")))
	case "answer":
		bits, _ := strconv.ParseUint(event["u"], 16, 64)
		found.released, found.again = s.Hear(event["replicated"])
		ended := JudgeRecorded(level, submittedOf(event))
		if status := int(number("status")); status != 200 && status != 202 {
			code := map[bool]string{true: "cancelled", false: "any"}[event["cancelled"] == "true"]
			ended = JudgeDelivery(status, code, "", nil, number("retry_after_ms"))
		}
		found.verdict = s.Settle(id, ended, nowMs, math.Float64frombits(bits))
	case "hurry":
		s.Hurry()
	}
	return found
}

// submittedOf is an answer with these headers.
func submittedOf(event map[string]string) *Submitted {
	submitted := &Submitted{Level: cmp.Or(event["level"], Durable)}
	if position, ok := parsePosition(event["position"]); ok {
		submitted.Position = &position
	}
	if watermark, ok := parsePosition(event["replicated"]); ok {
		submitted.Replicated = &watermark
	}
	return submitted
}
