package fractal

// This file is the durable outbox: what outbox.go and schedule.go decide, carried out on what
// files.go offers.
//
// One promise is owned here: `put` returns after the frame is durable, and what was put stays on
// disk, live or among the dead letters, until the server has acknowledged it, at the level of the
// client, or an operator has purged it. An acknowledgement needs no sync: if a crash forgets it,
// the same bytes go out again and the server answers with the first outcome.

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
)

// putOverheadBytes is what a `put` frame is taken to need beside its body when the limits are
// checked.
const putOverheadBytes = 512

// OutboxStats counts what an outbox holds.
type OutboxStats struct {
	Entries  int
	InFlight int
	// Held are those of the entries that are acknowledged and not yet replicated.
	Held  int
	Dead  int
	Bytes int64
	// OldestSentAtMs is the Unix time of the oldest entry, if there are entries.
	OldestSentAtMs   int64
	Blocked          []OutboxGroup // keys and tenants that the server refuses
	CorruptFiles     []string
	UnreadableFrames int
}

// Outbox keeps signed records until the server has acknowledged them. It is safe for concurrent
// use. One process owns a directory at a time, one client an outbox.
type Outbox struct {
	settings   outboxSettings
	files      directory
	locker     *locker
	lock       sync.Mutex
	log        *logFile
	dead       *deadFile
	space      space
	entries    map[string]*entry
	schedule   *schedule
	held       *heldEntries
	corrupt    []string
	unreadable int
	nextID     uint64
	closed     bool
	damaged    bool // and nobody was told yet
	events     []OutboxEvent
	tell       func(OutboxEvent)
	wake       func()
}

// --- for the caller ----------------------------------------------------------------------------

// Stats counts entries, dead letters and damage.
func (o *Outbox) Stats() OutboxStats {
	o.lock.Lock()
	defer o.lock.Unlock()
	stats := OutboxStats{
		Entries:          len(o.entries),
		InFlight:         len(o.schedule.inFlight),
		Held:             len(o.held.positions),
		Dead:             len(o.dead.places),
		Bytes:            o.usedBytes(),
		Blocked:          o.schedule.blocked(),
		CorruptFiles:     slices.Clone(o.corrupt),
		UnreadableFrames: o.unreadable,
	}
	oldest := int64(math.MaxInt64)
	for _, each := range o.entries {
		oldest = min(oldest, each.atMs)
	}
	if len(o.entries) > 0 {
		stats.OldestSentAtMs = oldest
	}
	return stats
}

// Dead reads the dead letters, oldest first.
func (o *Outbox) Dead() ([]DeadLetter, error) {
	o.lock.Lock()
	defer o.lock.Unlock()
	var letters []DeadLetter
	for _, id := range byOffset(o.dead.places) {
		letter, err := o.dead.read(id)
		if err != nil {
			return nil, o.log.guard(err)
		}
		letters = append(letters, letter)
	}
	return letters, nil
}

// Requeue sends a dead letter again, the same bytes, and gives the id of the new entry. One that is
// older than the greatest age comes back as `outbox_expired`. The error is `not_found` for an
// unknown id.
func (o *Outbox) Requeue(id string) (newID string, err error) {
	err = o.reporting(true, func() error {
		dead, err := o.dead.read(id)
		if err != nil {
			return o.log.guard(err)
		}
		letter := dead.Letter
		letter.From = id
		added, err := o.appendPut(letter)
		if err != nil {
			return err
		}
		if err := o.dropDead(id, "requeued"); err != nil {
			o.letGo(added, "not requeued")
			return err
		}
		newID = added.id
		o.schedule.add(added, false)
		o.note("requeued", newID, "")
		return nil
	})
	return newID, err
}

// Purge removes a dead letter for good. The error is `not_found` for an unknown id.
func (o *Outbox) Purge(id string) error {
	return o.reporting(false, func() error {
		if _, err := o.dead.read(id); err != nil {
			return o.log.guard(err)
		}
		if err := o.dropDead(id, "purged"); err != nil {
			return err
		}
		o.note("purged", id, "")
		return nil
	})
}

// Close makes everything durable and gives the directory free. Close the client first.
func (o *Outbox) Close() error {
	o.lock.Lock()
	defer o.lock.Unlock()
	if o.closed {
		return nil
	}
	o.closed = true
	o.log.waitForSync()
	var err error
	if o.log.isUsable() {
		err = o.log.syncNow()
	}
	failed := errors.Join(o.log.stop(), o.dead.stop(), o.locker.release())
	if err == nil {
		err = o.log.guard(failed)
	}
	return err
}

// --- for the client ----------------------------------------------------------------------------

// listen reports events to `tell`, and calls `wake` when an entry becomes due; nil for neither.
func (o *Outbox) listen(tell func(OutboxEvent), wake func()) {
	o.lock.Lock()
	defer o.lock.Unlock()
	o.tell, o.wake = tell, wake
}

// put keeps a letter, and returns it with its id when it is durable. `inFlight` says that the
// caller sends it himself. The error is `outbox_full`, `outbox_expired`, or `outbox_corrupt` if the
// file system fails.
func (o *Outbox) put(letter Letter, nowMs int64, inFlight bool) (Letter, error) {
	err := o.reporting(!inFlight, func() error {
		if o.isExpired(letter.AtMs, nowMs) {
			return newError("outbox_expired", "sent_at is longer ago than the greatest age")
		}
		if err := o.checkRoom(len(letter.Body)); err != nil {
			return err
		}
		added, err := o.appendPut(letter)
		if err != nil {
			return err
		}
		if err := o.log.sync(); err != nil {
			return err
		}
		letter.ID = added.id
		// While others had the lock it may have been moved, or signed again and released.
		if current := o.entries[added.id]; current != nil {
			o.schedule.add(current, inFlight)
		}
		o.note("queued", added.id, "")
		return nil
	})
	return letter, err
}

// dueLetters is what an outbox gives to be sent, and what it still has.
type dueLetters struct {
	letters   []Letter
	nextDueMs int64
	hasNext   bool
	inFlight  int
	held      int
}

// take takes due entries into flight. What is too old goes to the dead letters instead. The error
// is `outbox_corrupt` once the outbox is closed.
func (o *Outbox) take(nowMs int64, limit, bytesMax int) (due dueLetters, err error) {
	err = o.reporting(false, func() error {
		if err := o.log.checkOpen(); err != nil {
			return err
		}
		for _, id := range o.schedule.take(nowMs, limit, bytesMax) {
			taken := o.entries[id]
			letter, readable, err := o.read(taken)
			switch {
			case err != nil:
				return err
			case !readable:
				o.lose(taken)
			case o.isExpired(taken.atMs, nowMs):
				expired := Verdict{Kind: Bury, Code: "outbox_expired", Reason: "older than max_age"}
				if err := o.bury(taken, expired, nowMs); err != nil {
					return err
				}
			default:
				due.letters = append(due.letters, letter)
			}
		}
		due.nextDueMs, due.hasNext = o.schedule.nextDueMs()
		due.inFlight, due.held = len(o.schedule.inFlight), len(o.held.positions)
		return o.remove(o.space.removable()...)
	})
	return due, err
}

// settle carries out what became of an entry in flight.
func (o *Outbox) settle(id string, verdict Verdict, nowMs int64, u float64) error {
	return o.reporting(true, func() error {
		if err := o.log.checkOpen(); err != nil {
			return err
		}
		settled := o.entries[id]
		if settled == nil {
			return nil
		}
		switch verdict.Kind {
		case Acknowledge:
			o.acknowledge(settled, verdict)
		case Hold:
			o.hold(settled, verdict, nowMs, u)
		case Bury:
			o.schedule.delivered()
			if err := o.bury(settled, verdict, nowMs); err != nil {
				return err
			}
		case Pause:
			o.schedule.pause(id, verdict.What)
			o.note("outbox_blocked", id, verdict.Code)
		case Later:
			o.schedule.postpone(id, verdict, nowMs, u)
			o.note("postponed", id, "")
		}
		return o.remove(o.space.removable()...)
	})
}

// hurry ends all pauses and own waits, not those that a server asked for.
func (o *Outbox) hurry() {
	o.lock.Lock()
	defer o.lock.Unlock()
	o.schedule.resumeAndHurry()
}

// lettersOf reads the entries that were signed with one key, "" being none, and that the server has
// not acknowledged.
func (o *Outbox) lettersOf(kid string) ([]Letter, error) {
	o.lock.Lock()
	defer o.lock.Unlock()
	var letters []Letter
	for _, id := range slices.Sorted(maps.Keys(o.entries)) {
		if o.entries[id].kid != kid || o.held.has(id) {
			continue
		}
		letter, readable, err := o.read(o.entries[id])
		if err != nil {
			return nil, err
		}
		if readable {
			letters = append(letters, letter)
		}
	}
	return letters, nil
}

// release lets an entry go that another one replaced.
func (o *Outbox) release(id, reason string) {
	_ = o.reporting(false, func() error {
		if released := o.entries[id]; released != nil {
			o.letGo(released, reason)
		}
		return nil
	})
}

// --- inside, with the lock held ----------------------------------------------------------------

// reporting holds the lock for the act, then reports what it noted: hooks may call back.
func (o *Outbox) reporting(wake bool, act func() error) error {
	o.lock.Lock()
	if o.damaged && o.tell != nil {
		o.note("outbox_corrupt", "", "outbox_corrupt")
		o.damaged = false
	}
	err := act()
	events, tell, ring := o.events, o.tell, o.wake
	o.events = nil
	o.lock.Unlock()
	if tell != nil {
		for _, event := range events {
			tell(event)
		}
	}
	if wake && err == nil && ring != nil {
		ring()
	}
	return err
}

func (o *Outbox) note(kind, id, code string) {
	o.events = append(o.events, OutboxEvent{Kind: kind, ID: id, Code: code})
}

func (o *Outbox) isExpired(atMs, nowMs int64) bool {
	return atMs+o.settings.maxAge.Milliseconds() <= nowMs
}

func (o *Outbox) usedBytes() int64 { return int64(o.space.liveBytes) + int64(o.dead.liveBytes) }

func (o *Outbox) checkRoom(bodyBytes int) error {
	const text = "the outbox holds its limit of %d %s, dead letters included"
	if len(o.entries)+len(o.dead.places) >= o.settings.maxEntries {
		return newError("outbox_full", text, o.settings.maxEntries, "entries")
	}
	if o.usedBytes()+int64(bodyBytes)+putOverheadBytes > o.settings.maxBytes {
		return newError("outbox_full", text, o.settings.maxBytes, "bytes")
	}
	return nil
}

// appendPut writes an entry, not yet durable, under the next id.
func (o *Outbox) appendPut(letter Letter) (*entry, error) {
	if err := o.rotateIfFull(); err != nil {
		return nil, err
	}
	if o.nextID == math.MaxUint64 {
		return nil, newError("outbox_full", "the outbox has given out every id")
	}
	letter.ID = entryID(o.nextID)
	added, err := o.writePut(letter)
	if err != nil {
		return nil, err
	}
	o.nextID = after(o.nextID)
	o.entries[added.id] = added
	return added, nil
}

func (o *Outbox) writePut(letter Letter) (*entry, error) {
	data := letter.encode()
	at := place{o.log.offset, len(data)}
	if err := o.append(data); err != nil {
		return nil, err
	}
	written := entryAt(letter, o.log.name, at)
	o.space.hold(written)
	return written, nil
}

// mark appends what became of an entry. It may be lost: without it an entry is only sent once more.
func (o *Outbox) mark(t, id string, facts ...fact) {
	_ = o.append(encodeMark(t, id, facts...))
}

func (o *Outbox) append(data []byte) error {
	err := o.log.append(data)
	if err == nil {
		o.space.grow(o.log.name, len(data))
	}
	return err
}

// read gives the letter of an entry; `readable` is false if its frame rotted.
func (o *Outbox) read(e *entry) (letter Letter, readable bool, err error) {
	data, err := o.files.readAt(e.file, e.offset, e.length)
	if err != nil {
		return Letter{}, false, o.log.guard(err)
	}
	found, ok := readFrame(data, 0)
	if !ok || found.t != "put" || found.id != e.id {
		return Letter{}, false, nil
	}
	letter, readable = letterOf(&found.text)
	return letter, readable, nil
}

// acknowledge lets an entry go that the server has at the level of the client.
func (o *Outbox) acknowledge(e *entry, verdict Verdict) {
	o.mark("ack", e.id, fact{"status", strconv.Itoa(verdict.Status)})
	o.forget(e)
	o.schedule.acknowledged(e)
	o.note("acknowledged", e.id, "")
}

func (o *Outbox) bury(e *entry, verdict Verdict, nowMs int64) error {
	letter, readable, err := o.read(e)
	if err != nil {
		return err
	}
	if !readable {
		o.lose(e)
		return nil
	}
	dead := DeadLetter{letter, verdict.Status, verdict.Code, verdict.Reason, verdict.Response}
	if err := o.log.guard(o.dead.add(dead)); err != nil {
		// It stays an entry: better sent once more than in neither place.
		o.schedule.postpone(e.id, Verdict{Kind: Later, EndpointUp: true}, nowMs, 1)
		o.note("postponed", e.id, err.(*Error).Code)
		return nil
	}
	o.mark("dead", e.id)
	o.forget(e)
	o.note("dead", e.id, verdict.Code)
	return nil
}

// dropDead removes a dead letter. Until then it outweighs the `put` in the log, so the mark that
// follows there must be durable before: the first one may have been forgotten by a crash.
func (o *Outbox) dropDead(id, reason string) error {
	if err := o.append(encodeMark("dead", id)); err != nil {
		return err
	}
	if err := o.log.syncNow(); err != nil {
		return err
	}
	return o.log.guard(o.dead.drop(id, reason))
}

// lose gives up an entry whose frame rotted under us; it is counted and reported.
func (o *Outbox) lose(e *entry) {
	o.unreadable++
	o.letGo(e, "outbox_corrupt")
	o.note("outbox_corrupt", e.id, "outbox_corrupt")
}

func (o *Outbox) letGo(e *entry, reason string) {
	o.mark("release", e.id, fact{"reason", reason})
	o.forget(e)
}

func (o *Outbox) forget(e *entry) {
	delete(o.entries, e.id)
	o.space.free(e)
	o.schedule.drop(e.id)
	delete(o.held.positions, e.id)
}
