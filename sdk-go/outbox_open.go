package fractal

// This file opens an outbox: its options, their defaults, and the steps from a directory to an
// outbox that has recovered what was there.

import (
	"errors"
	"sync"
	"time"
)

const (
	// maxOutboxEntries is the default of how many entries, dead letters included, an outbox holds.
	maxOutboxEntries = 100_000

	// maxOutboxBytes is the default of how many bytes of live frames, dead letters included, an
	// outbox holds. The directory may take twice as much and two files more, until garbage is
	// collected.
	maxOutboxBytes = 1 << 30

	// maxOutboxAge is the default age, from `sent_at`, at which an entry becomes a dead letter;
	// below the shortest time for which a server remembers ids.
	maxOutboxAge = 13 * 24 * time.Hour
)

// OutboxOption changes a default of OpenOutbox.
type OutboxOption func(*outboxSettings)

type outboxSettings struct {
	maxEntries int
	maxBytes   int64
	maxAge     time.Duration
	background bool
	fileBytes  int
}

// WithMaxEntries limits entries, dead letters included; the default is 100,000.
func WithMaxEntries(entries int) OutboxOption {
	return func(s *outboxSettings) { s.maxEntries = entries }
}

// WithMaxBytes limits the bytes of entries, dead letters included; the default is 1 GiB.
func WithMaxBytes(bytes int64) OutboxOption {
	return func(s *outboxSettings) { s.maxBytes = bytes }
}

// WithMaxAge says at which age, from `sent_at`, an entry becomes a dead letter; the default is 13
// days.
func WithMaxAge(age time.Duration) OutboxOption {
	return func(s *outboxSettings) { s.maxAge = age }
}

// WithBackground says whether a client sends waiting entries by itself, as it does by default, or
// in Flush alone.
func WithBackground(on bool) OutboxOption {
	return func(s *outboxSettings) { s.background = on }
}

// OpenOutbox opens or creates the outbox in a directory, and recovers what a crash left there.
//
// The directory must be open to its owner alone; it is created with mode 0700. The error is
// `outbox_locked` if a live process has it, and `outbox_corrupt` if it cannot be read or written at
// all; damaged files are set aside, counted in Stats, and told to the first client.
func OpenOutbox(path string, options ...OutboxOption) (*Outbox, error) {
	settings, err := outboxSettingsOf(options)
	if err != nil {
		return nil, err
	}
	files, err := newDiskDirectory(path)
	if err != nil {
		return nil, notOpened(err)
	}
	here, err := thisProcess()
	if err != nil {
		return nil, notOpened(err)
	}
	return openOutbox(files, &locker{files, here, ticksOf}, settings)
}

func ticksOf(pid int) (int64, bool, error) { return startTicksOf(proc, pid) }

func outboxSettingsOf(options []OutboxOption) (outboxSettings, error) {
	settings := outboxSettings{
		maxEntries: maxOutboxEntries, maxBytes: maxOutboxBytes, maxAge: maxOutboxAge,
		background: true, fileBytes: outboxFileBytes,
	}
	for _, option := range options {
		if option == nil {
			return settings, newError("config_invalid", "options: expected an option, got nil")
		}
		option(&settings)
	}
	if settings.maxEntries < 1 || settings.maxBytes < 1 || settings.maxAge < time.Millisecond {
		return settings, newError("config_invalid",
			"outbox: expected limits above 0, got %d entries, %d bytes, %v",
			settings.maxEntries, settings.maxBytes, settings.maxAge)
	}
	return settings, nil
}

func openOutbox(files directory, locker *locker, settings outboxSettings) (*Outbox, error) {
	if err := locker.acquire(); err != nil {
		return nil, notOpened(err)
	}
	fileBytes := settings.fileBytes
	o := &Outbox{
		settings: settings, files: files, locker: locker, nextID: 1,
		space:   space{fileBytes: fileBytes},
		dead:    &deadFile{files: files, fileBytes: fileBytes, places: map[string]place{}},
		entries: map[string]*entry{}, schedule: newSchedule(outboxWidthMax),
		held: newHeldEntries(),
	}
	o.log = &logFile{files: files, changed: sync.NewCond(&o.lock)}
	if err := o.recover(); err != nil {
		return nil, notOpened(errors.Join(err, o.log.stop(), o.dead.stop(), locker.release()))
	}
	return o, nil
}

func notOpened(err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	failed := newError("outbox_corrupt", "the outbox cannot be opened: %v", err)
	failed.Err = err
	return failed
}
