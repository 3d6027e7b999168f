package fractal

// The outbox on damaged directories, and on a file system that fails or stops at the k-th call of
// a recovery, for every k. What must be found is told by the history of outbox_crash_test.go.

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
)

type damagedCase struct {
	files *faultFiles
	known *history
}

// damagedCases gives directories with every kind of damage, and what must be found in them.
func damagedCases(t *testing.T) map[string]damagedCase {
	t.Helper()
	files, known := newFaultFiles(0, ""), newHistory()
	play(t, files, known, everyAct)
	logs := logNames(files.sortedNames())
	newest := logs[len(logs)-1]
	cases := map[string]damagedCase{"whole": {files.copy(0, ""), known}}

	torn := files.copy(0, "")
	torn.place(newest, append(torn.data(newest), "\x00\x00\x00\x20torn"...), 0)
	cases["torn tail"] = damagedCase{torn, known}

	tornDead := files.copy(0, "")
	tornDead.place(deadLogName, append(tornDead.data(deadLogName), "\x00\x00\x01"...), 0)
	cases["torn dead letters"] = damagedCase{tornDead, known}

	first := files.copy(0, "")
	data := first.data(logs[0])
	data[len(data)/2] ^= 0x40
	first.place(logs[0], data, 0)
	lost := known.clone()
	maps.DeleteFunc(lost.kept, func(number int, _ string) bool { return number <= 3 })
	cases["rotten first file"] = damagedCase{first, lost}

	both, more := first.copy(0, ""), lost.clone()
	box := mustOpen(t, both, 0)
	if err := more.put(box, 50, 51); err != nil {
		t.Fatal(err)
	}
	for _, number := range []int{50, 51} {
		if err := more.settle(box, number, conflict); err != nil {
			t.Fatal(err)
		}
	}
	delete(more.kept, 40) // it lies first in the file, and rots
	mustClose(t, box)
	rotten := both.data(deadLogName)
	rotten[10] ^= 1
	both.place(deadLogName, rotten, 0)
	cases["rotten dead letters"] = damagedCase{both, more}

	cases["rotten file with later marks"] = damagedWithLaterMarks(t)
	return cases
}

// damagedWithLaterMarks gives a rotten file beside a younger one that says what became of its
// entries.
func damagedWithLaterMarks(t *testing.T) damagedCase {
	t.Helper()
	files, known := newFaultFiles(0, ""), newHistory()
	play(t, files, known, []act{
		func(h *history, box *Outbox) error { return h.put(box, 1, 7) },
		func(h *history, box *Outbox) error { return h.settle(box, 3, conflict) },
		func(h *history, box *Outbox) error { return h.purge(box, 3) },
	})
	data := files.data(logName(1))
	data[40] ^= 1
	files.place(logName(1), data, 0)
	delete(known.kept, 1)
	return damagedCase{files, known}
}

func TestAFaultAtAnyCallOfARecoveryLosesNothing(t *testing.T) {
	for name, start := range damagedCases(t) {
		for _, how := range []string{"fail", "stop", "torn"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				total := callsOf(t, start.files.copy(0, ""), nil)
				for at := 1; at <= total; at++ {
					files := start.files.copy(at, how)
					play(t, files, newHistory(), nil)
					for _, image := range crashImages {
						after := files.crash(image)
						isRotten := strings.HasPrefix(name, "rotten")
						check(t, after, start.known.clone(), 2, isRotten)
						if isRotten && !hasSetAside(after, name) {
							t.Fatalf("at %d: nothing is set aside: %v", at, after.sortedNames())
						}
					}
				}
				if total < 4 {
					t.Errorf("only %d calls", total)
				}
			})
		}
	}
}

func hasSetAside(files *faultFiles, name string) bool {
	kind := "outbox-"
	if strings.Contains(name, "letters") {
		kind = "dead-"
	}
	return slices.ContainsFunc(files.sortedNames(), func(each string) bool {
		return strings.HasPrefix(each, kind) && strings.HasSuffix(each, ".corrupt")
	})
}

func TestDamageIsSetAsideCountedAndTold(t *testing.T) {
	files := damagedCases(t)["rotten first file"].files
	name := logNames(files.sortedNames())[0]
	before := files.data(name)
	box := mustOpen(t, files, 1)
	stats := box.Stats()
	if !slices.Equal(stats.CorruptFiles, []string{name}) || stats.UnreadableFrames != 1 {
		t.Errorf("%+v", stats)
	}
	if !bytes.Equal(files.data(name+".corrupt"), before) {
		t.Error("the damaged file is not as it was")
	}
	var told []OutboxEvent
	box.hurry()
	box.listen(func(event OutboxEvent) { told = append(told, event) }, nil)
	for range 2 {
		if _, err := box.take(0, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	want := []OutboxEvent{{Kind: "outbox_corrupt", Code: "outbox_corrupt"}}
	if !slices.Equal(told, want) {
		t.Errorf("told %v", told)
	}
	mustClose(t, box)
	if stats := mustOpen(t, files, 2).Stats(); len(stats.CorruptFiles) > 0 {
		t.Errorf("a second recovery finds damage: %+v", stats)
	}
}

func TestRottenDeadLettersAreSetAsideAndTheReadableOnesKept(t *testing.T) {
	files := damagedCases(t)["rotten dead letters"].files
	box := mustOpen(t, files, 1)
	_, dead := contents(t, box)
	if !slices.Equal(box.Stats().CorruptFiles, []string{deadLogName}) || dead[51].ID == "" {
		t.Errorf("%+v, dead %v", box.Stats(), dead)
	}
	if !hasSetAside(files, "letters") {
		t.Error("nothing is set aside")
	}
}

func TestAnEntryWhoseFrameRotsUnderTheRunningOutboxIsCountedAndTold(t *testing.T) {
	files := newFaultFiles(0, "")
	box := mustOpen(t, files, 0)
	var told []OutboxEvent
	box.listen(func(event OutboxEvent) { told = append(told, event) }, func() {})
	first, err := box.put(letterNo(1), outboxNowMs, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box.put(letterNo(2), outboxNowMs, false); err != nil {
		t.Fatal(err)
	}
	files.now[logName(1)].data[60] ^= 1
	due, err := box.take(outboxNowMs, 10, 1<<20)
	if err != nil || len(due.letters) != 1 || numberOf(due.letters[0]) != 2 {
		t.Errorf("%v, %v", due, err)
	}
	if !slices.Contains(told, OutboxEvent{"outbox_corrupt", first.ID, "outbox_corrupt"}) ||
		box.Stats().UnreadableFrames != 1 {
		t.Errorf("told %v", told)
	}
}
