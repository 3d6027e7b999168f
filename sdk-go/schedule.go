package fractal

// This file owns what a delivery's end means for an outbox entry, and when an entry is due again.
// Pure: time and chance are arguments. An entry is waiting, parked because its credentials were
// refused, or in flight. After a failure one entry at a time probes, and each success doubles the
// number that may go out, up to the bound.

import (
	"cmp"
	"container/heap"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxDeadResponseBytes is how much of the server's last answer a dead letter keeps.
	maxDeadResponseBytes = 65_536

	// outboxWaitBaseMs: the first wait after a stopped call is drawn from 0 to this.
	outboxWaitBaseMs = 1_000

	// outboxWaitMaxMs: no wait of the outbox's own is longer; a server may ask for more.
	outboxWaitMaxMs = 30_000

	// outboxWidthMax is how many deliveries go out at once when all is well; after a failure it is
	// one, then doubling up to this.
	outboxWidthMax = 16

	maxDoublings = 16 // beyond these the bound is outboxWaitMaxMs
)

// VerdictKind says what becomes of an outbox entry.
type VerdictKind string

const (
	// Acknowledge: the server has recorded it; release.
	Acknowledge VerdictKind = "acknowledge"
	// Hold: the server has recorded it at Position, which is not replicated yet; keep it.
	Hold VerdictKind = "hold"
	// Bury: the server will never take it; move it to the dead letters.
	Bury VerdictKind = "bury"
	// Pause: the server refuses the credentials.
	Pause VerdictKind = "pause"
	// Later: it could not be delivered now.
	Later VerdictKind = "later"
)

// Verdict is what a delivery's end means for its entry (spec/formats.md 11.12).
type Verdict struct {
	Kind         VerdictKind
	Status       int      // of Acknowledge, Hold and Bury
	Position     Position // of Hold
	Code         string
	Reason       string
	Response     string
	What         string // of Pause: "kid" (401) or "tenant" (403)
	RetryAfterMs int64  // of Later: what the server asked for
	EndpointUp   bool   // of Later: the failure says nothing about the endpoint
}

// JudgeDelivery decides what a refused, failed or cancelled delivery means for its entry.
func JudgeDelivery(status int, code, reason string, body []byte, retryAfterMs int64) Verdict {
	switch status {
	case 400, 409, 413, 422:
		kept := body[:min(len(body), maxDeadResponseBytes)]
		return Verdict{
			Kind: Bury, Status: status, Code: code,
			Reason: readable([]byte(reason)), Response: readable(kept),
		}
	case 401:
		return Verdict{Kind: Pause, What: "kid", Code: code}
	case 403:
		return Verdict{Kind: Pause, What: "tenant", Code: code}
	}
	up := status == 429 || code == "cancelled"
	return Verdict{Kind: Later, RetryAfterMs: retryAfterMs, EndpointUp: up}
}

// verdictOf decides what an error means for the entry. An answer that could not be read says
// nothing about the record, whatever its status.
func verdictOf(err *Error) Verdict {
	status := err.Status
	if isUnreadable(err) {
		status = 0
	}
	return JudgeDelivery(status, err.Code, err.Message, err.Body, err.RetryAfterMs)
}

func isUnreadable(err *Error) bool {
	return err.Code == "response_malformed" || err.Code == "response_too_large"
}

// readable puts U+FFFD in the place of what is no UTF-8, once for each part of a character.
func readable(data []byte) string {
	if utf8.Valid(data) {
		return string(data)
	}
	var text strings.Builder
	for len(data) > 0 {
		character, size := utf8.DecodeRune(data)
		if character == utf8.RuneError && size == 1 {
			size = brokenLength(data)
		}
		text.WriteRune(character)
		data = data[size:]
	}
	return text.String()
}

// brokenLength measures what there is of a character that breaks off.
func brokenLength(data []byte) int {
	length := 1
	for length < len(data) && !utf8.FullRune(data[:length+1]) {
		length++
	}
	return length
}

// OutboxGroup names entries whose credentials were refused: What is "kid" or "tenant".
type OutboxGroup struct{ What, Name string }

func groupsOf(e *entry) [2]OutboxGroup {
	return [2]OutboxGroup{{"kid", e.kid}, {"tenant", e.tenant}}
}

type dueTime struct {
	dueMs   int64
	floorMs int64 // what a server asked for
	tries   int
}

type queued struct {
	dueMs int64
	id    string
}

// dueQueue is a heap by time, then by id.
type dueQueue []queued

func (q dueQueue) Len() int { return len(q) }
func (q dueQueue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].dueMs, q[j].dueMs), strings.Compare(q[i].id, q[j].id)) < 0
}
func (q dueQueue) Swap(i, j int)  { q[i], q[j] = q[j], q[i] }
func (q *dueQueue) Push(item any) { *q = append(*q, item.(queued)) }
func (q *dueQueue) Pop() any {
	last := len(*q) - 1
	item := (*q)[last]
	*q = (*q)[:last]
	return item
}

// schedule says which entries to send now. An entry is waiting, parked (paused) or in flight.
type schedule struct {
	widthMax int
	width    int
	entries  map[string]*entry
	due      map[string]dueTime
	queue    dueQueue
	inFlight map[string]bool
	parked   map[OutboxGroup]map[string]bool
	groups   []OutboxGroup // the keys of parked, in the order of their refusals
}

func newSchedule(widthMax int) *schedule {
	return &schedule{
		widthMax: widthMax, width: widthMax,
		entries: map[string]*entry{}, due: map[string]dueTime{},
		inFlight: map[string]bool{}, parked: map[OutboxGroup]map[string]bool{},
	}
}

// add takes a new entry, due at once unless its own call sends it.
func (s *schedule) add(e *entry, inFlight bool) {
	s.entries[e.id] = e
	s.due[e.id] = dueTime{}
	if inFlight {
		s.inFlight[e.id] = true
	} else {
		heap.Push(&s.queue, queued{0, e.id})
	}
}

// move takes in that an entry lies elsewhere now.
func (s *schedule) move(e *entry) {
	if s.entries[e.id] != nil {
		s.entries[e.id] = e
	}
}

// drop forgets an entry that is released or dead, if it is known.
func (s *schedule) drop(id string) {
	e := s.entries[id]
	if e == nil {
		return
	}
	delete(s.entries, id)
	delete(s.due, id)
	delete(s.inFlight, id)
	for _, group := range groupsOf(e) {
		delete(s.parked[group], id)
	}
}

// take takes up to `limit` due entries, of `bytesMax` together, into flight. After a failure one
// entry at a time goes out, and each success doubles that.
func (s *schedule) take(nowMs int64, limit, bytesMax int) []string {
	var taken []string
	size, room := 0, limit
	if s.width < s.widthMax {
		room = min(limit, s.width-len(s.inFlight))
	}
	for len(taken) < room && len(s.queue) > 0 && s.queue[0].dueMs <= nowMs {
		item := heap.Pop(&s.queue).(queued)
		if !s.isWaiting(item) {
			continue
		}
		e := s.entries[item.id]
		if paused, is := s.pausedGroup(e); is {
			s.parked[paused][e.id] = true
			continue
		}
		size += e.length
		if len(taken) > 0 && size > bytesMax {
			heap.Push(&s.queue, item)
			break
		}
		s.inFlight[e.id] = true
		taken = append(taken, e.id)
	}
	return taken
}

// nextDueMs says when the next entry is due, if one is waiting.
func (s *schedule) nextDueMs() (int64, bool) {
	for len(s.queue) > 0 && !s.isWaiting(s.queue[0]) {
		heap.Pop(&s.queue)
	}
	if len(s.queue) == 0 {
		return 0, false
	}
	return s.queue[0].dueMs, true
}

// delivered notes a success: a narrowed schedule doubles its width.
func (s *schedule) delivered() { s.width = min(2*s.width, s.widthMax) }

// acknowledged ends an entry that was accepted, and with it the pauses that it shows to be over.
func (s *schedule) acknowledged(e *entry) {
	s.drop(e.id)
	s.delivered()
	groups := groupsOf(e)
	s.resume(groups[:]...)
}

// postpone puts an entry back, U(0,1) * min(1 s * 2^k, 30 s) after what the server asked for.
func (s *schedule) postpone(id string, verdict Verdict, nowMs int64, u float64) {
	if !verdict.EndpointUp {
		s.width = 1
	}
	tries := s.due[id].tries
	floorMs := addMs(nowMs, verdict.RetryAfterMs)
	boundMs := min(outboxWaitBaseMs<<min(tries, maxDoublings), outboxWaitMaxMs)
	waitMs := int64(u * float64(boundMs))
	s.wait(id, dueTime{addMs(floorMs, waitMs), floorMs, tries + 1})
}

// addMs adds times that a server may have made as long as it likes.
func addMs(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// pause parks an entry, and from now on all entries of its kid or tenant.
func (s *schedule) pause(id, what string) OutboxGroup {
	e := s.entries[id]
	group := OutboxGroup{what, e.kid}
	if what == "tenant" {
		group.Name = e.tenant
	}
	if s.parked[group] == nil {
		s.parked[group] = map[string]bool{}
		s.groups = append(s.groups, group)
	}
	s.parked[group][id] = true
	delete(s.inFlight, id)
	return group
}

// resume lets the entries of these groups be tried again.
func (s *schedule) resume(groups ...OutboxGroup) {
	for _, group := range groups {
		ids := s.parked[group]
		delete(s.parked, group)
		s.groups = slices.DeleteFunc(s.groups, func(g OutboxGroup) bool { return g == group })
		for id := range ids {
			s.wait(id, s.due[id])
		}
	}
}

// blocked names what is paused, in the order of the refusals.
func (s *schedule) blocked() []OutboxGroup { return slices.Clone(s.groups) }

// hurry drops the schedule's own waits, never those that a server asked for.
func (s *schedule) hurry() {
	s.queue = nil
	for id, due := range s.due {
		if !s.inFlight[id] && !s.isParked(id) {
			due.dueMs = due.floorMs
			s.wait(id, due)
		}
	}
}

// resumeAndHurry is what a flush does first.
func (s *schedule) resumeAndHurry() {
	s.resume(s.blocked()...)
	s.hurry()
}

func (s *schedule) wait(id string, due dueTime) {
	delete(s.inFlight, id)
	s.due[id] = due
	heap.Push(&s.queue, queued{due.dueMs, id})
}

// isWaiting says whether an item is current: an entry that moved left its old place behind.
func (s *schedule) isWaiting(item queued) bool {
	due, known := s.due[item.id]
	return known && due.dueMs == item.dueMs && !s.inFlight[item.id] && !s.isParked(item.id)
}

func (s *schedule) isParked(id string) bool {
	for _, group := range groupsOf(s.entries[id]) {
		if s.parked[group][id] {
			return true
		}
	}
	return false
}

func (s *schedule) pausedGroup(e *entry) (OutboxGroup, bool) {
	for _, group := range groupsOf(e) {
		if s.parked[group] != nil {
			return group, true
		}
	}
	return OutboxGroup{}, false
}

// --- for harnesses -------------------------------------------------------------------------------

// OutboxSchedule is the schedule of an outbox without its files, for harnesses: it says which
// entries are sent when, and which are held (spec/formats.md 11.14-11.17, 11.22-11.29).
type OutboxSchedule struct {
	s       *schedule
	held    *heldEntries
	entries map[string]*entry
}

// NewOutboxSchedule makes a schedule in which at most widthMax entries are in flight while a
// failure is being recovered from.
func NewOutboxSchedule(widthMax int) *OutboxSchedule {
	return &OutboxSchedule{newSchedule(widthMax), newHeldEntries(), map[string]*entry{}}
}

// Put takes a new entry of `length` bytes, due at once unless it is in flight already.
func (o *OutboxSchedule) Put(id, kid, tenant string, length int, inFlight bool) {
	o.entries[id] = &entry{id: id, kid: kid, tenant: tenant, place: place{length: length}}
	o.s.add(o.entries[id], inFlight)
}

// Take gives the ids of up to `limit` due entries, of `bytesMax` together.
func (o *OutboxSchedule) Take(nowMs int64, limit, bytesMax int) []string {
	return o.s.take(nowMs, limit, bytesMax)
}

// Settle carries out what became of an entry in flight, and says what that was: what is known of
// its stream can make an acknowledgement of a Hold, or nothing at all.
func (o *OutboxSchedule) Settle(id string, verdict Verdict, nowMs int64, u float64) VerdictKind {
	if verdict.Kind == Hold {
		switch o.held.fate(verdict.Position) {
		case fateCovered:
			verdict.Kind = Acknowledge
		case fatePassed:
			verdict = Verdict{Kind: Later, EndpointUp: true}
		}
	}
	switch verdict.Kind {
	case Hold:
		o.held.positions[id] = verdict.Position
		o.s.acknowledged(o.entries[id])
	case Acknowledge:
		o.s.acknowledged(o.s.entries[id])
	case Bury:
		o.s.delivered()
		o.s.drop(id)
	case Pause:
		o.s.pause(id, verdict.What)
	case Later:
		o.s.postpone(id, verdict, nowMs, u)
	}
	return verdict.Kind
}

// Hurry ends all pauses and own waits, not those that a server asked for.
func (o *OutboxSchedule) Hurry() { o.s.resumeAndHurry() }

// InFlight counts the entries that are being sent.
func (o *OutboxSchedule) InFlight() int { return len(o.s.inFlight) }

// Blocked names what is paused, in the order of the refusals.
func (o *OutboxSchedule) Blocked() []OutboxGroup { return o.s.blocked() }
