package command

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

// fillFolder makes a registry with images in a folder.
func fillFolder(t *testing.T, root string, repositories ...string) {
	t.Helper()
	s := openFolder(t, root)
	for _, n := range repositories {
		storagetest.Push(t, s, n, "v1")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func openFolder(t *testing.T, root string) storage.Store {
	t.Helper()
	s, err := filesystem.Open(root, filesystem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantRepositories fails unless a folder has these, with the image that fillFolder made.
func wantRepositories(t *testing.T, root string, want ...string) {
	t.Helper()
	s := openFolder(t, root)
	defer s.Close()
	storagetest.WantPushed(t, s, want...)
}

// runCopy is 'caddy oci-registry copy'.
func runCopy(t *testing.T, o copyOptions, repositories ...string) (out string, err error) {
	t.Helper()
	var b bytes.Buffer
	err = o.run(t.Context(), &b, repositories)
	return b.String(), err
}

func TestCopyFolders(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "new")
	fillFolder(t, from, "a", "team/app", "team/web", "teams")
	out, err := runCopy(t, copyOptions{from: from, to: to}, "team")
	if want := "done: 2 of 2 repositories, 4 blobs and manifests written ("; err != nil || !strings.HasPrefix(out, want) {
		t.Fatalf("%q, %v; want %q", out, err, want)
	}
	wantRepositories(t, to, "team/app", "team/web")
	out, err = runCopy(t, copyOptions{from: from, to: to})
	if want := "done: 4 of 4 repositories, 4 blobs and manifests written ("; err != nil || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "4 were there\n") {
		t.Fatalf("%q, %v; want %q", out, err, want)
	}
	wantRepositories(t, to, "a", "team/app", "team/web", "teams")
}

// A folder that a registry serves can be read, and not written to.
func TestCopyAndARunningRegistry(t *testing.T) {
	t.Parallel()
	live, other := t.TempDir(), t.TempDir()
	fillFolder(t, live, "a")
	fillFolder(t, other, "b")
	running := openFolder(t, live)
	defer running.Close()
	_, err := runCopy(t, copyOptions{from: other, to: live})
	if !errors.Is(err, storage.ErrStandby) || !strings.Contains(err.Error(), "If a registry is running on "+live+", stop it first") {
		t.Errorf("into a running one: %v", err)
	}
	if _, err := runCopy(t, copyOptions{from: live, to: other}); err != nil {
		t.Errorf("from a running one: %v", err)
	}
	wantRepositories(t, other, "a", "b")
	storagetest.Push(t, running, "c", "v1") // it goes on
}

func TestCopySaysWhatItCouldNot(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	fillFolder(t, from, "a", "b")
	blob := filepath.Join(from, "a", "blobs", "sha256", digest.FromString("a").Encoded())
	if err := errors.Join(os.Remove(blob), os.WriteFile(blob, []byte("b"), 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := runCopy(t, copyOptions{from: from, to: to})
	if err == nil || err.Error() != "not all went well: the list above has 1" {
		t.Errorf("err = %v", err)
	}
	if want := "a@" + digest.FromString("a").String() + ": its bytes are damaged\n"; !strings.HasPrefix(out, want) || !strings.Contains(out, "done, with problems: 2 of 2") {
		t.Errorf("it says %q, want %q", out, want)
	}
}

// onlyReads is a Caddy that reads configurations, and has nothing of them.
var onlyReads = Caddy{Load: func(file, _ string) (Configuration, error) {
	_, err := os.ReadFile(file)
	return nil, err
}}

func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	from, nowhere := t.TempDir(), filepath.Join(t.TempDir(), "nowhere")
	for _, tc := range []struct {
		o            copyOptions
		repositories []string
		want         string
	}{
		{copyOptions{from: nowhere, to: from}, nil, "no such file"},
		{copyOptions{from: from, to: from}, nil, "can't be copied to itself"},
		{copyOptions{from: "floppy://a", to: from}, nil, "floppy://a: no stores are called floppy:// (there are "},
		{copyOptions{from: from, to: from + "/x"}, []string{"Team"}, `repository name "Team"`},
		{copyOptions{from: "registry:main", to: from, storeFlags: storeFlags{caddy: onlyReads, config: nowhere}}, nil, "registry:main: open " + nowhere},
	} {
		if _, err := runCopy(t, tc.o, tc.repositories...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: err = %v, want %s", tc.o, err, tc.want)
		}
	}
	if _, err := os.Stat(nowhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder to copy from was made: %v", err)
	}
}

// What is shown says how far it is.
func TestDisplay(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	d := newDisplay(&b, "written")
	d.stop()
	p := &d.progress
	p.Repositories.Store(40)
	p.Finished.Store(10)
	p.Copied.Store(7)
	p.Skipped.Store(3)
	p.Bytes.Store(5_000_000)
	if got, want := d.line(2*time.Second), "10/40 repositories, 7 written, 3 were there, 5.0 MB, 2.5 MB/s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	d.terminal = true
	if got, want := d.line(2*time.Second), "[=====               ] 10/40 repositories"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	d.print("x\n")
	if got, want := b.String(), "\r\x1b[Kx\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
