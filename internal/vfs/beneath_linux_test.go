package vfs

import (
	"errors"
	"io"
	"syscall"
	"testing"
)

func TestOpeningAFifoDoesNotHang(t *testing.T) {
	t.Parallel()
	d := dirOf(t)
	do(t, d.Mkdir("d"))
	path, _ := Path(d, "d/fifo")
	do(t, syscall.Mkfifo(path, 0o600))
	f, err := d.Open("d/fifo")
	do(t, err)
	if b, err := io.ReadAll(f); len(b) > 0 || err != nil && !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("read %q, %v", b, err)
	}
	do(t, f.Close())
}

// TestLeavingIsNoOtherFileSystem: who gets EXDEV from a rename copies instead.
func TestLeavingIsNoOtherFileSystem(t *testing.T) {
	t.Parallel()
	d := dirOf(t)
	do(t, d.Mkdir("d"), create(t, d, "d/a", "x").Close())
	if err := d.Rename("d/a", "d/../../a"); err == nil || errors.Is(err, syscall.EXDEV) {
		t.Fatalf("rename out of the tree: %v", err)
	}
	if _, err := d.Open("d/../../a"); err == nil || errors.Is(err, syscall.EXDEV) {
		t.Fatalf("open out of the tree: %v", err)
	}
}
