package fractal

// This file owns when the files of an outbox come and go: the next log file, those in which nothing
// is live, what is carried forward, and what a recovery takes over or sets aside. Everything here
// is called with the lock of the outbox held.

import (
	"maps"
	"slices"
	"strings"
)

func (o *Outbox) rotateIfFull() error {
	for o.space.isFull(o.log.name) {
		if o.log.syncing {
			o.log.waitForSync()
			continue
		}
		if err := o.log.syncNow(); err != nil {
			return err
		}
		if err := o.createLog(); err != nil {
			return err
		}
		if err := o.collect(); err != nil {
			return err
		}
	}
	return nil
}

func (o *Outbox) createLog() error {
	if newest, isLog := firstIDOf(o.log.name); isLog {
		o.nextID = max(o.nextID, after(newest))
	}
	if err := o.log.create(logName(o.nextID)); err != nil {
		return err
	}
	o.space.start(o.log.name, 0)
	return nil
}

// collect removes files in which nothing is live, oldest first, and carries what holds one up.
func (o *Outbox) collect() error {
	if err := o.remove(o.space.removable()...); err != nil {
		return err
	}
	for name, is := o.space.toCarry(); is; name, is = o.space.toCarry() {
		if err := o.carry(name); err != nil {
			return err
		}
		if err := o.remove(name); err != nil {
			return err
		}
	}
	return nil
}

// remove removes files, oldest first; each is gone for good before the next one goes. A younger
// file may hold what became of the entries in an older one.
func (o *Outbox) remove(names ...string) error {
	for _, name := range names {
		if err := o.log.guard(unlinkDurably(o.files, name)); err != nil {
			return err
		}
		o.space.forget(name)
	}
	return nil
}

// carry writes the live entries of some files again at the end, and makes that durable.
func (o *Outbox) carry(names ...string) error {
	var held []*entry
	for _, each := range o.entries {
		if slices.Contains(names, each.file) {
			held = append(held, each)
		}
	}
	slices.SortFunc(held, func(a, b *entry) int { return strings.Compare(a.id, b.id) })
	for _, old := range held {
		letter, readable, err := o.read(old)
		if err != nil {
			return err
		}
		if !readable {
			o.lose(old)
			continue
		}
		// Counted in its new place before it is given up in the old one: a full disk may refuse it.
		moved, err := o.writePut(letter)
		if err != nil {
			return err
		}
		o.space.free(old)
		o.entries[old.id] = moved
		o.schedule.move(moved)
		if old.hold != nil { // the file that goes may hold the mark
			o.markHeld(moved, *old.hold)
		}
	}
	return o.log.syncNow()
}

// --- recovery ----------------------------------------------------------------------------------

// recover reads what an earlier owner left; called once, by OpenOutbox.
func (o *Outbox) recover() error {
	if err := settleNames(o.files); err != nil {
		return err
	}
	names, err := o.files.names()
	if err != nil {
		return err
	}
	found, err := recoverFrom(names, o.files.read)
	if err != nil {
		return err
	}
	o.corrupt, o.unreadable, o.damaged = found.corrupt, found.unreadable, len(found.corrupt) > 0
	if err := o.takeOver(found); err != nil {
		return err
	}
	if err := o.recoverDead(found); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(o.entries)) {
		if at := o.entries[id].hold; at != nil {
			o.held.positions[id] = *at
		} else {
			o.schedule.add(o.entries[id], false)
		}
	}
	return nil
}

func (o *Outbox) takeOver(found *recovery) error {
	logs := found.logs
	o.nextID, o.entries = found.nextID, found.entries
	for _, name := range logs {
		o.space.start(name, found.sizes[name])
	}
	for _, each := range o.entries {
		o.space.hold(each)
	}
	isDamaged := func(name string) bool { return slices.Contains(found.corrupt, name) }
	if len(logs) > 0 {
		last := logs[len(logs)-1]
		o.log.name = last
		if !slices.ContainsFunc(logs, isDamaged) {
			_, cut := found.cuts[last]
			return o.log.resume(last, found.sizes[last], cut)
		}
	}
	if err := o.createLog(); err != nil || !slices.ContainsFunc(logs, isDamaged) {
		return err
	}
	return o.setAside(logs, isDamaged)
}

// setAside writes all that is live to the new file; then the old ones go, oldest first.
func (o *Outbox) setAside(logs []string, isDamaged func(string) bool) error {
	if err := o.carry(logs...); err != nil {
		return err
	}
	for _, name := range logs {
		if !isDamaged(name) {
			if err := o.remove(name); err != nil {
				return err
			}
			continue
		}
		if err := o.log.guard(renameDurably(o.files, name, name+".corrupt")); err != nil {
			return err
		}
		o.space.forget(name)
	}
	return nil
}

func (o *Outbox) recoverDead(found *recovery) error {
	size, has := found.sizes[deadLogName]
	if !has {
		return nil
	}
	o.dead.load(found.dead, size)
	var err error
	if _, cut := found.cuts[deadLogName]; slices.Contains(found.corrupt, deadLogName) {
		err = o.dead.rewrite("dead-" + entryID(o.nextID) + ".corrupt")
	} else if cut {
		err = o.dead.cut()
	}
	err = o.log.guard(err)
	for _, id := range found.halfRequeued() {
		if err == nil {
			err = o.dropDead(id, "requeued")
		}
	}
	return err
}
