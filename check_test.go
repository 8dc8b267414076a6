package ociregistry

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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

// What a command reads it leaves as it is, files and folders.
func TestReadingLeavesNothing(t *testing.T) {
	newWeb(t) // one Caddy at a time
	root, config := t.TempDir(), filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.CopyFS(root, os.DirFS("test/testdata/foreign/zot")); err != nil {
		t.Fatal(err)
	}
	text := "{\n\tadmin off\n\toci_registry {\n\t\tregistry main {\n\t\t\troot " + root + "\n\t\t}\n\t}\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	was := names(t, root)
	for _, store := range []string{root, "registry:main"} {
		o := checkOptions{store: store, storeFlags: storeFlags{config: config}}
		var table, said bytes.Buffer
		if err := o.run(t.Context(), &table, &said, nil); err != nil {
			t.Errorf("%s: check: %s%s, %v", store, table.String(), said.String(), err)
		}
		from := archiveOptions{store: store, storeFlags: o.storeFlags, file: filepath.Join(t.TempDir(), "all.tar")}
		if err := from.export(t.Context(), nil, &said, nil); err != nil {
			t.Errorf("%s: export: %v", store, err)
		}
		if _, err := runCopy(t, copyOptions{from: store, to: t.TempDir(), storeFlags: o.storeFlags}); err != nil {
			t.Errorf("%s: copy: %v", store, err)
		}
	}
	if is := names(t, root); !slices.Equal(was, is) {
		t.Errorf("there was %q, and is %q", was, is)
	}
	if _, _, err := runCheck(t, t.TempDir()); err == nil || !strings.Contains(err.Error(), "there's no registry in it") {
		t.Errorf("an empty folder: %v", err)
	}
}

// names are those of all files and folders below one.
func names(t *testing.T, root string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(at string, _ fs.DirEntry, err error) error {
		all = append(all, at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
