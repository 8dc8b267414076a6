//go:build unix

package vfs

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// A named pipe that nobody writes to keeps whoever opens it waiting for ever.
func TestDirOpensNothingToWaitFor(t *testing.T) {
	t.Parallel()
	eachWay(t, testOpensNothingToWaitFor)
}

func testOpensNothingToWaitFor(t *testing.T, openDir func(path string) FS) {
	d := openDir(t.TempDir())
	path, _ := Path(d, "pipe")
	do(t, syscall.Mkfifo(path, 0o600), os.Symlink("pipe", path+"-link"))
	both, err := os.OpenFile(path, os.O_RDWR, 0) // so that reading would wait, too
	do(t, err)
	t.Cleanup(func() { do(t, both.Close()) })
	for _, name := range []string{"pipe", "pipe-link"} {
		_, open := d.Open(name)
		_, write := d.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND)
		_, lock := d.TryLock(name, true)
		_, list := d.ReadDir(name)
		for _, err := range []error{open, write, lock, list} {
			if !errors.Is(err, ErrIrregular) {
				t.Errorf("%s: %v, want ErrIrregular", name, err)
			}
		}
		if d.SyncDir(name) == nil {
			t.Errorf("%s was synced as a directory", name)
		}
	}
}
