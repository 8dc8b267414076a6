//go:build real

package bench

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// topDir marks a folder whose subfolders are unrelated, so that ext4 puts each into
// a block group of its own (ioctl_iflags(2), FS_TOPDIR_FL).
const topDir = 0x20000

// place makes a folder for a system's data, on ext4 in a block group of its own. Without
// a journal ext4 doesn't use an inode again within minutes of its deletion, and looks at
// each of these whenever a file is made in the same group: what one system deletes would
// make another one's pushes slower.
func place(t *testing.T) string {
	t.Helper()
	top := t.TempDir()
	spread(t, top)
	// Which group it gets follows from its name.
	dir, err := os.MkdirTemp(top, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// spread marks a folder, where the file system knows such a mark.
func spread(t *testing.T, top string) {
	t.Helper()
	f, err := os.Open(top)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|topDir)
	}
	if err != nil {
		t.Logf("systems share block groups on this file system: %v", err)
	}
}
