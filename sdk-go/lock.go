package fractal

// This file owns the rule of the owner lock (spec/formats.md 11.11): one live process owns an
// outbox directory at a time, and a stale lock is taken over once.

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	lockName = "outbox.lock"

	// lockSettleMs: a lock file that cannot be read counts as stale once it is older than this.
	lockSettleMs = 10_000
)

// owner is who holds the directory: a process of one boot of one host.
type owner struct {
	Pid        int    `json:"pid"`
	BootID     string `json:"boot_id"`
	StartTicks int64  `json:"start_ticks"`
	Host       string `json:"host"`
}

func (o owner) text() []byte {
	text, _ := json.Marshal(o) // numbers and strings always have a text
	return text
}

// readOwner reads a lock file, if it can be read.
func readOwner(text []byte) (owner, bool) {
	root, err := scan(text, maxFrameBytes)
	if err != nil || root.kind != objectKind {
		return owner{}, false
	}
	var o owner
	var okBoot, okHost bool
	o.BootID, okBoot = textOf(&root, "boot_id")
	o.Host, okHost = textOf(&root, "host")
	pid, okPid := (&Document{root}).Integer("pid")
	ticks, okTicks := (&Document{root}).Integer("start_ticks")
	o.Pid, o.StartTicks = int(pid), ticks
	return o, okBoot && okHost && okPid && okTicks
}

// isStale says whether the holder of a readable lock is gone, seen from the process `here`. `alive`
// and `ticks` say whether a process has the holder's pid, and when that one started. A lock of
// another host is never stale: nothing here can tell.
func isStale(holder, here owner, ticks int64, alive bool) bool {
	if holder.Host != here.Host {
		return false
	}
	return holder.BootID != here.BootID || !alive || ticks != holder.StartTicks
}

// --- processes ---------------------------------------------------------------------------------

// proc is where a system tells about processes; where there is none, a signal asks.
const proc = "/proc"

// startTicksOf says when a process started (0 where the system does not tell), and whether there
// is one. A process that nobody has waited for is gone. What may not be looked at is an error, and
// never taken for a process that is gone.
func startTicksOf(root string, pid int) (ticks int64, alive bool, err error) {
	text, err := os.ReadFile(root + "/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, syscall.ESRCH) {
		return 0, false, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		if _, missing := os.Stat(root + "/self/stat"); missing != nil {
			return 0, answersSignal(pid), nil
		}
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	// The name of the program, in parentheses, may hold blanks and parentheses.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	const state, start = 0, 19
	if len(fields) <= start || strings.Contains("ZX", fields[state]) {
		return 0, false, nil
	}
	ticks, err = strconv.ParseInt(fields[start], 10, 64)
	return ticks, err == nil, err
}

func answersSignal(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = process.Release() }()
	err = process.Signal(syscall.Signal(0))
	return !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH)
}

// thisProcess describes this process as the owner of a lock.
func thisProcess() (owner, error) {
	boot, err := os.ReadFile(proc + "/sys/kernel/random/boot_id")
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // the system has none
	}
	host, noHost := os.Hostname()
	ticks, _, noTicks := startTicksOf(proc, os.Getpid())
	here := owner{os.Getpid(), strings.TrimSpace(string(boot)), ticks, host}
	return here, errors.Join(err, noHost, noTicks)
}

// --- the lock ----------------------------------------------------------------------------------

// locker takes the lock; a test gives it other processes.
type locker struct {
	files directory
	here  owner
	ticks func(pid int) (int64, bool, error)
}

// acquire makes `here` the one owner of the directory, or fails with `outbox_locked`.
//
// A stale lock is replaced through a claim: a second file, created exclusively and named by the
// text of the lock it replaces, which is then renamed over the lock. Two processes that find the
// same stale lock want the same claim, and only one gets it. Names need no sync: a lock that a
// power failure forgets was that of another boot.
func (l *locker) acquire() error {
	var seen []lockSeen
	for name := lockName; ; {
		file, err := l.files.create(name)
		if errors.Is(err, fs.ErrExist) {
			text, err := l.refuseLive(name)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				seen, name = nil, lockName
			case err != nil:
				return err
			default:
				seen = append(seen, lockSeen{name, text})
				name = claimName(text)
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := writeNew(l.files, name, file, l.here.text()); err != nil || name == lockName {
			return err
		}
		same, err := l.unchanged(seen)
		if err != nil {
			return err
		}
		if same {
			return l.replace(name, seen)
		}
		if err := l.files.unlink(name); err != nil {
			return err
		}
		seen, name = nil, lockName
	}
}

// lockSeen is a lock, or a claim to one, that turned out to be stale.
type lockSeen struct {
	name string
	text []byte
}

func claimName(text []byte) string {
	sum := sha256.Sum256(text)
	return lockName + "." + hex.EncodeToString(sum[:8])
}

// refuseLive gives the text of a lock that is stale.
func (l *locker) refuseLive(name string) ([]byte, error) {
	text, err := l.files.read(name)
	if err != nil {
		return nil, err
	}
	ageMs, err := l.files.ageMs(name)
	if err != nil {
		return nil, err
	}
	const advice = "the outbox belongs to %s; if that is gone for good, remove %s"
	holder, readable := readOwner(text)
	if !readable {
		if ageMs > lockSettleMs {
			return text, nil
		}
		return nil, newError("outbox_locked", advice, "an unreadable lock", name)
	}
	ticks, alive, err := l.ticks(holder.Pid)
	if err != nil {
		return nil, err
	}
	if isStale(holder, l.here, ticks, alive) {
		return text, nil
	}
	who := "process " + strconv.Itoa(holder.Pid) + " on " + holder.Host
	return nil, newError("outbox_locked", advice, who, name)
}

func (l *locker) unchanged(seen []lockSeen) (bool, error) {
	for _, each := range seen {
		text, err := l.files.read(each.name)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if !slices.Equal(text, each.text) {
			return false, nil
		}
	}
	return true, nil
}

// replace puts the claim in the place of the lock, and takes older claims away.
func (l *locker) replace(claim string, seen []lockSeen) error {
	if err := l.files.rename(claim, lockName); err != nil {
		return err
	}
	for _, each := range seen[1:] {
		if err := l.files.unlink(each.name); err != nil {
			return err
		}
	}
	return nil
}

// release removes the lock, if it is still this process's own.
func (l *locker) release() error {
	text, err := l.files.read(lockName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !slices.Equal(text, l.here.text()) {
		return err
	}
	return l.files.unlink(lockName)
}
