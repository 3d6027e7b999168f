package fractal

// This file touches the disk for the outbox; no other file of the package writes files. `directory`
// is the whole of what the outbox asks of a file system, so that a test can fail or stop it at any
// call. What is written, and in which order, is in journal.go and spool.go.

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// directory is one flat directory; names are file names in it. Its errors are those of os:
// fs.ErrExist where create finds a file, fs.ErrNotExist where another call finds none.
type directory interface {
	names() ([]string, error)
	read(name string) ([]byte, error)
	// readAt gives less than `length` bytes at the end of the file.
	readAt(name string, offset, length int) ([]byte, error)
	ageMs(name string) (int64, error) // since it was written
	create(name string) (openFile, error)
	open(name string) (openFile, error)
	fsyncDir() error // makes creations, renames and removals durable
	rename(old, new string) error
	unlink(name string) error
}

// openFile is a file that is being written.
type openFile interface {
	pwrite(data []byte, offset int) error
	truncate(size int) error
	fsync() error
	close() error
}

// diskDirectory is the real thing: a directory of mode 0700 with files of mode 0600.
type diskDirectory struct{ path string }

// newDiskDirectory makes the directory, or refuses one that others may enter. Windows has no modes.
func newDiskDirectory(path string) (*diskDirectory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	facts, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && facts.Mode().Perm()&0o077 != 0 {
		return nil, newError("config_invalid",
			"outbox: %s must be open to its owner alone (chmod 700)", path)
	}
	return &diskDirectory{path}, nil
}

func (d *diskDirectory) of(name string) string { return filepath.Join(d.path, name) }

func (d *diskDirectory) names() ([]string, error) {
	opened, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	names, err := opened.Readdirnames(-1)
	return names, errors.Join(err, opened.Close())
}

func (d *diskDirectory) read(name string) ([]byte, error) { return os.ReadFile(d.of(name)) }

func (d *diskDirectory) readAt(name string, offset, length int) ([]byte, error) {
	opened, err := os.Open(d.of(name))
	if err != nil {
		return nil, err
	}
	data := make([]byte, length)
	read, err := opened.ReadAt(data, int64(offset))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:read], errors.Join(err, opened.Close())
}

func (d *diskDirectory) ageMs(name string) (int64, error) {
	facts, err := os.Stat(d.of(name))
	if err != nil {
		return 0, err
	}
	return time.Since(facts.ModTime()).Milliseconds(), nil
}

func (d *diskDirectory) create(name string) (openFile, error) {
	return asOpenFile(os.OpenFile(d.of(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600))
}

func (d *diskDirectory) open(name string) (openFile, error) {
	return asOpenFile(os.OpenFile(d.of(name), os.O_RDWR, 0))
}

func (d *diskDirectory) rename(old, new string) error { return os.Rename(d.of(old), d.of(new)) }

func (d *diskDirectory) unlink(name string) error { return os.Remove(d.of(name)) }

// fsyncDir does nothing on Windows, which cannot sync a directory and keeps a journal of names.
func (d *diskDirectory) fsyncDir() error {
	if runtime.GOOS == "windows" {
		return nil
	}
	opened, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}

type diskFile struct{ file *os.File }

func asOpenFile(file *os.File, err error) (openFile, error) {
	if err != nil {
		return nil, err
	}
	return diskFile{file}, nil
}

func (f diskFile) pwrite(data []byte, offset int) error {
	_, err := f.file.WriteAt(data, int64(offset))
	return err
}

func (f diskFile) truncate(size int) error { return f.file.Truncate(int64(size)) }
func (f diskFile) fsync() error            { return f.file.Sync() }
func (f diskFile) close() error            { return f.file.Close() }

// writeNew fills a file that was just created and closes it; a file that cannot be filled goes.
func writeNew(files directory, name string, file openFile, data []byte) error {
	err := file.pwrite(data, 0)
	if err == nil {
		err = file.fsync()
	}
	if err = errors.Join(err, file.close()); err != nil {
		return errors.Join(err, files.unlink(name))
	}
	return nil
}
