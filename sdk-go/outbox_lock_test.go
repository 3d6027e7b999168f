package fractal

// The owner of an outbox directory: one live process, and a stale lock is taken over once.

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	goneOwner  = owner{5, "old boot", 1, "host"}
	hereOwner  = owner{6, "new boot", 1, "host"}
	otherOwner = owner{7, "new boot", 1, "host"}
)

// lockFor takes locks for a process beside which all others live.
func lockFor(files directory, here owner) *locker {
	return &locker{files, here, func(int) (int64, bool, error) { return 1, true, nil }}
}

func expectLocked(t *testing.T, err error, who string) {
	t.Helper()
	var known *Error
	if !errors.As(err, &known) || known.Code != "outbox_locked" || !errors.Is(err, ErrOutbox) ||
		!strings.Contains(known.Message, who) {
		t.Errorf("got %v, want outbox_locked by %s", err, who)
	}
}

func TestALockIsStaleWhenItsBootOrProcessIsGone(t *testing.T) {
	here := owner{10, "boot", 500, "host"}
	rebooted, elsewhere, both := here, here, here
	rebooted.BootID, elsewhere.Host, both.Host = "other", "other", "other"
	both.BootID = "other"
	for _, each := range []struct {
		holder owner
		ticks  int64
		alive  bool
		stale  bool
	}{
		{here, 500, true, false},
		{here, 0, false, true},  // the process is gone
		{here, 501, true, true}, // another process has its number
		{rebooted, 500, true, true},
		{elsewhere, 0, false, false}, // nothing here can tell
		{both, 0, false, false},
	} {
		if got := isStale(each.holder, here, each.ticks, each.alive); got != each.stale {
			t.Errorf("%+v: %v", each, got)
		}
	}
}

func TestAnOwnerComesBackFromItsText(t *testing.T) {
	if again, ok := readOwner(hereOwner.text()); !ok || again != hereOwner {
		t.Errorf("%+v, %v", again, ok)
	}
	// As another SDK writes it.
	python := `{"pid": 6, "boot_id": "new boot", "start_ticks": 1, "host": "host"}`
	if again, ok := readOwner([]byte(python)); !ok || again != hereOwner {
		t.Errorf("%+v, %v", again, ok)
	}
	for _, text := range []string{
		"", "{", "[]", "7", `{"pid":"x"}`, `{"pid":1}`, "\xff",
		`{"pid":"6","boot_id":"b","start_ticks":1,"host":"h"}`,
		`{"pid":6,"boot_id":"b","start_ticks":1.5,"host":"h"}`,
		`{"pid":6,"boot_id":null,"start_ticks":1,"host":"h"}`,
	} {
		if again, ok := readOwner([]byte(text)); ok {
			t.Errorf("%s: read as %+v", text, again)
		}
	}
}

func TestASecondOwnerIsRefusedByName(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	box, err := OpenOutbox(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = OpenOutbox(path)
	expectLocked(t, err, "process "+strconv.Itoa(os.Getpid())+" on ")
	text, err := os.ReadFile(filepath.Join(path, lockName))
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil || len(members) != 4 {
		t.Errorf("%s: %v", text, err)
	}
	here, err := thisProcess()
	if again, ok := readOwner(text); !ok || again != here || err != nil {
		t.Errorf("%s is not this process, %v", text, err)
	}
	mustClose(t, box)
	box, err = OpenOutbox(path)
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, box)
	if _, err := os.Stat(filepath.Join(path, lockName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock is still there: %v", err)
	}
}

// childEnv makes a test binary into a child process that does something else.
const childEnv = "FRACTAL_TEST_CHILD"

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		if what == "held" {
			os.Exit(heldChild())
		}
		os.Exit(outboxChild(what))
	}
	os.Exit(m.Run())
}

// awaitZombie waits until the system has ended a process that was killed; its threads take a moment.
func awaitZombie(pid int) {
	for range 500 {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestTheLockOfAProcessThatIsGoneIsTakenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	child := startChild(t, "hold", path, "0")
	child.expect(t, "open")
	_, err := OpenOutbox(path)
	expectLocked(t, err, "process "+strconv.Itoa(child.Process.Pid)+" on ")
	child.kill(t)
	// Until somebody waits for it the child is a zombie, which has its number and is gone.
	if runtime.GOOS == "linux" {
		awaitZombie(child.Process.Pid)
		mustOpenDisk(t, path)
		if names, _ := os.ReadDir(path); len(names) != 2 {
			t.Errorf("%v", names)
		}
	}
	_ = child.Wait()
}

func TestAProcessHasAStartAndAFreeNumberHasNone(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells when a process started")
	}
	if ticks, alive, err := startTicksOf(proc, os.Getpid()); !alive || ticks == 0 || err != nil {
		t.Errorf("%d, %v, %v", ticks, alive, err)
	}
	if _, alive, err := startTicksOf(proc, 1<<22+1); alive || err != nil {
		t.Errorf("a number that no process can have: %v, %v", alive, err)
	}
	root := t.TempDir()
	for pid, text := range map[string]string{
		"self": "1 (x) S", "7": "7 (a) Z) Z" + strings.Repeat(" 1", 30),
		"8": "8 (a) b) S" + strings.Repeat(" 1", 18) + " 77 1", "9": "9 (x) S 1",
	} {
		if err := os.MkdirAll(filepath.Join(root, pid), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, pid, "stat"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for pid, want := range map[int]int64{7: -1, 8: 77, 9: -1, 10: -1} {
		ticks, alive, err := startTicksOf(root, pid)
		if err != nil || alive != (want >= 0) || alive && ticks != want {
			t.Errorf("process %d: %d, %v", pid, ticks, alive)
		}
	}
}

func TestASystemThatDoesNotTellIsAskedBySignal(t *testing.T) {
	nowhere := t.TempDir()
	if ticks, alive, err := startTicksOf(nowhere, os.Getpid()); ticks != 0 || !alive || err != nil {
		t.Errorf("this process: %d, %v, %v", ticks, alive, err)
	}
	if _, alive, _ := startTicksOf(nowhere, 1); !alive {
		t.Error("the first process is gone")
	}
	ended := exec.Command(os.Args[0], "-test.run=^$")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	if _, alive, _ := startTicksOf(nowhere, ended.Process.Pid); alive {
		t.Error("a process that has ended lives")
	}
	// A folder in the place of the file stands for what may not be looked at.
	if err := os.MkdirAll(filepath.Join(nowhere, "5", "stat"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := startTicksOf(nowhere, 5); err == nil {
		t.Error("what may not be looked at is taken for gone")
	}
}

func TestALockThatWasNeverFinishedIsLiveForAWhileAndThenStale(t *testing.T) {
	files := newFaultFiles(0, "")
	files.place(lockName, []byte(`{"pid":`), lockSettleMs)
	expectLocked(t, lockFor(files, hereOwner).acquire(), "an unreadable lock")
	files.place(lockName, []byte(`{"pid":`), lockSettleMs+1)
	if err := lockFor(files, hereOwner).acquire(); err != nil {
		t.Error(err)
	}
	expectLock(t, files, hereOwner)
}

func expectLock(t *testing.T, files *faultFiles, holder owner) {
	t.Helper()
	if names := files.sortedNames(); !slices.Equal(names, []string{lockName}) {
		t.Fatalf("%v", names)
	}
	if text := string(files.data(lockName)); text != string(holder.text()) {
		t.Errorf("the lock is %s", text)
	}
}

// racing runs a rival at one step of taking a stale lock over.
func racing(when func(call, name string) bool) (files *faultFiles, rival *error) {
	files, rival = newFaultFiles(0, ""), new(error)
	files.place(lockName, goneOwner.text(), rebootMs)
	raced := false
	files.before = func(call, name string) {
		if !raced && when(call, name) {
			raced = true
			*rival = lockFor(files, otherOwner).acquire()
		}
	}
	return files, rival
}

func TestOfTwoThatFindOneStaleLockTheLaterClaimIsGivenUp(t *testing.T) {
	files, rival := racing(func(call, name string) bool { return call == "create" && name != lockName })
	expectLocked(t, lockFor(files, hereOwner).acquire(), "process 7")
	if *rival != nil {
		t.Error(*rival)
	}
	expectLock(t, files, otherOwner)
}

func TestOfTwoThatFindOneStaleLockTheOneWithoutTheClaimIsRefused(t *testing.T) {
	// The claim's holder counts as live for the rival, as it is of the same boot.
	files, rival := racing(func(call, _ string) bool { return call == "rename" })
	if err := lockFor(files, hereOwner).acquire(); err != nil {
		t.Error(err)
	}
	expectLocked(t, *rival, "process 6")
	expectLock(t, files, hereOwner)
}

func TestAClaimWhoseHolderDiedIsClaimedInTurn(t *testing.T) {
	files := newFaultFiles(0, "")
	files.place(lockName, goneOwner.text(), rebootMs)
	files.before = func(call, _ string) { files.gone = files.gone || call == "rename" }
	dead := owner{8, "middle boot", 2, "host"}
	if err := lockFor(files, dead).acquire(); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	files.gone, files.before = false, nil
	if names := files.sortedNames(); len(names) != 2 {
		t.Errorf("there is no claim: %v", names)
	}
	if err := lockFor(files, hereOwner).acquire(); err != nil {
		t.Error(err)
	}
	expectLock(t, files, hereOwner)
}

func TestALockThatGoesWhileItIsLookedAtIsTriedForAgain(t *testing.T) {
	for _, call := range []string{"read", "ageMs", "rename"} {
		files := newFaultFiles(0, "")
		files.place(lockName, goneOwner.text(), rebootMs)
		looks := 0
		files.before = func(now, name string) {
			isClaim := now == "create" && name != lockName // read once more behind the claim
			if now == call || call == "rename" && isClaim {
				if looks++; looks == 1 {
					delete(files.now, lockName)
				}
			}
		}
		if err := lockFor(files, hereOwner).acquire(); err != nil {
			t.Errorf("%s: %v", call, err)
		}
		expectLock(t, files, hereOwner)
	}
}

func TestOnlyTheOwnLockIsReleased(t *testing.T) {
	files := newFaultFiles(0, "")
	files.place(lockName, otherOwner.text(), 0)
	if err := lockFor(files, hereOwner).release(); err != nil {
		t.Error(err)
	}
	expectLock(t, files, otherOwner)
	files = newFaultFiles(0, "")
	if err := lockFor(files, hereOwner).release(); err != nil {
		t.Error(err)
	}
}

func TestALockThatCannotBeWrittenIsTakenAwayAgain(t *testing.T) {
	files := newFaultFiles(2, "full")
	if err := lockFor(files, hereOwner).acquire(); err == nil || len(files.now) > 0 {
		t.Errorf("%v, %v", err, files.sortedNames())
	}
	files = newFaultFiles(0, "")
	files.place(lockName, goneOwner.text(), rebootMs)
	files.at, files.how = 2, "full" // the claim
	if err := lockFor(files, hereOwner).acquire(); err == nil {
		t.Error("a claim that cannot be written is one")
	}
	expectLock(t, files, goneOwner)
}
