package fractal

// This file owns what a crash leaves of an outbox (spec/formats.md 11.5-11.9): which entries are
// live, which are dead, what is damaged, and when a file may go. A file goes only when no entry in
// it is live and every older file is gone, because its marks may speak of entries in older files.

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// place is where a frame lies in a file.
type place struct{ offset, length int }

// entry is what is held in memory of a live entry: all but its body, and where that lies.
type entry struct {
	id     string
	key    string
	kid    string
	tenant string
	from   string
	atMs   int64
	file   string
	hold   *Position // where it is held, if it is
	place
}

func entryAt(l Letter, file string, at place) *entry {
	return &entry{l.ID, l.Key, l.Kid, l.Tenant, l.From, l.AtMs, file, nil, at}
}

// recovery folds files, oldest first, into what is live, what is dead and what is damaged.
type recovery struct {
	logs       []string // oldest first
	entries    map[string]*entry
	dead       map[string]place
	sizes      map[string]int // of each file, after the cut
	cuts       map[string]int
	corrupt    []string
	unreadable int
	nextID     uint64
}

func newRecovery() *recovery {
	return &recovery{
		entries: map[string]*entry{}, dead: map[string]place{},
		sizes: map[string]int{}, cuts: map[string]int{}, nextID: 1,
	}
}

// recoverFrom takes the files of a directory with these names; others are ignored.
func recoverFrom(names []string, read func(name string) ([]byte, error)) (*recovery, error) {
	found := newRecovery()
	found.logs = logNames(names)
	for index, name := range found.logs {
		data, err := read(name)
		if err != nil {
			return nil, err
		}
		found.feed(name, data, index == len(found.logs)-1)
	}
	if slices.Contains(names, deadLogName) {
		data, err := read(deadLogName)
		if err != nil {
			return nil, err
		}
		found.feedDead(data)
	}
	return found, nil
}

// feed takes one log file. Only the last one may have a torn tail; that is cut.
func (r *recovery) feed(name string, data []byte, last bool) {
	firstID, _ := firstIDOf(name)
	r.nextID = max(r.nextID, firstID)
	for _, found := range r.scan(name, data, last) {
		switch found.t {
		case "put":
			letter, _ := letterOf(&found.text)
			added := entryAt(letter, name, place{found.offset, found.length})
			if older := r.entries[found.id]; older != nil { // a copy leaves the entry held
				added.hold = older.hold
			}
			r.entries[found.id] = added
		case "hold":
			r.held(found)
		case "ack", "dead", "release":
			delete(r.entries, found.id)
		}
	}
}

// held notes where an entry is held; a mark without a position changes nothing (11.23).
func (r *recovery) held(found frame) {
	text, _ := textOf(&found.text, "position")
	position, ok := parsePosition(text)
	if marked := r.entries[found.id]; ok && marked != nil {
		marked.hold = &position
	}
}

// feedDead takes the dead-letter file, after all log files.
func (r *recovery) feedDead(data []byte) {
	for _, found := range r.scan(deadLogName, data, true) {
		_, isLetter := deadLetterOf(&found.text)
		switch {
		case found.t == "release":
			delete(r.dead, found.id)
		case found.t == "dead" && isLetter:
			r.dead[found.id] = place{found.offset, found.length}
		default:
			r.damaged(deadLogName, 1)
		}
	}
	for id := range r.dead {
		delete(r.entries, id)
	}
}

// halfRequeued names dead letters that a live entry replaced just before the crash.
func (r *recovery) halfRequeued() []string {
	var ids []string
	for _, each := range r.entries {
		if _, isDead := r.dead[each.from]; isDead {
			ids = append(ids, each.from)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func (r *recovery) scan(name string, data []byte, mayBeTorn bool) []frame {
	frames, gaps := scanFrames(data)
	r.sizes[name] = len(data)
	if mayBeTorn && len(gaps) == 1 && gaps[0].end == len(data) {
		r.cuts[name], r.sizes[name] = gaps[0].start, gaps[0].start
	} else if len(gaps) > 0 {
		r.damaged(name, len(gaps))
	}
	for _, found := range frames {
		r.nextID = max(r.nextID, after(numberOfID(found.id)))
	}
	return frames
}

func (r *recovery) damaged(name string, frames int) {
	r.unreadable += frames
	if !slices.Contains(r.corrupt, name) {
		r.corrupt = append(r.corrupt, name)
	}
}

// after gives the next id. The last one of all is never given out: nothing comes after it.
func after(id uint64) uint64 {
	if id == math.MaxUint64 {
		return id
	}
	return id + 1
}

// byOffset gives the ids of frames in the order in which they lie in their file.
func byOffset(places map[string]place) []string {
	return slices.SortedFunc(maps.Keys(places), func(a, b string) int {
		return cmp.Compare(places[a].offset, places[b].offset)
	})
}

// Recovered is what an outbox finds in the files that an earlier owner left.
type Recovered struct {
	Entries    []Letter            // in the order of their ids
	Held       map[string]Position // of those of them that are held
	Dead       []string            // ids, sorted
	Corrupt    []string            // files to be set aside
	Cuts       map[string]int
	Unreadable int
	NextID     string
}

// RecoverFiles says what an outbox finds in a directory with these files, by name. It is the pure
// part of OpenOutbox (spec/formats.md 11.5-11.9, 13.5).
func RecoverFiles(files map[string][]byte) Recovered {
	names := slices.Collect(maps.Keys(files))
	found, _ := recoverFrom(names, func(name string) ([]byte, error) { return files[name], nil })
	slices.Sort(found.corrupt)
	result := Recovered{
		Dead: slices.Sorted(maps.Keys(found.dead)), Corrupt: found.corrupt, Cuts: found.cuts,
		Unreadable: found.unreadable, NextID: entryID(found.nextID), Held: map[string]Position{},
	}
	for _, id := range slices.Sorted(maps.Keys(found.entries)) {
		each := found.entries[id]
		read, _ := readFrame(files[each.file], each.offset)
		letter, _ := letterOf(&read.text)
		result.Entries = append(result.Entries, letter)
		if each.hold != nil {
			result.Held[id] = *each.hold
		}
	}
	return result
}

// logNames gives the names of log files, oldest first.
func logNames(names []string) []string {
	logs := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, isLog := firstIDOf(name)
		return !isLog
	})
	slices.Sort(logs)
	return logs
}

// --- space -------------------------------------------------------------------------------------

// logSpace is what one log file holds.
type logSpace struct {
	name    string
	size    int
	entries int // live ones
}

// space counts bytes per log file, oldest first, and decides rotation, removal and carrying
// forward. The last file is being written.
type space struct {
	fileBytes int
	files     []*logSpace
	liveBytes int
}

func (s *space) start(name string, size int) {
	s.files = append(s.files, &logSpace{name: name, size: size})
}

func (s *space) of(name string) *logSpace {
	for index := len(s.files) - 1; index >= 0; index-- {
		if s.files[index].name == name {
			return s.files[index]
		}
	}
	return &logSpace{}
}

func (s *space) grow(name string, length int) { s.of(name).size += length }

func (s *space) hold(e *entry) { s.count(e, e.length, 1) }

func (s *space) free(e *entry) { s.count(e, -e.length, -1) }

func (s *space) count(e *entry, length, entries int) {
	s.of(e.file).entries += entries
	s.liveBytes += length
}

func (s *space) forget(name string) {
	s.files = slices.DeleteFunc(s.files, func(f *logSpace) bool { return f.name == name })
}

// isFull says whether a file must get a successor before the next `put`.
func (s *space) isFull(name string) bool { return s.of(name).size >= s.fileBytes }

// removable names the oldest files as long as nothing in them is live; never the last one.
func (s *space) removable() []string {
	var names []string
	for index := 0; index < len(s.files)-1 && s.files[index].entries == 0; index++ {
		names = append(names, s.files[index].name)
	}
	return names
}

// toCarry names the oldest file if garbage outweighs what is live by more than two files. Its live
// entries are then written again at the end, so that one entry that waits for days does not keep
// everything that was written after it.
func (s *space) toCarry() (string, bool) {
	total := 0
	for _, file := range s.files {
		total += file.size
	}
	if len(s.files) < 2 || total <= 2*s.liveBytes+2*s.fileBytes {
		return "", false
	}
	return s.files[0].name, true
}
