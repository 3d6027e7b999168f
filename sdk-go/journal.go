package fractal

// This file appends frames durably: to the current log file of the outbox, and to its dead-letter
// file. Both track their own end and write there. A full disk refuses the frame and changes
// nothing; any other error closes the outbox for good, because after a failed fsync nobody knows
// what is on disk and only a fresh recovery can tell.

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"syscall"
)

const deadTemporaryName = "dead.tmp"

// orFull turns the errors of a full disk into `outbox_full`.
func orFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		full := newError("outbox_full", "outbox: %v", err)
		full.Err = err
		return full
	}
	return err
}

// appendAt writes at the end of a file. What a full disk took of it is cut off again.
func appendAt(file openFile, data []byte, offset int) error {
	err := orFull(file.pwrite(data, offset))
	if _, isFull := err.(*Error); isFull {
		if failed := file.truncate(offset); failed != nil {
			return failed
		}
	}
	return err
}

// createNamed creates a file whose name is durable.
func createNamed(files directory, name string) (openFile, error) {
	file, err := files.create(name)
	if err != nil {
		return nil, orFull(err)
	}
	if err := files.fsyncDir(); err != nil {
		return nil, errors.Join(err, file.close())
	}
	return file, nil
}

// logFile is the current log file, with one fsync for all who wait (group commit). Every method is
// called with the lock held; only `sync` lets it go, while it waits.
type logFile struct {
	files   directory
	changed *sync.Cond // its L is the lock
	file    openFile
	name    string
	offset  int
	written int // bytes, over all files
	synced  int
	syncing bool
	failure error
}

// create goes on in a new file; nobody may be syncing the old one.
func (l *logFile) create(name string) error {
	file, err := createNamed(l.files, name)
	if err != nil {
		return l.guard(err)
	}
	err = l.stop()
	l.file, l.name, l.offset = file, name, 0
	return l.guard(err)
}

// resume goes on in an existing file behind its first `size` bytes.
func (l *logFile) resume(name string, size int, cut bool) error {
	file, err := l.files.open(name)
	if err != nil {
		return l.guard(err)
	}
	l.file, l.name, l.offset = file, name, size
	if !cut {
		return nil
	}
	if err := file.truncate(size); err != nil {
		return l.guard(err)
	}
	return l.guard(file.fsync())
}

// append writes at the end, which is `offset`, not yet durable.
func (l *logFile) append(data []byte) error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	if err := l.guard(appendAt(l.file, data, l.offset)); err != nil {
		return err
	}
	l.offset += len(data)
	l.written += len(data)
	return nil
}

// sync waits until all that was appended so far is durable.
func (l *logFile) sync() error {
	for wanted := l.written; l.synced < wanted; {
		if err := l.checkOpen(); err != nil {
			return err
		}
		if l.syncing {
			l.changed.Wait()
			continue
		}
		target := l.written
		if err := l.guard(l.syncUnlocked()); err != nil {
			return err
		}
		l.synced = max(l.synced, target)
	}
	return nil
}

func (l *logFile) syncUnlocked() error {
	file := l.file
	l.syncing = true
	l.changed.L.Unlock()
	defer func() {
		l.changed.L.Lock()
		l.syncing = false
		l.changed.Broadcast()
	}()
	return file.fsync()
}

// waitForSync lets the lock go until nobody is syncing.
func (l *logFile) waitForSync() {
	for l.syncing {
		l.changed.Wait()
	}
}

// syncNow makes all durable without letting the lock go.
func (l *logFile) syncNow() error {
	if err := l.checkOpen(); err != nil {
		return err
	}
	if l.synced < l.written {
		if err := l.guard(l.file.fsync()); err != nil {
			return err
		}
		l.synced = l.written
	}
	return nil
}

// stop closes the current file; nobody may be syncing it.
func (l *logFile) stop() error {
	if l.file == nil {
		return nil
	}
	file := l.file
	l.file = nil
	return file.close()
}

// guard closes the outbox for good if the file system failed. An *Error passes: it says that
// nothing changed.
func (l *logFile) guard(err error) error {
	if err == nil {
		return nil
	}
	if known, isKnown := err.(*Error); isKnown {
		return known
	}
	l.failure = err
	return l.checkOpen()
}

// checkOpen fails with `outbox_corrupt` if nothing can be appended any more.
func (l *logFile) checkOpen() error {
	if l.failure != nil {
		failed := newError("outbox_corrupt",
			"the outbox failed and is closed until it is opened anew: %v", l.failure)
		failed.Err = l.failure
		return failed
	}
	if l.file == nil {
		return newError("outbox_corrupt", "the outbox is closed")
	}
	return nil
}

// isUsable says whether anything can still be appended.
func (l *logFile) isUsable() bool { return l.checkOpen() == nil }

// deadFile keeps letters that will not be sent again, each until it is requeued or purged. Each
// change is durable when the method returns; `guard` closes the outbox if one fails.
type deadFile struct {
	files     directory
	fileBytes int
	file      openFile
	size      int
	places    map[string]place
	liveBytes int
}

// load takes what recovery found; `size` is where the next frame goes.
func (d *deadFile) load(places map[string]place, size int) {
	d.places, d.size = maps.Clone(places), size
	for _, each := range places {
		d.liveBytes += each.length
	}
}

// cut drops a torn tail.
func (d *deadFile) cut() error {
	if err := d.open(); err != nil {
		return err
	}
	if err := d.file.truncate(d.size); err != nil {
		return err
	}
	return d.file.fsync()
}

func (d *deadFile) add(letter DeadLetter) error {
	data := letter.encode()
	offset, err := d.append(data)
	if err != nil {
		return err
	}
	d.places[letter.ID()] = place{offset, len(data)}
	d.liveBytes += len(data)
	return nil
}

func (d *deadFile) read(id string) (DeadLetter, error) {
	at, known := d.places[id]
	if !known {
		return DeadLetter{}, newError("not_found", "the outbox has no dead letter %.20s", id)
	}
	data, err := d.files.readAt(deadLogName, at.offset, at.length)
	if err != nil {
		return DeadLetter{}, err
	}
	if found, ok := readFrame(data, 0); ok {
		if letter, isLetter := deadLetterOf(&found.text); isLetter {
			return letter, nil
		}
	}
	return DeadLetter{}, newError("outbox_corrupt", "the dead letter %s cannot be read", id)
}

// drop forgets a letter, and collects garbage when it outweighs what is kept by a file.
func (d *deadFile) drop(id, reason string) error {
	if _, err := d.append(encodeMark("release", id, fact{"reason", reason})); err != nil {
		return err
	}
	d.liveBytes -= d.places[id].length
	delete(d.places, id)
	if d.size <= 2*d.liveBytes+d.fileBytes {
		return nil
	}
	err := d.rewrite("")
	if _, isFull := err.(*Error); isFull {
		return nil // the letter has gone, the garbage can wait
	}
	return err
}

// rewrite writes the letters to a new file and puts it in the place of the old one, which is kept
// under the name `aside`, if that is not "". Between the two renames there is no dead-letter file,
// and settleNames finishes the second one.
func (d *deadFile) rewrite(aside string) error {
	var text []byte
	places := map[string]place{}
	for _, id := range byOffset(d.places) {
		at := d.places[id]
		data, err := d.files.readAt(deadLogName, at.offset, at.length)
		if err != nil {
			return err
		}
		places[id] = place{len(text), len(data)}
		text = append(text, data...)
	}
	if err := d.stop(); err != nil {
		return err
	}
	// Its name is durable before the old file loses its own.
	file, err := createNamed(d.files, deadTemporaryName)
	if err == nil {
		err = orFull(writeNew(d.files, deadTemporaryName, file, text))
	}
	if err != nil {
		return err
	}
	if aside != "" {
		if err := renameDurably(d.files, deadLogName, aside); err != nil {
			return err
		}
	}
	d.places, d.size = places, len(text)
	return renameDurably(d.files, deadTemporaryName, deadLogName)
}

func (d *deadFile) stop() error {
	if d.file == nil {
		return nil
	}
	file := d.file
	d.file = nil
	return file.close()
}

func (d *deadFile) append(data []byte) (int, error) {
	if err := d.open(); err != nil {
		return 0, err
	}
	offset := d.size
	if err := appendAt(d.file, data, offset); err != nil {
		return 0, err
	}
	if err := d.file.fsync(); err != nil {
		return 0, err
	}
	d.size += len(data)
	return offset, nil
}

func (d *deadFile) open() error {
	if d.file != nil {
		return nil
	}
	names, err := d.files.names()
	if err != nil {
		return err
	}
	if slices.Contains(names, deadLogName) {
		d.file, err = d.files.open(deadLogName)
	} else {
		d.file, err = createNamed(d.files, deadLogName)
	}
	return err
}

// settleNames finishes or undoes a rewrite of the dead-letter file that a crash interrupted.
func settleNames(files directory) error {
	names, err := files.names()
	if err != nil || !slices.Contains(names, deadTemporaryName) {
		return err
	}
	if !slices.Contains(names, deadLogName) {
		return renameDurably(files, deadTemporaryName, deadLogName)
	}
	return unlinkDurably(files, deadTemporaryName)
}

func renameDurably(files directory, old, new string) error {
	if err := files.rename(old, new); err != nil {
		return err
	}
	return files.fsyncDir()
}

func unlinkDurably(files directory, name string) error {
	if err := files.unlink(name); err != nil {
		return err
	}
	return files.fsyncDir()
}
