package fractal

// The outbox on a real directory: modes, limits, dead letters, files, group commit.

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const dayMs = 86_400_000

func newBox(t *testing.T, options ...OutboxOption) (box *Outbox, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "outbox")
	return mustOpenDisk(t, path, options...), path
}

func withFileBytes(bytes int) OutboxOption {
	return func(s *outboxSettings) { s.fileBytes = bytes }
}

func reopen(t *testing.T, box *Outbox, path string) *Outbox {
	t.Helper()
	mustClose(t, box)
	return mustOpenDisk(t, path)
}

func putLetter(t *testing.T, box *Outbox, letter Letter, inFlight bool) string {
	t.Helper()
	kept, err := box.put(letter, outboxNowMs, inFlight)
	if err != nil {
		t.Fatal(err)
	}
	return kept.ID
}

func settleAs(t *testing.T, box *Outbox, id string, verdict Verdict) {
	t.Helper()
	if err := box.settle(id, verdict, outboxNowMs, 0); err != nil {
		t.Fatal(err)
	}
}

func takeAll(t *testing.T, box *Outbox, nowMs int64) []int {
	t.Helper()
	due, err := box.take(nowMs, 1000, noLimit)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	for _, each := range due.letters {
		numbers = append(numbers, numberOf(each))
	}
	return numbers
}

func expectTaken(t *testing.T, box *Outbox, want ...int) {
	t.Helper()
	if got := takeAll(t, box, outboxNowMs); !slices.Equal(got, want) {
		t.Errorf("taken: %v, want %v", got, want)
	}
}

func expectCode(t *testing.T, err error, code string) {
	t.Helper()
	var known *Error
	if !errors.As(err, &known) || known.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func acknowledged() Verdict { return Verdict{Kind: Acknowledge, Status: 200} }

// --- files ---------------------------------------------------------------------------------------

func TestDirectoryAndFilesAreOpenToTheirOwnerAlone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	box, path := newBox(t)
	settleAs(t, box, putLetter(t, box, letterNo(1), true), conflict)
	for name, want := range map[string]os.FileMode{
		"": 0o700, logName(1): 0o600, deadLogName: 0o600, lockName: 0o600,
	} {
		facts, err := os.Stat(filepath.Join(path, name))
		if err != nil || facts.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, facts.Mode(), err)
		}
	}
	mustClose(t, box)
	if err := os.Chmod(path, 0o750); err != nil {
		t.Fatal(err)
	}
	_, err := OpenOutbox(path)
	expectCode(t, err, "config_invalid")
}

func TestAPlaceThatIsNoDirectoryCannotBeOpened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenOutbox(path)
	expectCode(t, err, "outbox_corrupt")
}

func TestTheLogHoldsTheFrameOfTheFormatAndNothingElse(t *testing.T) {
	box, path := newBox(t)
	id := putLetter(t, box, letterNo(1), false)
	text, err := os.ReadFile(filepath.Join(path, logName(1)))
	letter := letterNo(1)
	letter.ID = id
	if err != nil || id != entryID(1) || !bytes.Equal(text, letter.encode()) {
		t.Errorf("%q, %v", text, err)
	}
}

func TestRealFilesDoWhatTheInterfaceSays(t *testing.T) {
	var files directory
	files, err := newDiskDirectory(filepath.Join(t.TempDir(), "deep", "outbox"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := files.create("a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files.create("a"); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second file of one name: %v", err)
	}
	if err := errors.Join(
		file.pwrite([]byte("hello"), 0), file.pwrite([]byte("world"), 5), file.truncate(8),
		file.fsync(), file.close(), files.fsyncDir(),
	); err != nil {
		t.Error(err)
	}
	whole, err := files.read("a")
	part, err2 := files.readAt("a", 5, 100)
	if string(whole) != "hellowor" || string(part) != "wor" || err != nil || err2 != nil {
		t.Errorf("%q, %q, %v, %v", whole, part, err, err2)
	}
	if age, err := files.ageMs("a"); err != nil || age < 0 || age > 600_000 {
		t.Errorf("%d ms, %v", age, err)
	}
	if err := files.rename("a", "b"); err != nil {
		t.Error(err)
	}
	if file, err = files.open("b"); err != nil || file.close() != nil {
		t.Error(err)
	}
	if names, err := files.names(); err != nil || !slices.Equal(names, []string{"b"}) {
		t.Errorf("%v, %v", names, err)
	}
	if err := files.unlink("b"); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"read": second(files.read("b")), "readAt": second(files.readAt("b", 0, 1)),
		"ageMs": second(files.ageMs("b")), "open": second(files.open("b")),
		"rename": files.rename("b", "c"), "unlink": files.unlink("b"),
	} {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s of a file that is not there: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// --- entries -------------------------------------------------------------------------------------

func TestWhatWaitsSurvivesARestartAndKeepsItsOrder(t *testing.T) {
	box, path := newBox(t)
	for number := 1; number <= 7; number++ {
		putLetter(t, box, letterNo(number), false)
	}
	box = reopen(t, box, path)
	expectTaken(t, box, 1, 2, 3, 4, 5, 6, 7)
	expectTaken(t, box)
	if stats := box.Stats(); stats.InFlight != 7 || stats.Entries != 7 {
		t.Errorf("%+v", stats)
	}
}

func TestAnAcknowledgedEntryIsNotSentAgain(t *testing.T) {
	box, path := newBox(t)
	first, second := putLetter(t, box, letterNo(1), false), putLetter(t, box, letterNo(2), false)
	expectTaken(t, box, 1, 2)
	settleAs(t, box, first, acknowledged())
	settleAs(t, box, first, acknowledged())
	settleAs(t, box, second, down())
	expectTaken(t, reopen(t, box, path), 2)
}

func TestCountsBytesAndAgeAreTold(t *testing.T) {
	box, path := newBox(t)
	old := letterNo(1)
	old.AtMs -= 5
	putLetter(t, box, old, false)
	putLetter(t, box, letterNo(2), false)
	facts, err := os.Stat(filepath.Join(path, logName(1)))
	if err != nil {
		t.Fatal(err)
	}
	stats := box.Stats()
	if stats.Entries != 2 || stats.Bytes != facts.Size() || stats.OldestSentAtMs != outboxNowMs-5 {
		t.Errorf("%+v, %d bytes", stats, facts.Size())
	}
}

func TestAFullOutboxRefusesAndDropsNothing(t *testing.T) {
	box, _ := newBox(t, WithMaxEntries(2))
	first := putLetter(t, box, letterNo(1), false)
	putLetter(t, box, letterNo(2), false)
	_, err := box.put(letterNo(3), outboxNowMs, false)
	expectCode(t, err, "outbox_full")
	expectTaken(t, box, 1, 2)
	settleAs(t, box, first, conflict)
	_, err = box.put(letterNo(3), outboxNowMs, false)
	expectCode(t, err, "outbox_full")
	if err := box.Purge(first); err != nil {
		t.Error(err)
	}
	putLetter(t, box, letterNo(3), false)

	box, _ = newBox(t, WithMaxBytes(2000))
	long := letterNo(1)
	long.Body = []byte(strings.Repeat(" ", 900))
	putLetter(t, box, long, false)
	_, err = box.put(long, outboxNowMs, false)
	expectCode(t, err, "outbox_full")
}

func TestALimitMustBeAboveZero(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	for _, option := range []OutboxOption{
		WithMaxEntries(0), WithMaxEntries(-1), WithMaxBytes(0), WithMaxAge(0), WithMaxAge(-time.Hour),
	} {
		_, err := OpenOutbox(path, option)
		expectCode(t, err, "config_invalid")
	}
}

func TestTheLastIDOfAllIsNeverGivenOut(t *testing.T) {
	files := newFaultFiles(0, "")
	last := sampleLetter
	last.ID = entryID(math.MaxUint64)
	files.place(logName(1), last.encode(), 0)
	box := mustOpen(t, files, 0)
	_, err := box.put(letterNo(1), outboxNowMs, false)
	expectCode(t, err, "outbox_full")
	settleAs(t, box, last.ID, acknowledged())
}

func TestAnEntryThatGrowsTooOldBecomesADeadLetter(t *testing.T) {
	box, _ := newBox(t)
	id, young := putLetter(t, box, letterNo(1), false), letterNo(2)
	young.AtMs += dayMs
	putLetter(t, box, young, false)
	if got := takeAll(t, box, outboxNowMs+13*dayMs); !slices.Equal(got, []int{2}) {
		t.Errorf("%v", got)
	}
	dead, err := box.Dead()
	if err != nil || len(dead) != 1 || dead[0].ID() != id || dead[0].Code != "outbox_expired" ||
		dead[0].Status != 0 {
		t.Errorf("%+v, %v", dead, err)
	}
	_, err = box.put(letterNo(3), outboxNowMs+13*dayMs, true)
	expectCode(t, err, "outbox_expired")
}

func TestADeadLetterKeepsTheAnswerAndTheBytes(t *testing.T) {
	box, path := newBox(t)
	id := putLetter(t, box, letterNo(1), true)
	settleAs(t, box, id, conflict)
	box = reopen(t, box, path)
	dead, err := box.Dead()
	if err != nil || len(dead) != 1 {
		t.Fatal(dead, err)
	}
	if got := dead[0]; got.Status != 409 || got.Code != conflict.Code || got.Reason != conflict.Reason ||
		got.Response != conflict.Response || !bytes.Equal(got.Letter.Body, letterNo(1).Body) {
		t.Errorf("%+v", got)
	}
	expectTaken(t, box)

	newID, err := box.Requeue(id)
	if err != nil || newID == id {
		t.Errorf("%s, %v", newID, err)
	}
	due, err := box.take(outboxNowMs, 9, noLimit)
	if err != nil || len(due.letters) != 1 || due.letters[0].ID != newID ||
		due.letters[0].From != id || !bytes.Equal(due.letters[0].Body, letterNo(1).Body) {
		t.Errorf("%+v, %v", due, err)
	}
}

func TestAnUnknownDeadLetterIsNotFound(t *testing.T) {
	box, _ := newBox(t)
	_, err := box.Requeue(entryID(99))
	expectCode(t, err, "not_found")
	expectCode(t, box.Purge(entryID(99)), "not_found")
}

func TestAPurgedLetterIsGoneForGood(t *testing.T) {
	box, path := newBox(t)
	id := putLetter(t, box, letterNo(1), true)
	settleAs(t, box, id, conflict)
	if err := box.Purge(id); err != nil {
		t.Error(err)
	}
	box = reopen(t, box, path)
	if stats := box.Stats(); stats.Entries+stats.Dead != 0 {
		t.Errorf("%+v", stats)
	}
}

func TestDeadLettersAreWrittenAnewWhenGarbageOutweighsThem(t *testing.T) {
	box, path := newBox(t, withFileBytes(3000))
	var ids []string
	for number := 1; number < 20; number++ {
		ids = append(ids, putLetter(t, box, letterNo(number), true))
		settleAs(t, box, ids[number-1], conflict)
	}
	before, err := os.Stat(filepath.Join(path, deadLogName))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids[1:] {
		if err := box.Purge(id); err != nil {
			t.Fatal(err)
		}
	}
	after, err := os.Stat(filepath.Join(path, deadLogName))
	if err != nil || after.Size() >= before.Size()/2 {
		t.Errorf("%d bytes before, %d after, %v", before.Size(), after.Size(), err)
	}
	for range 2 {
		dead, err := box.Dead()
		if err != nil || len(dead) != 1 || dead[0].ID() != ids[0] {
			t.Errorf("%+v, %v", dead, err)
		}
		box = reopen(t, box, path)
	}
}

func TestEntriesAreListedByKeyAndReleased(t *testing.T) {
	box, _ := newBox(t)
	named, nameless := letterNo(1), letterNo(2)
	named.Kid, nameless.Kid = "old", ""
	old := putLetter(t, box, named, false)
	putLetter(t, box, nameless, false)
	for kid, want := range map[string]int{"old": 1, "": 2} {
		letters, err := box.lettersOf(kid)
		if err != nil || len(letters) != 1 || numberOf(letters[0]) != want {
			t.Errorf("%q: %v, %v", kid, letters, err)
		}
	}
	box.release(old, "resigned")
	box.release(old, "resigned")
	expectTaken(t, box, 2)
}

// --- files come and go -----------------------------------------------------------------------------

func logsIn(t *testing.T, path string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(path, "outbox-*"))
	if err != nil {
		t.Fatal(err)
	}
	for index, name := range names {
		names[index] = filepath.Base(name)
	}
	return names
}

func TestAFullFileGetsASuccessorAndGoesWithItsEntries(t *testing.T) {
	box, path := newBox(t, withFileBytes(1000))
	var ids []string
	for number := 1; number <= 12; number++ {
		ids = append(ids, putLetter(t, box, letterNo(number), false))
	}
	if got := logsIn(t, path); !slices.Equal(got, []string{logName(1), logName(5), logName(9)}) {
		t.Fatalf("%v", got)
	}
	for _, id := range ids[4:8] {
		settleAs(t, box, id, acknowledged())
	}
	if got := logsIn(t, path); len(got) != 3 {
		t.Errorf("a file went before an older one: %v", got)
	}
	for _, id := range ids[:4] {
		settleAs(t, box, id, acknowledged())
	}
	if got := logsIn(t, path); !slices.Equal(got, []string{logName(9)}) {
		t.Errorf("%v", got)
	}
}

func TestOneEntryThatWaitsDoesNotKeepAllThatFollow(t *testing.T) {
	box, path := newBox(t, withFileBytes(1000))
	first := putLetter(t, box, letterNo(1), false)
	for number := 2; number < 200; number++ {
		settleAs(t, box, putLetter(t, box, letterNo(number), true), acknowledged())
	}
	var size int64
	for _, name := range logsIn(t, path) {
		facts, err := os.Stat(filepath.Join(path, name))
		if err != nil {
			t.Fatal(err)
		}
		size += facts.Size()
	}
	if size >= 6*1000 {
		t.Errorf("%d bytes", size)
	}
	expectTaken(t, box, 1)
	settleAs(t, box, first, down())
	due, err := reopen(t, box, path).take(outboxNowMs, 9, noLimit)
	if err != nil || len(due.letters) != 1 || due.letters[0].ID != first {
		t.Errorf("%+v, %v", due, err)
	}
}

func TestANewFileIsNamedPastEveryOlderOne(t *testing.T) {
	box, path := newBox(t)
	putLetter(t, box, letterNo(1), false)
	mustClose(t, box)
	if err := os.Rename(filepath.Join(path, logName(1)), filepath.Join(path, logName(40))); err != nil {
		t.Fatal(err)
	}
	box = mustOpenDisk(t, path)
	if got := putLetter(t, box, letterNo(2), false); got != entryID(40) {
		t.Errorf("%s", got)
	}
}

// --- events, goroutines ------------------------------------------------------------------------------

func TestEachChangeIsToldOnceAndOutsideTheLock(t *testing.T) {
	box, _ := newBox(t)
	var told []string
	woken := 0
	box.listen(func(event OutboxEvent) {
		box.Stats() // would wait for ever under the lock
		told = append(told, strings.TrimSpace(event.Kind+" "+event.Code))
	}, func() { woken++ })
	first, second := putLetter(t, box, letterNo(1), false), putLetter(t, box, letterNo(2), false)
	expectTaken(t, box, 1, 2)
	settleAs(t, box, first, Verdict{Kind: Pause, What: "kid", Code: "kid_unknown"})
	settleAs(t, box, second, conflict)
	if _, err := box.Requeue(second); err != nil {
		t.Fatal(err)
	}
	if got := box.Stats().Blocked; !slices.Equal(got, []OutboxGroup{{"kid", "k1"}}) {
		t.Errorf("blocked: %v", got)
	}
	box.hurry()
	expectTaken(t, box, 1, 2)
	settleAs(t, box, first, down())
	if want := []string{
		"queued", "queued", "outbox_blocked kid_unknown", "dead pcs_id_conflict", "requeued", "postponed",
	}; !slices.Equal(told, want) || woken != 6 {
		t.Errorf("%q, woken %d times", told, woken)
	}
}

func TestAClosedOutboxTakesNothingTouchesNothingAndClosesTwice(t *testing.T) {
	box, path := newBox(t, withFileBytes(300))
	first := putLetter(t, box, letterNo(1), true)
	second := putLetter(t, box, letterNo(2), true)
	putLetter(t, box, letterNo(3), true)
	dead := putLetter(t, box, letterNo(4), true)
	settleAs(t, box, dead, conflict)
	mustClose(t, box)
	mustClose(t, box)
	before := logsIn(t, path)
	_, err := box.put(letterNo(5), outboxNowMs, false)
	expectCode(t, err, "outbox_corrupt")
	_, err = box.take(outboxNowMs, 1, 1)
	expectCode(t, err, "outbox_corrupt")
	expectCode(t, box.settle(first, acknowledged(), outboxNowMs, 0), "outbox_corrupt")
	expectCode(t, box.settle(second, conflict, outboxNowMs, 0), "outbox_corrupt")
	_, err = box.Requeue(dead)
	expectCode(t, err, "outbox_corrupt")
	expectCode(t, box.Purge(dead), "outbox_corrupt")
	if after := logsIn(t, path); !slices.Equal(before, after) {
		t.Errorf("files before: %v, after: %v", before, after)
	}
}
