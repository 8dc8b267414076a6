package filesystem

import (
	"errors"
	"os"
	"path"

	"github.com/caddy-oci/oci-registry/internal/vfs"
)

// appendLines adds whole lines to a file of ours, making it if need be. A line
// that a crash has cut off is ended first, so that it spoils no other one. If they
// are synced, they're durable from the next Barrier on.
func (s *Store) appendLines(name string, lines []byte, synced bool) (size int64, err error) {
	var f vfs.File
	err = s.disk.Within(name, func() (err error) {
		f, err = s.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND)
		return err
	})
	if err != nil {
		return 0, err
	}
	size, err = s.addLines(f, lines, synced)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	if synced && size == int64(len(lines)) {
		err = s.disk.SyncDirLater(path.Dir(name)) // the file may be new
	}
	return size, err
}

// addLines leaves the file as it was if it fails and that can be done.
func (s *Store) addLines(f vfs.File, lines []byte, synced bool) (size int64, err error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size = fi.Size()
	if size > 0 {
		var last [1]byte
		if _, err := f.ReadAt(last[:], size-1); err != nil {
			return 0, err
		}
		if last[0] != '\n' {
			lines = append([]byte("\n"), lines...)
		}
	}
	_, err = f.Write(lines)
	if err == nil && synced {
		err = s.disk.SyncLater(f)
	}
	if err != nil {
		return 0, errors.Join(err, f.Truncate(size))
	}
	return size + int64(len(lines)), nil
}
