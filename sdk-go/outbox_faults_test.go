package fractal

// A directory in memory that fails or stops at the k-th call and forgets what was not synced.
// Content is durable after fsync, a name after fsyncDir. `crash` gives the directory as a machine
// would find it after a power failure.

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"syscall"
)

// rebootMs is how old everything is when the machine is back.
const rebootMs = 60_000

// errStopped is what every call gives once the machine has stopped; none has an effect then.
var errStopped = errors.New("the machine has stopped")

// inode is one file: what a reader sees, and what a power failure leaves of it.
type inode struct {
	data    []byte
	durable []byte
	ageMs   int64
}

// nameChange is a change of a name that no fsyncDir has made durable.
type nameChange struct {
	name  string
	inode *inode // nil: removed
	old   string // the name before, "" if there was none
}

// faultFiles counts the calls that change something; at call number `at` it does what `how` says:
// "fail" (an I/O error, once), "full" (no space, once), "stop" (the machine is gone, before the
// call), "torn" (a write gets half way, then the machine is gone) or "" (never).
type faultFiles struct {
	lock         sync.Mutex
	at           int
	how          string
	now          map[string]*inode
	durableNames map[string]*inode
	unsynced     []nameChange
	gone         bool
	calls        int
	openHandles  int
	log          []string
	// before is called with the name of a call, without the lock.
	before func(call, name string)
}

func newFaultFiles(at int, how string) *faultFiles {
	return &faultFiles{at: at, how: how, now: map[string]*inode{}, durableNames: map[string]*inode{}}
}

// crash gives what is there after the machine comes back. `keep` is "synced" (nothing else), "all"
// (everything had reached the disk in time), "names" (names had, content had not) or "last" (of the
// names only the last change had).
func (f *faultFiles) crash(keep string) *faultFiles {
	after := newFaultFiles(0, "")
	names := maps.Clone(f.now)
	if keep == "synced" || keep == "last" {
		names = maps.Clone(f.durableNames)
	}
	if keep == "last" && len(f.unsynced) > 0 {
		last := f.unsynced[len(f.unsynced)-1]
		if delete(names, last.name); last.old != "" {
			delete(names, last.old)
		}
		if last.inode != nil {
			names[last.name] = last.inode
		}
	}
	for name, each := range names {
		data := each.durable
		if keep == "all" {
			data = each.data
		}
		after.place(name, data, rebootMs)
	}
	return after
}

// place places a durable file.
func (f *faultFiles) place(name string, data []byte, ageMs int64) {
	placed := &inode{bytes.Clone(data), bytes.Clone(data), ageMs}
	f.now[name], f.durableNames[name] = placed, placed
}

// copy gives a directory with the same files, and another fault.
func (f *faultFiles) copy(at int, how string) *faultFiles {
	other := newFaultFiles(at, how)
	for name, each := range f.now {
		other.place(name, each.data, each.ageMs)
	}
	return other
}

func (f *faultFiles) data(name string) []byte { return bytes.Clone(f.now[name].data) }

func (f *faultFiles) sortedNames() []string { return slices.Sorted(maps.Keys(f.now)) }

// --- the interface -----------------------------------------------------------------------------

func (f *faultFiles) names() ([]string, error) {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.sortedNames(), f.check()
}

func (f *faultFiles) read(name string) ([]byte, error) {
	f.enter("read", name)
	f.lock.Lock()
	defer f.lock.Unlock()
	found, err := f.of(name)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(found.data), nil
}

func (f *faultFiles) readAt(name string, offset, length int) ([]byte, error) {
	data, err := f.read(name)
	if err != nil || offset > len(data) {
		return nil, err
	}
	return data[offset:min(len(data), offset+length)], nil
}

func (f *faultFiles) ageMs(name string) (int64, error) {
	f.enter("ageMs", name)
	f.lock.Lock()
	defer f.lock.Unlock()
	found, err := f.of(name)
	if err != nil {
		return 0, err
	}
	return found.ageMs, nil
}

func (f *faultFiles) create(name string) (openFile, error) {
	f.enter("create", name)
	f.lock.Lock()
	defer f.lock.Unlock()
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.now[name] != nil {
		return nil, fs.ErrExist
	}
	if err := f.step("create", name); err != nil {
		return nil, err
	}
	f.now[name] = &inode{}
	f.unsynced = append(f.unsynced, nameChange{name, f.now[name], ""})
	return f.handle(f.now[name]), nil
}

func (f *faultFiles) open(name string) (openFile, error) {
	f.lock.Lock()
	defer f.lock.Unlock()
	found, err := f.of(name)
	if err == nil {
		err = f.step("open", name)
	}
	if err != nil {
		return nil, err
	}
	return f.handle(found), nil
}

func (f *faultFiles) fsyncDir() error {
	f.lock.Lock()
	defer f.lock.Unlock()
	if err := f.step("fsyncDir", ""); err != nil {
		return err
	}
	f.durableNames, f.unsynced = maps.Clone(f.now), nil
	return nil
}

func (f *faultFiles) rename(old, new string) error {
	f.enter("rename", old)
	f.lock.Lock()
	defer f.lock.Unlock()
	found, err := f.of(old)
	if err == nil {
		err = f.step("rename", old+" "+new)
	}
	if err != nil {
		return err
	}
	delete(f.now, old)
	f.now[new] = found
	f.unsynced = append(f.unsynced, nameChange{new, found, old})
	return nil
}

func (f *faultFiles) unlink(name string) error {
	f.lock.Lock()
	defer f.lock.Unlock()
	if _, err := f.of(name); err != nil {
		return err
	}
	if err := f.step("unlink", name); err != nil {
		return err
	}
	delete(f.now, name)
	f.unsynced = append(f.unsynced, nameChange{name, nil, ""})
	return nil
}

// faultHandle is a file that is being written.
type faultHandle struct {
	files *faultFiles
	inode *inode
}

func (f *faultFiles) handle(of *inode) openFile {
	f.openHandles++
	return &faultHandle{f, of}
}

func (h *faultHandle) pwrite(data []byte, offset int) error {
	h.files.lock.Lock()
	defer h.files.lock.Unlock()
	if err := h.files.check(); err != nil {
		return err
	}
	err := h.files.step("pwrite", len(data))
	torn := h.files.gone && h.files.how == "torn"
	if err != nil && (torn || h.files.how != "stop") {
		data = data[:len(data)/2] // as far as there was space, or time
	}
	if err == nil || torn || h.files.how != "stop" {
		h.inode.write(data, offset)
	}
	return err
}

func (h *faultHandle) truncate(size int) error {
	h.files.lock.Lock()
	defer h.files.lock.Unlock()
	if err := h.files.step("truncate", size); err != nil {
		return err
	}
	h.inode.data = h.inode.data[:size]
	return nil
}

func (h *faultHandle) fsync() error {
	h.files.enter("fsync", "")
	h.files.lock.Lock()
	defer h.files.lock.Unlock()
	if err := h.files.step("fsync", ""); err != nil {
		return err
	}
	h.inode.durable = bytes.Clone(h.inode.data)
	return nil
}

func (h *faultHandle) close() error {
	h.files.lock.Lock()
	defer h.files.lock.Unlock()
	h.files.openHandles--
	return h.files.check()
}

// --- inside ------------------------------------------------------------------------------------

func (f *faultFiles) enter(call, name string) {
	if f.before != nil {
		f.before(call, name)
	}
}

func (f *faultFiles) check() error {
	if f.gone {
		return errStopped
	}
	return nil
}

func (f *faultFiles) of(name string) (*inode, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if found := f.now[name]; found != nil {
		return found, nil
	}
	return nil, fs.ErrNotExist
}

// step counts a call and fails it if it is its turn.
func (f *faultFiles) step(call string, what any) error {
	if err := f.check(); err != nil {
		return err
	}
	f.calls++
	f.log = append(f.log, fmt.Sprintf("%d %s %v", f.calls, call, what))
	if f.calls != f.at {
		return nil
	}
	switch f.how {
	case "fail":
		return syscall.EIO
	case "full":
		if call == "create" || call == "pwrite" {
			return syscall.ENOSPC
		}
	case "stop", "torn":
		f.gone = true
		return errStopped
	}
	return nil
}

func (i *inode) write(data []byte, offset int) {
	if end := offset + len(data); len(i.data) < end {
		i.data = append(i.data, make([]byte, end-len(i.data))...)
	}
	copy(i.data[offset:], data)
}
