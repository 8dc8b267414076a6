package vfs

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
)

func TestFaultyFailsWhatItIsTold(t *testing.T) {
	t.Parallel()
	plain := dirOf(t)
	done, err := steps(plain)
	if err != nil {
		t.Fatal(err)
	}
	for failing := range done {
		at := 0
		f := NewFaulty(dirOf(t), func(Step) error {
			if at++; at == failing+1 {
				return syscall.ENOSPC
			}
			return nil
		})
		got, err := steps(f)
		if got != failing || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%d steps done, %v; want %d, and ENOSPC", got, err, failing)
		}
		if err := f.Mkdir("after"); err != nil {
			t.Fatalf("life doesn't go on: %v", err)
		}
	}
}

func TestFaultyWritesShort(t *testing.T) {
	t.Parallel()
	for want, err := range map[int]error{
		4: syscall.EIO,
		0: Short{syscall.EIO, func(int) int { return 0 }},
		7: Short{syscall.EIO, func(n int) int { return n - 1 }},
		8: Short{syscall.EIO, func(n int) int { return n }},
	} {
		f := NewFaulty(dirOf(t), func(s Step) error {
			if s.Op == "write" {
				return err
			}
			return nil
		})
		file, err := f.OpenFile("a", os.O_RDWR|os.O_CREATE)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := file.Write([]byte("12345678")); n != want || !errors.Is(err, syscall.EIO) {
			t.Fatalf("wrote %d, %v; want %d, and EIO", n, err, want)
		}
		if fi, err := file.Stat(); err != nil || fi.Size() != int64(want) {
			t.Fatalf("%d bytes, %v; want %d", fi.Size(), err, want)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFaultyAnnouncesWholeNames(t *testing.T) {
	t.Parallel()
	var got []Step
	f := NewFaulty(dirOf(t), func(s Step) error {
		got = append(got, s)
		return nil
	})
	if err := f.Mkdir("d"); err != nil {
		t.Fatal(err)
	}
	sub, err := f.Sub("d")
	if err != nil {
		t.Fatal(err)
	}
	file, err := sub.OpenFile("a", os.O_RDWR|os.O_CREATE)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Sync(), file.Close(), sub.Rename("a", "b"), sub.Close()); err != nil {
		t.Fatal(err)
	}
	want := []Step{
		{Op: "mkdir", Name: "d"},
		{Op: "sub", Name: "d"},
		{Op: "openfile", Name: "d/a"},
		{Op: "sync", Name: "d/a"},
		{Op: "rename", Name: "d/b", From: "d/a"},
	}
	if !slices.Equal(got, want) {
		t.Fatalf("announced %v, want %v", got, want)
	}
	if got[1].Changes() || got[2].Changes() || !got[3].Changes() || !got[4].Changes() {
		t.Fatal("Changes is wrong")
	}
}
