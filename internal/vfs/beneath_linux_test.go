package vfs

import (
	"errors"
	"syscall"
	"testing"
)

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
