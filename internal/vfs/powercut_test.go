package vfs

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// outcomes are all that a power cut leaves of f, with every kind of luck.
func outcomes(t *testing.T, f *Forgetful) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	for seed := range uint64(64) {
		luck := rand.New(rand.NewPCG(seed, 0))
		to := t.TempDir()
		do(t, f.PowerCutKeeping(to, func() bool { return luck.IntN(2) == 0 }))
		var names []string
		for name, content := range read(t, to) {
			names = append(names, name+"="+content)
		}
		slices.Sort(names)
		found[strings.Join(names, " ")] = true
	}
	return found
}

func wantOutcomes(t *testing.T, f *Forgetful, want ...string) {
	t.Helper()
	if got := slices.Sorted(maps.Keys(outcomes(t, f))); !slices.Equal(got, want) {
		t.Fatalf("after a power cut there is one of\n%q\nwant one of\n%q", got, want)
	}
}

func TestPowerCutKeepsAnyNames(t *testing.T) {
	t.Parallel()
	f := forgetful(t, dirOf(t))
	for _, name := range []string{"a", "b"} {
		file := create(t, f, name, name)
		do(t, file.Sync(), file.Close())
	}
	wantOutcomes(t, f, "", "a=a", "a=a b=b", "b=b")
	do(t, f.SyncDir("."))
	wantOutcomes(t, f, "a=a b=b")
	do(t, f.Rename("a", "b"))
	wantOutcomes(t, f, "a=a b=a", "a=a b=b", "b=a", "b=b")
	do(t, f.SyncDir("."), f.Remove("b"))
	wantOutcomes(t, f, "", "b=a")
}

func TestPowerCutKeepsAnyBlocks(t *testing.T) {
	t.Parallel()
	f := forgetful(t, dirOf(t))
	one, two := strings.Repeat("1", block), strings.Repeat("2", block)
	file := create(t, f, "a", one)
	do(t, file.Sync(), f.SyncDir("."))
	_, err := io.WriteString(file, two+"3")
	do(t, err)
	none := strings.Repeat("\x00", block)
	wantOutcomes(t, f, "a="+one, "a="+one+none+"\x00", "a="+one+none+"3", "a="+one+two+"\x00", "a="+one+two+"3")
	do(t, file.Sync())
	wantOutcomes(t, f, "a="+one+two+"3")
	do(t, file.Truncate(1))
	wantOutcomes(t, f, "a=1", "a="+one+two+"3")
	_, err = file.Seek(0, io.SeekStart)
	do(t, err)
	_, err = io.WriteString(file, "x")
	do(t, err, file.Sync())
	wantOutcomes(t, f, "a=x")
}

func TestPowerCutIsRepeatable(t *testing.T) {
	t.Parallel()
	f := forgetful(t, dirOf(t))
	do(t, f.Mkdir("d"))
	for _, name := range []string{"a", "b", "c", "d/a", "d/b"} {
		do(t, create(t, f, name, strings.Repeat(name, 1000)).Close())
	}
	first := ""
	for i := range 5 {
		luck := rand.New(rand.NewPCG(1, 2))
		to := t.TempDir()
		do(t, f.PowerCutKeeping(to, func() bool { return luck.IntN(2) == 0 }))
		var b bytes.Buffer
		for _, name := range slices.Sorted(maps.Keys(read(t, to))) {
			b.WriteString(name + "=" + read(t, to)[name] + "\n")
		}
		if i > 0 && b.String() != first {
			t.Fatalf("one luck has made\n%s\nand\n%s", first, b.String())
		}
		first = b.String()
	}
}

func TestFailedSyncLosesForGood(t *testing.T) {
	t.Parallel()
	f := forgetful(t, dirOf(t))
	failing := false
	f.FailSync(func(name string) error {
		if failing && name == "a" {
			return syscall.EIO
		}
		return nil
	})
	one, two := strings.Repeat("1", block), strings.Repeat("2", block)
	file := create(t, f, "a", one)
	do(t, file.Sync(), f.SyncDir("."))
	_, err := io.WriteString(file, two)
	do(t, err)
	failing = true
	if err = file.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("error %v", err)
	}
	failing = false
	wantOutcomes(t, f, "a="+one, "a="+one+strings.Repeat("\x00", block))
	do(t, file.Sync()) // succeeds, and has written nothing
	wantOutcomes(t, f, "a="+one+strings.Repeat("\x00", block))

	_, err = file.Seek(block, io.SeekStart)
	do(t, err)
	_, err = io.WriteString(file, two)
	do(t, err, file.Sync())
	wantOutcomes(t, f, "a="+one+two)
	got, err := os.ReadFile(filepath.Join(must(Path(f.FS, "a"))))
	if do(t, err); string(got) != one+two {
		t.Fatalf("there is %q", got)
	}
}

func must(path string, ok bool) string {
	if !ok {
		panic("it's no real file system")
	}
	return path
}
