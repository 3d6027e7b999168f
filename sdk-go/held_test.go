package fractal

// How long an acknowledged entry is held, on disk and in memory; the rest is in the vectors.

import (
	"fmt"
	"slices"
	"testing"
)

var heldAt = Position{"eu1", "open", 1, 5}

func atSeq(regionEpoch, seq uint64) Position { return Position{"eu1", "open", regionEpoch, seq} }

func holdVerdict(at Position) Verdict { return Verdict{Kind: Hold, Status: 200, Position: at} }

func heldCounts(t *testing.T, what string, box *Outbox, entries, held, inFlight int) {
	t.Helper()
	stats := box.Stats()
	got := [3]int{stats.Entries, stats.Held, stats.InFlight}
	if got != [3]int{entries, held, inFlight} {
		t.Errorf("%s: entries, held, in flight: %v", what, got)
	}
}

func hears(t *testing.T, box *Outbox, news any) {
	t.Helper()
	if err := box.hear(news); err != nil {
		t.Fatal(err)
	}
}

func TestAnAnswerIsJudgedAtTheLevelOfItsClient(t *testing.T) {
	newer, elsewhere := atSeq(4, 3), Position{"us1", "open", 4, 3}
	for _, each := range []struct {
		wanted, reached      string
		position, replicated *Position
		want                 Verdict
	}{
		{Durable, Durable, &heldAt, nil, Verdict{Kind: Acknowledge, Status: 200}},
		{Replicated, Replicated, &heldAt, nil, Verdict{Kind: Acknowledge, Status: 200}},
		{Replicated, Witnessed, nil, nil, Verdict{Kind: Acknowledge, Status: 200}},
		{Replicated, Durable, nil, &heldAt, Verdict{Kind: Later, EndpointUp: true}},
		{Replicated, Durable, &heldAt, nil, holdVerdict(heldAt)},
		{Replicated, Durable, &heldAt, &newer, holdVerdict(atSeq(4, 5))},
		{Replicated, Durable, &newer, &heldAt, holdVerdict(newer)},
		{Replicated, Durable, &heldAt, &elsewhere, holdVerdict(heldAt)},
	} {
		submitted := &Submitted{
			Level: each.reached, Position: each.position, Replicated: each.replicated,
			Raw: Raw{Status: 200},
		}
		if got := JudgeRecorded(each.wanted, submitted); got != each.want {
			t.Errorf("%+v: got %+v", each, got)
		}
	}
}

func TestAHeldEntryIsHeldAfterARestartAndGoesWithItsWatermark(t *testing.T) {
	box, path := newBox(t)
	id := putLetter(t, box, letterNo(1), true)
	settleAs(t, box, id, holdVerdict(heldAt))
	heldCounts(t, "held", box, 1, 1, 0)
	expectTaken(t, box)
	box = reopen(t, box, path)
	heldCounts(t, "after a restart", box, 1, 1, 0)
	expectTaken(t, box)
	if regions := box.heldRegions(); len(regions) != 1 || !regions["eu1"] {
		t.Error(regions)
	}
	hears(t, box, atSeq(1, 4))
	heldCounts(t, "too low", box, 1, 1, 0)
	hears(t, box, heldAt)
	heldCounts(t, "covered", box, 0, 0, 0)
	heldCounts(t, "gone for good", reopen(t, box, path), 0, 0, 0)
}

func TestWhatMayBeLostIsTakenAgainAndAnOldAnswerIsNotBelieved(t *testing.T) {
	box, _ := newBox(t)
	first := putLetter(t, box, letterNo(1), true)
	settleAs(t, box, first, holdVerdict(heldAt))
	second := putLetter(t, box, letterNo(2), true)
	hears(t, box, atSeq(2, 3))
	expectTaken(t, box, 1)
	settleAs(t, box, second, holdVerdict(heldAt))
	heldCounts(t, "an old answer", box, 2, 0, 1)
	settleAs(t, box, first, holdVerdict(atSeq(2, 3)))
	heldCounts(t, "covered at once", box, 1, 0, 0)
	expectTaken(t, box, 2)
}

func TestAStatusMovesWhatStandsAndItsMarkIsKept(t *testing.T) {
	box, path := newBox(t)
	settleAs(t, box, putLetter(t, box, letterNo(1), true), holdVerdict(heldAt))
	hears(t, box, regionStatus{{atSeq(2, 4), map[uint64]uint64{1: 5}}})
	heldCounts(t, "it stands", box, 1, 1, 0)
	box = reopen(t, box, path)
	hears(t, box, atSeq(2, 4))
	heldCounts(t, "the file knows the newer epoch", box, 1, 1, 0)
	hears(t, box, regionStatus{{atSeq(2, 5), map[uint64]uint64{1: 5}}})
	heldCounts(t, "covered there", box, 0, 0, 0)
}

func TestACarriedEntryIsHeldWhereItWas(t *testing.T) {
	box, path := newBox(t, withFileBytes(1_500))
	settleAs(t, box, putLetter(t, box, letterNo(1), true), holdVerdict(heldAt))
	for number := 2; number < 80; number++ {
		settleAs(t, box, putLetter(t, box, letterNo(number), true), acknowledged())
	}
	if slices.Contains(logsIn(t, path), logName(1)) {
		t.Error("the first file is still there")
	}
	heldCounts(t, "carried", box, 1, 1, 0)
	box = reopen(t, box, path)
	heldCounts(t, "carried, after a restart", box, 1, 1, 0)
	hears(t, box, atSeq(2, 0))
	expectTaken(t, box, 1)
}

func TestAHoldThatACrashForgotIsSentOnceMore(t *testing.T) {
	files := newFaultFiles(0, "")
	box, err := openFaulty(files, 0)
	if err != nil {
		t.Fatal(err)
	}
	settleAs(t, box, putLetter(t, box, letterNo(1), true), holdVerdict(heldAt))
	after, err := openFaulty(files.crash("synced"), 1)
	if err != nil {
		t.Fatal(err)
	}
	heldCounts(t, "after the crash", after, 1, 0, 0)
	expectTaken(t, after, 1)
}

func TestHeldEntriesAreNotSignedAgainAndCanBeReleased(t *testing.T) {
	box, _ := newBox(t, WithMaxEntries(2))
	held := putLetter(t, box, letterNo(1), true)
	settleAs(t, box, held, holdVerdict(heldAt))
	waiting := putLetter(t, box, letterNo(2), false)
	_, err := box.put(letterNo(3), outboxNowMs, true)
	expectCode(t, err, "outbox_full")
	letters, err := box.lettersOf(letterNo(2).Kid)
	if err != nil || len(letters) != 1 || letters[0].ID != waiting {
		t.Error(letters, err)
	}
	box.release(held, "resigned")
	heldCounts(t, "released", box, 1, 0, 0)
	hears(t, box, heldAt)
}

func TestAClosedOutboxHearsNothing(t *testing.T) {
	box, _ := newBox(t)
	mustClose(t, box)
	expectCode(t, box.hear(heldAt), "outbox_corrupt")
}

func TestWhatBecomesOfHeldEntriesIsTold(t *testing.T) {
	box, _ := newBox(t)
	var kinds []string
	rings := 0
	box.listen(func(e OutboxEvent) { kinds = append(kinds, e.Kind) }, func() { rings++ })
	settleAs(t, box, putLetter(t, box, letterNo(1), true), holdVerdict(heldAt))
	settleAs(t, box, putLetter(t, box, letterNo(2), true), holdVerdict(atSeq(1, 6)))
	before := rings
	hears(t, box, atSeq(1, 4))
	if rings != before {
		t.Error("no news rang")
	}
	hears(t, box, heldAt)
	hears(t, box, atSeq(2, 0))
	want := []string{
		"queued", "outbox_held", "queued", "outbox_held", "acknowledged", "postponed",
	}
	if fmt.Sprint(kinds) != fmt.Sprint(want) || rings != before+2 {
		t.Error(kinds, rings-before)
	}
}

func TestWhatIsNoStatusIsNone(t *testing.T) {
	const good = `{"closed":[],"durable":9,"placement":"open","region_epoch":1,"replicated":5}`
	for body, want := range map[string]bool{
		`{"region":"eu1","streams":[` + good + `]}`:      true,
		`{"region":"eu1","streams":[],"role":"primary"}`: true,
		`{"region":"eu1","streams":[` + good + `,7]}`:    false,
		`{"region":"EU1","streams":[]}`:                  false,
		`{"region":"eu1","streams":{}}`:                  false,
		`{"region":"eu1"}`:                               false,
		`[]`:                                             false,
		``:                                               false,
		`{"region":"eu1","streams":[{"placement":"open"}]}`: false,
		`{"region":"eu1","streams":[{"closed":[{}],"durable":9,"placement":"open","region_epoch":1,` +
			`"replicated":5}]}`: false,
		`{"region":"eu1","streams":[{"closed":[],"durable":9,"placement":"open","region_epoch":-1,` +
			`"replicated":5}]}`: false,
		`{"region":"eu1","streams":[{"closed":[],"durable":9,"placement":"open","region_epoch":1,` +
			`"replicated":9007199254740992}]}`: false,
	} {
		if _, ok := readRegionStatus([]byte(body)); ok != want {
			t.Errorf("%s: %v", body, ok)
		}
	}
}

func TestWhatALostRegionHeldIsSentAgainByAFullOutboxToo(t *testing.T) {
	files := newFaultFiles(0, "")
	box, err := openFaulty(files, 0, WithMaxEntries(2))
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := Position{"us1", "open", 1, 9}
	settleAs(t, box, putLetter(t, box, letterNo(1), true), holdVerdict(heldAt))
	settleAs(t, box, putLetter(t, box, letterNo(2), true), holdVerdict(elsewhere))
	for region, want := range map[string]int{"eu1": 1, "ap1": 0} {
		if count, err := box.Resend(region); err != nil || count != want {
			t.Error(region, count, err)
		}
	}
	heldCounts(t, "resent", box, 2, 1, 0)
	after, err := openFaulty(files.crash("synced"), 1)
	if err != nil {
		t.Fatal(err)
	}
	expectTaken(t, after, 1)
	expectTaken(t, box, 1)
	mustClose(t, box)
	_, err = box.Resend("us1")
	expectCode(t, err, "outbox_corrupt")
}
