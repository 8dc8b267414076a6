package vfs

import (
	"math"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// On ext4 what is set aside is the file's and isn't a part of it, and what isn't used goes
// when it's given back. No other file system is asked.
func TestSetAside(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(name)
	do(t, err)
	t.Cleanup(func() { do(t, f.Close()) })
	_, err = f.WriteString("content")
	do(t, err)
	look := func() (size, room int64) {
		t.Helper()
		var st syscall.Stat_t
		do(t, syscall.Stat(name, &st))
		return st.Size, st.Blocks * 512
	}
	var on syscall.Statfs_t
	do(t, syscall.Statfs(name, &on))

	const n = 1 << 20
	did := SetAside(wrapped{f}, 0, n)
	if want := on.Type == unix.EXT4_SUPER_MAGIC; did != want {
		t.Errorf("set aside: %t, want %t on a file system of the type %#x", did, want, on.Type)
	}
	if size, room := look(); size != 7 || did && room < n || !did && room >= n {
		t.Errorf("%d bytes set aside: %t; the file is %d bytes in %d", n, did, size, room)
	}
	if SetAside(wrapped{f}, 1<<60, n) {
		t.Error("set aside where no file reaches")
	}
	if size, room := look(); size != 7 || room >= n {
		t.Errorf("more couldn't be set aside, and the file is %d bytes in %d", size, room)
	}
	if SetAside(wrapped{f}, 0, math.MaxInt64/64) {
		t.Error("set aside what there is no room for")
	}
	SetAside(wrapped{f}, 0, n)
	GiveBack(wrapped{f}, 7)
	if size, room := look(); size != 7 || room >= n {
		t.Errorf("given back, the file is %d bytes in %d", size, room)
	}
	if SetAside(&faultyFile{}, 0, n) {
		t.Error("set aside in what is no file of the operating system")
	}
	GiveBack(&faultyFile{}, 0)
}

// wrapped is a file with something around it.
type wrapped struct{ File }

func (w wrapped) Unwrap() File { return w.File }
