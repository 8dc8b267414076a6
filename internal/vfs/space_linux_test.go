package vfs

import (
	"errors"
	"syscall"
	"testing"
)

// Space says what statfs does, with everything that happens on the disk meanwhile.
func TestSpace(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d, err := Dir(path)
	do(t, err)
	t.Cleanup(func() { do(t, d.Close()) })
	var st syscall.Statfs_t
	do(t, syscall.Statfs(path, &st))
	free, used, err := Space(d)
	do(t, err)
	near := func(what string, got int64, blocks uint64) {
		t.Helper()
		const others = 1 << 30 // what other programs may write or remove between two looks
		if want := int64(blocks) * int64(st.Frsize); got <= 0 || got < want-others || got > want+others {
			t.Errorf("%s: %d bytes, want about %d", what, got, want)
		}
	}
	near("free", free, st.Bavail)
	near("used", used, st.Blocks-st.Bfree)
	if _, _, err := Space(NewFaulty(d, func(Step) error { return nil })); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("of what is no file system: error %v", err)
	}
}
