// Package age makes a root on disk look as if time had passed, since no test can
// wait for a grace.
package age

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Marks makes the marks in a root, which nobody has open, so much older, and
// returns how many there are.
func Marks(t testing.TB, root string, by time.Duration) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "_repos", "*", "marks"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		n += older(t, name, by)
	}
	return n
}

// older rewrites the marks of one repository. See storage/format.md.
func older(t testing.TB, name string, by time.Duration) (n int) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for line := range bytes.Lines(data) {
		var mark struct {
			Digest string    `json:"digest"`
			Since  time.Time `json:"since,omitzero"`
		}
		if err := json.Unmarshal(line, &mark); err != nil {
			t.Fatalf("%s: %s: %v", name, line, err)
		}
		if !mark.Since.IsZero() {
			mark.Since = mark.Since.Add(-by)
			n++
		}
		line, err = json.Marshal(mark)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(line, '\n'))
	}
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}
