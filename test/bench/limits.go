//go:build real

package bench

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// The machine's own limits, measured as if they were systems that take a large blob.
const (
	hashing = "sha256"
	writing = "dd conv=fsync"
)

// hardware measures how fast content can be hashed, and how fast written and synced:
// once each time it's called, as rounds of a workload.
func hardware(t *testing.T, r *report, workload string, size int) func() {
	t.Helper()
	content := sync.OnceValue(func() blob { return newBlob(0, size) })
	path := filepath.Join(t.TempDir(), "data")
	return func() {
		b := content()
		r.add(workload, "MB", hashing, timed(len(b.bytes), func() { sha256.Sum256(b.bytes) }))
		r.add(workload, "MB", writing, timed(len(b.bytes), func() { write(t, path, b.bytes) }))
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func timed(bytes int, fn func()) sample {
	began := time.Now()
	fn()
	return sample{ops: 1, bytes: bytes, elapsed: time.Since(began)}
}

// write does what dd does: a megabyte at a time, and one fsync at the end.
func write(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for len(b) > 0 && err == nil {
		n := min(len(b), 1<<20)
		_, err = f.Write(b[:n])
		b = b[n:]
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		t.Fatal(err)
	}
}
