package ociregistry

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

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
)

// fillFolder makes a registry with images in a folder.
func fillFolder(t *testing.T, root string, repositories ...string) {
	t.Helper()
	s := openFolder(t, root)
	for _, n := range repositories {
		pushTo(t, s, n, "v1")
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

// pushTo pushes an image that's like no other repository's.
func pushTo(t *testing.T, s storage.Store, repository, tag string) {
	t.Helper()
	name, err := oci.ParseName(repository)
	if err != nil {
		t.Fatal(err)
	}
	r, layer := s.Repository(name), digest.FromString(repository)
	if _, err := storage.PutBlob(t.Context(), r, layer, strings.NewReader(repository), storage.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	m, err := oci.ParseManifest(oci.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"layers":[{"mediaType":"a/b","digest":"`+layer.String()+`","size":1}]}`), digest.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	v, err := oci.ParseTag(tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.PutManifest(t.Context(), r, m, storage.PutOptions{Tags: []oci.Tag{v}}); err != nil {
		t.Fatal(err)
	}
}

// wantRepositories fails unless a folder has these, with the image that fillFolder made.
func wantRepositories(t *testing.T, root string, want ...string) {
	t.Helper()
	s := openFolder(t, root)
	defer s.Close()
	var got []string
	for n, err := range s.Repositories(t.Context(), oci.Name{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, n.String())
		b, err := s.Repository(n).OpenBlob(t.Context(), digest.FromString(n.String()))
		if err != nil {
			t.Errorf("%s: %v", n, err)
			continue
		}
		_ = b.Close() // only opened
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s has %q, want %q", root, got, want)
	}
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
	pushTo(t, running, "c", "v1") // it goes on
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
		{copyOptions{from: "registry:main", to: from, storeFlags: storeFlags{config: nowhere}}, nil, "registry:main: "},
	} {
		if _, err := runCopy(t, tc.o, tc.repositories...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: err = %v, want %s", tc.o, err, tc.want)
		}
	}
	if _, err := os.Stat(nowhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder to copy from was made: %v", err)
	}
}

// A registry of a configuration is copied with its paths, into another one.
func TestCopyRegistries(t *testing.T) {
	newWeb(t) // one Caddy at a time
	rest, team, to, rest2 := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	fillFolder(t, rest, "a", "team/hidden")
	fillFolder(t, team, "b", "team/app")
	config := filepath.Join(t.TempDir(), "Caddyfile")
	text := "{\n\tadmin off\n\toci_registry {\n\t\tregistry old {\n\t\t\troot " + rest + "\n\t\t\tpath team {\n\t\t\t\troot " + team + "\n\t\t\t}\n\t\t}\n\t}\n}\n\n" +
		"http://127.0.0.1:1 {\n\toci_registry {\n\t\troot " + rest2 + "\n\t\tpath team {\n\t\t\troot " + to + "\n\t\t}\n\t}\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := copyOptions{from: "registry:old", to: "registry:inline", storeFlags: storeFlags{config: config}}
	if out, err := runCopy(t, o); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	wantRepositories(t, rest2, "a")
	wantRepositories(t, to, "team/app")
	o.from = "registry:older"
	if _, err := runCopy(t, o); err == nil || !strings.Contains(err.Error(), "the configuration has no registry of this name (it has: inline, old)") {
		t.Errorf("err = %v", err)
	}
}

// What is read_only in its configuration isn't written to by a command either, and
// is read by one.
func TestNothingIsWrittenToReadOnlyRegistries(t *testing.T) {
	newWeb(t) // one Caddy at a time
	other, root, config := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "Caddyfile")
	fillFolder(t, other, "b")
	fillFolder(t, root, "a")
	text := "{\n\tadmin off\n\toci_registry {\n\t\tregistry main {\n\t\t\troot " + root + "\n\t\t\tread_only\n\t\t}\n\t}\n}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := storeFlags{config: config}
	_, copied := runCopy(t, copyOptions{from: other, to: "registry:main", storeFlags: flags})
	into := archiveOptions{store: "registry:main", into: "c", storeFlags: flags}
	imported := into.importFrom(t.Context(), strings.NewReader(""), new(bytes.Buffer))
	for what, err := range map[string]error{"copy": copied, "import": imported} {
		if want := "registry:main: it's read_only: take that out of its configuration first"; err == nil || err.Error() != want {
			t.Errorf("%s: err = %v, want %s", what, err, want)
		}
	}
	if out, err := runCopy(t, copyOptions{from: "registry:main", to: other, storeFlags: flags}); err != nil {
		t.Errorf("from it: %s, %v", out, err)
	}
	wantRepositories(t, root, "a")
	wantRepositories(t, other, "a", "b")
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
