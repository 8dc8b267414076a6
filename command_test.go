package ociregistry

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

// runCommand is 'caddy oci-registry' with args. It returns all that is printed.
func runCommand(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := &cobra.Command{Use: "oci-registry", SilenceErrors: true}
	addCommands(cmd)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// command runs a command that asks the admin endpoint.
func (w *web) command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return runCommand(t, append(args, "--address", w.addr)...)
}

// openRoot opens a registry's root as another process would.
func openRoot(t *testing.T, root string) *filesystem.Store {
	t.Helper()
	s, err := filesystem.Open(root, filesystem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pushInto makes a registry's root with images in it.
func pushInto(t *testing.T, root string, repositories ...string) {
	t.Helper()
	s := openRoot(t, root)
	for _, n := range repositories {
		storagetest.Push(t, s, n, "v1")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantPushed fails unless a root has these repositories, as pushInto has made them.
func wantPushed(t *testing.T, root string, repositories ...string) {
	t.Helper()
	s := openRoot(t, root)
	defer s.Close()
	storagetest.WantPushed(t, s, repositories...)
}

func TestListAndRemove(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", inMemory)
	url := "http://" + w.addr
	for _, repository := range []string{"b", "a/nested"} {
		for _, tag := range []string{"v2", "v1"} {
			if err := w.push(t.Context(), repository, tag, "layer of "+tag); err != nil {
				t.Fatal(err)
			}
		}
	}
	manifest := w.want(t, http.StatusOK, http.MethodGet, "/v2/b/manifests/v2", "").body
	for _, step := range []struct {
		args []string
		out  string
		err  string
	}{
		{args: []string{"ls"}, out: "a/nested\nb\n"},
		{args: []string{"ls", "b"}, out: "v1\nv2\n"},
		{args: []string{"rm", "b:v1"}},
		{args: []string{"ls", "b"}, out: "v2\n"},
		{args: []string{"rm", "b@" + digest.FromString(manifest).String()}},
		{args: []string{"ls", "b"}},
		{args: []string{"rm", "b:v2"}, err: "404 Not Found: MANIFEST_UNKNOWN: manifest unknown"},
		{args: []string{"rm", "b"}, err: "b: which tag or digest? Want REPOSITORY:TAG"},
		{args: []string{"rm", "B:v2"}, err: "invalid repository name"},
		{args: []string{"rm", "b@sha256:12"}, err: "digest"},
		{args: []string{"ls", "none"}, err: "404 Not Found: NAME_UNKNOWN"},
		{args: []string{"ls", "no/../name"}, err: "invalid repository name"},
	} {
		out, err := runCommand(t, append(step.args, "--registry", url)...)
		if step.err == "" && err != nil || step.err != "" && (err == nil || !strings.Contains(err.Error(), step.err)) {
			t.Errorf("%v: err = %v, want %q", step.args, err, step.err)
		}
		if out != step.out {
			t.Errorf("%v: printed %q, want %q", step.args, out, step.out)
		}
	}
}

// A registry of a configuration is copied with its paths, into another one.
func TestCopyRegistries(t *testing.T) {
	newWeb(t) // one Caddy at a time
	rest, team, to, rest2 := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	pushInto(t, rest, "a", "team/hidden")
	pushInto(t, team, "b", "team/app")
	config := filepath.Join(t.TempDir(), "Caddyfile")
	text := "{\n\tadmin off\n\toci_registry {\n\t\tregistry old {\n\t\t\troot " + rest + "\n\t\t\tpath team {\n\t\t\t\troot " + team + "\n\t\t\t}\n\t\t}\n\t}\n}\n\n" +
		"http://127.0.0.1:1 {\n\toci_registry {\n\t\troot " + rest2 + "\n\t\tpath team {\n\t\t\troot " + to + "\n\t\t}\n\t}\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := runCommand(t, "copy", "--config", config, "--from", "registry:old", "--to", "registry:inline"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	wantPushed(t, rest2, "a")
	wantPushed(t, to, "team/app")
	if _, err := runCommand(t, "copy", "--config", config, "--from", "registry:older", "--to", rest2); err == nil || !strings.Contains(err.Error(), "the configuration has no registry of this name (it has: inline, old)") {
		t.Errorf("err = %v", err)
	}
}

// What is read_only in its configuration isn't written to by a command either, and
// is read by one.
func TestNothingIsWrittenToReadOnlyRegistries(t *testing.T) {
	newWeb(t) // one Caddy at a time
	other, root, config := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "Caddyfile")
	pushInto(t, other, "b")
	pushInto(t, root, "a")
	text := "{\n\tadmin off\n\toci_registry {\n\t\tregistry main {\n\t\t\troot " + root + "\n\t\t\tread_only\n\t\t}\n\t}\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"copy", "--config", config, "--from", other, "--to", "registry:main"},
		{"import", "--config", config, "--store", "registry:main", "--into", "c", "--file", os.DevNull},
	} {
		_, err := runCommand(t, args...)
		if want := "registry:main: it's read_only: take that out of its configuration first"; err == nil || err.Error() != want {
			t.Errorf("%s: err = %v, want %s", args[0], err, want)
		}
	}
	if out, err := runCommand(t, "copy", "--config", config, "--from", "registry:main", "--to", other); err != nil {
		t.Errorf("from it: %s, %v", out, err)
	}
	wantPushed(t, root, "a")
	wantPushed(t, other, "a", "b")
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
		for _, args := range [][]string{
			{"check", "--store", store},
			{"export", "--store", store, "--file", filepath.Join(t.TempDir(), "all.tar")},
			{"copy", "--from", store, "--to", t.TempDir()},
		} {
			if out, err := runCommand(t, append(args, "--config", config)...); err != nil {
				t.Errorf("%s: %s, %v", args, out, err)
			}
		}
	}
	if is := names(t, root); !slices.Equal(was, is) {
		t.Errorf("there was %q, and is %q", was, is)
	}
	if _, err := runCommand(t, "check", "--store", t.TempDir()); err == nil || !strings.Contains(err.Error(), "there's no registry in it") {
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
