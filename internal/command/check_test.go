package command

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func runCheck(t *testing.T, store string, repositories ...string) (table, said string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	o := checkOptions{store: store}
	err = o.run(t.Context(), &stdout, &stderr, repositories)
	return stdout.String(), stderr.String(), err
}

// What is wrong is listed, whether a registry is running or not, and stays as it is.
func TestCheck(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fillFolder(t, root, "a", "team/app", "team/web")
	table, said, err := runCheck(t, root)
	if want := "done: 3 of 3 repositories, 6 blobs and manifests are right ("; err != nil || table != "" || !strings.HasPrefix(said, want) {
		t.Fatalf("all is right: %q, %q, %v", table, said, err)
	}
	damaged := filepath.Join(root, "team", "app", "blobs", "sha256", digest.FromString("team/app").Encoded())
	if err := errors.Join(os.Remove(damaged), os.WriteFile(damaged, []byte("team/apt"), 0o600)); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(root, "team", "web", "blobs", "sha256", digest.FromString("team/web").Encoded())
	if err := os.Remove(missing); err != nil {
		t.Fatal(err)
	}
	for _, running := range []bool{false, true} {
		if running {
			s := openFolder(t, root)
			defer s.Close()
		}
		table, said, err = runCheck(t, root)
		if err == nil || err.Error() != "wrong things: 2" || !strings.Contains(said, "done, with problems: 3 of 3 ") {
			t.Errorf("running %t: %s, %v", running, said, err)
		}
		if told := strings.Contains(said, "a registry is running on "+root+": "); told != running {
			t.Errorf("running %t: it says %q", running, said)
		}
		lines := strings.Split(strings.TrimSpace(table), "\n")
		if len(lines) != 3 || !strings.HasPrefix(lines[0], "REPOSITORY") {
			t.Fatalf("running %t: the table is\n%s", running, table)
		}
		for i, want := range []string{"team/app " + digest.FromString("team/app").String() + " damaged v1", "team/web " + digest.FromString("team/web").String() + " missing v1"} {
			for word := range strings.FieldsSeq(want) {
				if !strings.Contains(lines[i+1], word) {
					t.Errorf("running %t: %q lacks %s", running, lines[i+1], word)
				}
			}
		}
	}
	if _, err := os.Stat(damaged); err != nil {
		t.Errorf("it's taken out: %v", err)
	}
	if _, said, err := runCheck(t, root, "a"); err != nil || !strings.Contains(said, "\ndone: 1 of 1 ") {
		t.Errorf("of a: %s, %v", said, err)
	}
	if _, _, err := runCheck(t, filepath.Join(root, "nowhere")); err == nil {
		t.Error("a folder that isn't there is right")
	}
}

// What was written unsynced is read, and it's said what to make of it.
func TestCheckOfWhatWasWrittenUnsynced(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fillFolder(t, root, "a")
	mark := filepath.Join(root, "_unsynced")
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, said, err := runCheck(t, root); err != nil || !strings.Contains(said, root+" was written with sync off, and not closed") {
		t.Errorf("%s, %v", said, err)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("the mark is gone: %v", err)
	}
}
