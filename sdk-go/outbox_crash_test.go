package fractal

// tidy: long because one scenario is told from every side

// The outbox on a file system that fails or stops at the k-th call, for every k.
//
// `history` is what a caller knows: which letters `put` gave back, which were acknowledged, which
// were purged. After any fault and any restart every letter that was given back is live or dead
// with the same bytes, unless it was acknowledged or purged; and nothing else is there.

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const outboxNowMs = 1_767_225_600_000

// smallFileBytes makes files of four entries, so that a short scenario rotates, removes, carries.
const smallFileBytes = 1_500

var crashImages = []string{"synced", "all", "names", "last"}

var conflict = Verdict{
	Kind: Bury, Status: 409, Code: "pcs_id_conflict", Reason: "other content", Response: "{}",
}

func letterNo(number int) Letter {
	key := fmt.Sprintf("%064x", number)
	body := fmt.Sprintf(`{"n":%d,"x":"%s"}`, number, strings.Repeat("y", number%7))
	return Letter{
		PcsID: key, Key: key, Kid: "k" + strconv.Itoa(number%2), Tenant: "acme",
		AtMs: outboxNowMs, Body: []byte(body),
	}
}

func numberOf(l Letter) int {
	number, _ := strconv.ParseInt(l.Key, 16, 64)
	return int(number)
}

// openFaulty opens an outbox for a process of another boot each time, as after a power failure.
func openFaulty(files directory, boot int, options ...OutboxOption) (*Outbox, error) {
	settings, err := outboxSettingsOf(options)
	if err != nil {
		return nil, err
	}
	settings.fileBytes = smallFileBytes
	here := owner{1000, "boot-" + strconv.Itoa(boot), 1, "host"}
	ticks := func(int) (int64, bool, error) { return 1, true, nil }
	return openOutbox(files, &locker{files, here, ticks}, settings)
}

func mustOpen(t *testing.T, files directory, boot int) *Outbox {
	t.Helper()
	box, err := openFaulty(files, boot)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func mustClose(t *testing.T, box *Outbox) {
	t.Helper()
	if err := box.Close(); err != nil {
		t.Fatal(err)
	}
}

// history is what the caller was told, by the number of the letter.
type history struct {
	tried        map[int]bool
	kept         map[int]string
	acknowledged map[int]bool
	purging      map[int]bool
	purged       map[int]bool
}

func newHistory() *history {
	return &history{
		map[int]bool{}, map[int]string{}, map[int]bool{}, map[int]bool{}, map[int]bool{},
	}
}

func (h *history) clone() *history {
	return &history{
		maps.Clone(h.tried), maps.Clone(h.kept), maps.Clone(h.acknowledged),
		maps.Clone(h.purging), maps.Clone(h.purged),
	}
}

func (h *history) put(box *Outbox, from, to int) error {
	for number := from; number <= to; number++ {
		h.tried[number] = true
		kept, err := box.put(letterNo(number), outboxNowMs, true)
		if err != nil {
			return err
		}
		h.kept[number] = kept.ID
	}
	return nil
}

func (h *history) acknowledge(box *Outbox, from, to int) error {
	for number := from; number <= to; number++ {
		h.acknowledged[number] = true
		if err := h.settle(box, number, Verdict{Kind: Acknowledge, Status: 200}); err != nil {
			return err
		}
	}
	return nil
}

func (h *history) settle(box *Outbox, number int, verdict Verdict) error {
	if id := h.kept[number]; id != "" {
		return box.settle(id, verdict, outboxNowMs, 0.5)
	}
	return nil
}

func (h *history) requeue(box *Outbox, number int) error {
	if h.kept[number] == "" {
		return nil
	}
	id, err := box.Requeue(h.kept[number])
	if err == nil {
		h.kept[number] = id
	}
	return err
}

func (h *history) purge(box *Outbox, number int) error {
	if h.kept[number] == "" {
		return nil
	}
	h.purging[number] = true
	err := box.Purge(h.kept[number])
	if err == nil {
		h.purged[number] = true
	}
	return err
}

type act func(h *history, box *Outbox) error

// everyAct is everything that writes: append, acknowledge, bury, requeue, purge, rotate, remove,
// carry, and write the dead letters anew.
var everyAct = []act{
	func(h *history, box *Outbox) error { return h.put(box, 1, 3) },
	func(h *history, box *Outbox) error { return h.acknowledge(box, 2, 2) },
	func(h *history, box *Outbox) error { return h.settle(box, 3, conflict) },
	func(h *history, box *Outbox) error { return h.put(box, 4, 8) },
	func(h *history, box *Outbox) error {
		return h.settle(box, 4, Verdict{Kind: Later, RetryAfterMs: 10})
	},
	func(h *history, box *Outbox) error { return h.requeue(box, 3) },
	func(h *history, box *Outbox) error { return h.settle(box, 5, conflict) },
	func(h *history, box *Outbox) error { return h.settle(box, 6, conflict) },
	func(h *history, box *Outbox) error { return h.purge(box, 5) },
	func(h *history, box *Outbox) error { return h.put(box, 9, 15) },
	func(h *history, box *Outbox) error { return h.acknowledge(box, 7, 14) },
	func(h *history, box *Outbox) error {
		return h.settle(box, 15, Verdict{Kind: Pause, What: "kid", Code: "kid_unknown"})
	},
	func(h *history, box *Outbox) error { return h.put(box, 16, 25) },
	func(h *history, box *Outbox) error { return h.acknowledge(box, 16, 24) },
	func(h *history, box *Outbox) error { return h.put(box, 26, 35) },
	func(h *history, box *Outbox) error { return h.acknowledge(box, 26, 35) },
	func(h *history, box *Outbox) error { return h.put(box, 36, 36) },
	func(h *history, box *Outbox) error { return h.purge(box, 6) },
	func(h *history, box *Outbox) error { return h.put(box, 37, 40) },
	func(h *history, box *Outbox) error { return h.settle(box, 37, conflict) },
	func(h *history, box *Outbox) error { return h.settle(box, 38, conflict) },
	func(h *history, box *Outbox) error { return h.settle(box, 39, conflict) },
	func(h *history, box *Outbox) error { return h.settle(box, 40, conflict) },
	func(h *history, box *Outbox) error { return h.purge(box, 37) },
	func(h *history, box *Outbox) error { return h.purge(box, 38) },
	func(h *history, box *Outbox) error { return h.requeue(box, 39) },
}

// play plays the acts; a caller goes on after an error, until the machine is gone.
func play(t *testing.T, files *faultFiles, h *history, acts []act) {
	t.Helper()
	box, err := openFaulty(files, 0)
	if err != nil {
		mustBeOurs(t, err)
		return
	}
	for _, each := range acts {
		if err := each(h, box); err != nil {
			mustBeOurs(t, err)
		}
		if files.gone {
			return
		}
	}
	if err := box.Close(); err != nil {
		mustBeOurs(t, err)
	}
}

func mustBeOurs(t *testing.T, err error) {
	t.Helper()
	var ours *Error
	if !errors.As(err, &ours) {
		t.Fatalf("an error of another kind: %v", err)
	}
}

// contents gives the live and the dead letters by number.
func contents(t *testing.T, box *Outbox) (live, dead map[int]Letter) {
	t.Helper()
	live, dead = map[int]Letter{}, map[int]Letter{}
	for _, kid := range []string{"k0", "k1"} {
		letters, err := box.lettersOf(kid)
		if err != nil {
			t.Fatal(err)
		}
		for _, each := range letters {
			live[numberOf(each)] = each
		}
	}
	letters, err := box.Dead()
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range letters {
		dead[numberOf(each.Letter)] = each.Letter
	}
	if stats := box.Stats(); stats.Entries != len(live) || stats.Dead != len(dead) {
		t.Fatalf("counted %+v, found %d and %d", stats, len(live), len(dead))
	}
	return live, dead
}

// check restarts on these files and holds what is there against what the caller was told.
func check(t *testing.T, files *faultFiles, h *history, boot int, damaged bool) {
	t.Helper()
	box := mustOpen(t, files, boot)
	live, dead := contents(t, box)
	found := maps.Clone(live)
	for number, each := range dead {
		if _, twice := live[number]; twice {
			t.Fatalf("letter %d is live and dead", number)
		}
		found[number] = each
	}
	for number, each := range found {
		if !h.tried[number] || !bytes.Equal(each.Body, letterNo(number).Body) {
			t.Fatalf("letter %d: %q", number, each.Body)
		}
		if h.purged[number] {
			t.Fatalf("letter %d was purged and is back", number)
		}
	}
	for number := range h.kept {
		if _, is := found[number]; !is && !h.acknowledged[number] && !h.purging[number] {
			t.Fatalf("letter %d was kept and is lost", number)
		}
	}
	if stats := box.Stats(); len(stats.CorruptFiles) > 0 && !damaged {
		t.Fatalf("damage: %+v", stats)
	}
	// It goes on working, and what it keeps then survives as well.
	added := 1000 + boot
	if err := h.put(box, added, added); err != nil {
		t.Fatal(err)
	}
	mustClose(t, box)
	box = mustOpen(t, files.crash("synced"), boot+1)
	liveAgain, deadAgain := contents(t, box)
	live[added] = liveAgain[added]
	if live[added].ID == "" || !reflect.DeepEqual(live, liveAgain) ||
		!reflect.DeepEqual(dead, deadAgain) {
		t.Fatalf("after another restart: %v %v, before: %v %v", liveAgain, deadAgain, live, dead)
	}
	checkDeadLeave(t, box, boot+2)
}

// checkDeadLeave requeues the even dead letters and purges the odd ones; whatever marks a crash has
// forgotten, each even one is live once, and no odd one comes back.
func checkDeadLeave(t *testing.T, box *Outbox, boot int) {
	t.Helper()
	live, dead := contents(t, box)
	for number, each := range dead {
		var err error
		if number%2 == 0 {
			_, err = box.Requeue(each.ID)
		} else {
			err = box.Purge(each.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	box = mustOpen(t, box.files.(*faultFiles).crash("synced"), boot)
	liveAgain, deadAgain := contents(t, box) // fails if one is there twice
	for number := range dead {
		if _, is := liveAgain[number]; is != (number%2 == 0) {
			t.Fatalf("dead letter %d is live: %v", number, is)
		}
		delete(liveAgain, number)
	}
	if len(deadAgain) != 0 || !reflect.DeepEqual(live, liveAgain) {
		t.Fatalf("dead %v, live %v, before %v", deadAgain, liveAgain, live)
	}
	mustClose(t, box)
}

func callsOf(t *testing.T, files *faultFiles, acts []act) int {
	t.Helper()
	play(t, files, newHistory(), acts)
	return files.calls
}

func TestWithoutAFaultEverythingIsAsItWasTold(t *testing.T) {
	files, h := newFaultFiles(0, ""), newHistory()
	play(t, files, h, everyAct)
	kinds := map[string]bool{}
	for _, line := range files.log {
		kinds[strings.Fields(line)[1]] = true
	}
	for _, kind := range []string{"create", "pwrite", "fsync", "fsyncDir", "unlink", "rename"} {
		if !kinds[kind] {
			t.Errorf("the scenario never calls %s", kind)
		}
	}
	if files.openHandles != 0 {
		t.Errorf("%d handles were left open", files.openHandles)
	}
	check(t, files, h, 1, false)
	box := mustOpen(t, files.crash("synced"), 3)
	live, dead := contents(t, box)
	want := []int{1, 3, 4, 15, 25, 36, 39, 1001}
	if got := slices.Sorted(maps.Keys(live)); !slices.Equal(got, want) {
		t.Errorf("live: %v", got)
	}
	if len(dead) != 1 || len(files.now) > 8 {
		t.Errorf("dead: %v; files in which nothing is live must go: %v", dead, files.sortedNames())
	}
}

func TestAFaultAtAnyCallLosesNothingThatWasToldToBeKept(t *testing.T) {
	total := callsOf(t, newFaultFiles(0, ""), everyAct)
	if total < 100 {
		t.Fatalf("only %d calls", total)
	}
	for _, how := range []string{"fail", "stop", "torn", "full"} {
		t.Run(how, func(t *testing.T) {
			for at := 1; at <= total; at++ {
				files, h := newFaultFiles(at, how), newHistory()
				play(t, files, h, everyAct)
				for _, image := range crashImages {
					check(t, files.crash(image), h.clone(), 1, false)
				}
				if t.Failed() {
					t.Fatalf("at call %d: %s", at, files.log[at-1])
				}
			}
			t.Logf("every k of 1..%d, %d restarts", total, total*len(crashImages))
		})
	}
}

// A disk that stays full for a while, from every call on: an entry that is carried forward must
// not be given up in its old place before it is in the new one.
func TestADiskThatIsFullForAWhileLosesNothing(t *testing.T) {
	total := callsOf(t, newFaultFiles(0, ""), everyAct)
	for at := 1; at <= total; at++ {
		for _, length := range []int{2, 3, 5, 9} {
			files, h := newFaultFiles(0, "full"), newHistory()
			files.before = func(string, string) {
				files.at = 0
				if files.calls+1 >= at && files.calls < at+length {
					files.at = files.calls + 1
				}
			}
			play(t, files, h, everyAct)
			files.before = nil
			check(t, files.crash("all"), h.clone(), 1, false)
			check(t, files.crash("synced"), h.clone(), 1, false)
			if t.Failed() {
				t.Fatalf("from call %d, %d times: %s", at, length, files.log[at-1])
			}
		}
	}
}

func TestAFullDiskRefusesOneEntryAndTheNextIsKept(t *testing.T) {
	total, refused := callsOf(t, newFaultFiles(0, ""), everyAct), 0
	for at := 1; at <= total; at++ {
		box, err := openFaulty(newFaultFiles(at, "full"), 0)
		if err != nil {
			continue
		}
		var codes []string
		for number := 1; number < 30; number++ {
			if _, err := box.put(letterNo(number), outboxNowMs, true); err != nil {
				codes = append(codes, err.(*Error).Code)
			}
		}
		if len(codes) > 0 && !slices.Equal(codes, []string{"outbox_full"}) {
			t.Fatalf("at %d: %v", at, codes)
		}
		if got := box.Stats().Entries; got != 29-len(codes) {
			t.Fatalf("at %d: %d entries", at, got)
		}
		refused += len(codes)
		mustClose(t, box)
	}
	if refused < 20 {
		t.Errorf("only %d were refused", refused)
	}
}

func TestWhatWasCutNeverComesBackBehindShorterFrames(t *testing.T) {
	for _, garbage := range []string{"\x00", "x"} {
		files := newFaultFiles(0, "")
		box := mustOpen(t, files, 0)
		if _, err := box.put(letterNo(1), outboxNowMs, true); err != nil {
			t.Fatal(err)
		}
		mustClose(t, box)
		tail := bytes.Repeat([]byte(garbage), 5000)
		files.place(logName(1), append(files.data(logName(1)), tail...), 0)
		fillTheFile(t, files)
	}
}

func TestWhatAFullDiskCutShortNeverComesBackBehindShorterFrames(t *testing.T) {
	files := newFaultFiles(0, "")
	box := mustOpen(t, files, 0)
	if _, err := box.put(letterNo(1), outboxNowMs, true); err != nil {
		t.Fatal(err)
	}
	long := letterNo(2)
	long.Body = []byte("{" + strings.Repeat(" ", 2000) + "}")
	files.at, files.how = files.calls+1, "full"
	if _, err := box.put(long, outboxNowMs, true); err == nil || err.(*Error).Code != "outbox_full" {
		t.Fatal(err)
	}
	mustClose(t, box)
	fillTheFile(t, files)
}

// fillTheFile writes on until the file is closed; then it must hold whole frames alone.
func fillTheFile(t *testing.T, files *faultFiles) {
	t.Helper()
	box := mustOpen(t, files, 1)
	for number := 10; number < 20; number++ {
		if _, err := box.put(letterNo(number), outboxNowMs, true); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, box)
	box = mustOpen(t, files, 2)
	if stats := box.Stats(); len(stats.CorruptFiles) > 0 || stats.Entries != 11 || len(files.now) < 3 {
		t.Errorf("%+v, files %v", stats, files.sortedNames())
	}
}

func TestAnOutboxThatCannotBeOpenedLeavesNoLock(t *testing.T) {
	failed := 0
	for at := 1; at < 20; at++ {
		files := newFaultFiles(at, "fail")
		box, err := openFaulty(files, 0)
		if err == nil {
			_ = box.Close() // this may be the call that fails
			continue
		}
		failed++
		if code := err.(*Error).Code; code != "outbox_corrupt" || files.openHandles != 0 {
			t.Errorf("at %d: %s, %d handles", at, code, files.openHandles)
		}
		if files.now[lockName] != nil {
			t.Errorf("at %d: the lock is still there", at)
		}
	}
	if failed == 0 {
		t.Error("no call failed")
	}
}

func TestAfterAFailedSyncTheOutboxIsClosedUntilItIsOpenedAnew(t *testing.T) {
	for at := 1; at < 20; at++ {
		files := newFaultFiles(at, "fail")
		box, err := openFaulty(files, 0)
		if err != nil {
			continue
		}
		var codes []string
		for number := 1; number < 12; number++ {
			if _, err := box.put(letterNo(number), outboxNowMs, true); err != nil {
				codes = append(codes, err.(*Error).Code)
			}
		}
		if got := slices.Compact(codes); !slices.Equal(got, []string{"outbox_corrupt"}) {
			t.Errorf("at %d: %v", at, got)
		}
		if box.Stats().Entries > 12-len(codes) {
			t.Errorf("at %d: a put succeeded after one failed", at)
		}
		_, err = box.take(outboxNowMs, 1, 1)
		if err == nil || !strings.Contains(err.Error(), "opened anew") {
			t.Errorf("at %d: take gave %v", at, err)
		}
		_ = box.Close()
		if files.now[lockName] != nil {
			t.Errorf("at %d: the lock is still there", at)
		}
		mustClose(t, mustOpen(t, files, 0))
	}
}
