package fractal

// This file carries out what held.go decides about the entries of an outbox.

import (
	"maps"
	"slices"
)

// hear takes in how far a region is replicated, a Position or a regionStatus: it lets go what is
// safe, and sends again what may be lost. The error is `outbox_corrupt` once the outbox is closed.
func (o *Outbox) hear(news any) error {
	var changed heard
	err := o.reporting(false, func() error {
		if err := o.log.checkOpen(); err != nil {
			return err
		}
		switch news := news.(type) {
		case Position:
			changed = o.held.hearWatermark(news)
		case regionStatus:
			changed = o.held.hearStatus(news)
		}
		for id, position := range changed.moved {
			if o.held.has(id) {
				o.markHeld(o.entries[id], position)
			}
		}
		for _, id := range changed.released {
			o.mark("ack", id)
			o.forget(o.entries[id])
			o.note("acknowledged", id, "")
		}
		for _, id := range changed.again {
			o.entries[id].hold = nil
			o.schedule.add(o.entries[id], false)
			o.note("postponed", id, "")
		}
		return o.remove(o.space.removable()...)
	})
	if err == nil && len(changed.released)+len(changed.again) > 0 {
		o.ring()
	}
	return err
}

// Resend sends again what is held in a region that will not come back, and gives how many records
// these are: the same bytes under the same key. Another region that has a record answers with its
// first outcome. The error is `outbox_corrupt` if the file system fails.
func (o *Outbox) Resend(region string) (count int, err error) {
	err = o.reporting(true, func() error {
		if err := o.log.checkOpen(); err != nil {
			return err
		}
		sent, err := o.putAgain(region)
		if err != nil {
			return err
		}
		if err := o.log.syncNow(); err != nil {
			return err
		}
		for old, fresh := range sent {
			// While others had the lock, its watermark may have let the old one go.
			if held := o.entries[old]; held != nil {
				o.letGo(held, "resent")
			}
			o.schedule.add(o.entries[fresh], false)
			o.note("queued", fresh, "")
		}
		count = len(sent)
		return o.remove(o.space.removable()...)
	})
	return count, err
}

// putAgain writes what is held in a region once more, not yet durable, and gives the new ids by the
// old ones.
func (o *Outbox) putAgain(region string) (map[string]string, error) {
	sent := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(o.held.positions)) {
		if o.held.positions[id].Region != region {
			continue
		}
		letter, readable, err := o.read(o.entries[id])
		if err != nil {
			return nil, err
		}
		if !readable {
			continue
		}
		fresh, err := o.appendPut(letter)
		if err != nil {
			return nil, err
		}
		sent[id] = fresh.id
	}
	return sent, nil
}

// ring wakes who waits for the outbox to change.
func (o *Outbox) ring() {
	o.lock.Lock()
	wake := o.wake
	o.lock.Unlock()
	if wake != nil {
		wake()
	}
}

// heldRegions names the regions in which entries are held.
func (o *Outbox) heldRegions() map[string]bool {
	o.lock.Lock()
	defer o.lock.Unlock()
	return o.held.regions()
}

// hold keeps an acknowledged entry until it is replicated, if it is not already (11.27).
func (o *Outbox) hold(e *entry, verdict Verdict, nowMs int64, u float64) {
	switch o.held.fate(verdict.Position) {
	case fateCovered:
		o.acknowledge(e, verdict)
	case fatePassed: // the answer is older than what others said of its stream
		o.schedule.postpone(e.id, Verdict{Kind: Later, EndpointUp: true}, nowMs, u)
		o.note("postponed", e.id, "")
	default:
		o.markHeld(e, verdict.Position)
		o.held.positions[e.id] = verdict.Position
		o.schedule.acknowledged(e)
		o.note("outbox_held", e.id, "")
	}
}

// markHeld notes where an entry is held. The mark may be lost as any other: without it the entry
// is only sent once more.
func (o *Outbox) markHeld(e *entry, at Position) {
	e.hold = &at
	o.mark("hold", e.id, fact{"position", at.String()})
}
