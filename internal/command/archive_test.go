package command

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

func TestExportAndImport(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	fillFolder(t, from, "a", "team/app")
	var file, said bytes.Buffer
	if err := (&archiveOptions{store: from}).export(t.Context(), &file, &said, nil); err != nil {
		t.Fatalf("%s, %v", said.String(), err)
	}
	if want := "done: 2 of 2 repositories, 4 blobs and manifests written ("; !strings.HasPrefix(said.String(), want) {
		t.Errorf("it says %q, want %q", said.String(), want)
	}
	if err := (&archiveOptions{store: to, into: "mirror"}).importFrom(t.Context(), &file, &said); err != nil {
		t.Fatalf("%s, %v", said.String(), err)
	}
	s := openFolder(t, to)
	defer s.Close()
	storagetest.Push(t, s, "mirror/a", "v2") // it's there
}

func TestExportOneToAFile(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	fillFolder(t, from, "a", "team/app")
	o := archiveOptions{store: from, file: filepath.Join(t.TempDir(), "app.tar")}
	var said bytes.Buffer
	if err := o.export(t.Context(), nil, &said, []string{"team/app"}); err != nil {
		t.Fatalf("%s, %v", said.String(), err)
	}
	o.store = to
	if err := o.importFrom(t.Context(), nil, &said); err == nil || !strings.Contains(err.Error(), "say into which one") {
		t.Errorf("without a name: %v", err)
	}
	o.into = "team/app"
	if err := o.importFrom(t.Context(), nil, &said); err != nil {
		t.Fatalf("%s, %v", said.String(), err)
	}
	wantRepositories(t, to, "team/app")
}

func TestExportAndImportRefuse(t *testing.T) {
	t.Parallel()
	live := t.TempDir()
	fillFolder(t, live, "a")
	running := openFolder(t, live)
	defer running.Close()
	var file, said bytes.Buffer
	if err := (&archiveOptions{store: live}).export(t.Context(), &file, &said, nil); err != nil {
		t.Fatalf("a running one can be read: %v", err)
	}
	o := archiveOptions{store: live, into: "b"}
	if err := o.importFrom(t.Context(), &file, &said); !errors.Is(err, storage.ErrStandby) || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("into a running one: %v", err)
	}
	terminal, err := os.OpenFile("/dev/null", os.O_WRONLY, 0) // a device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for what, err := range map[string]error{
		"nothing for a terminal":       (&archiveOptions{store: live}).export(t.Context(), terminal, &said, nil),
		`repository name "A"`:          (&archiveOptions{store: live}).export(t.Context(), &file, &said, []string{"A"}),
		"b: repository name not known": (&archiveOptions{store: live}).export(t.Context(), &file, &said, []string{"b"}),
		`--into: invalid repository`:   (&archiveOptions{store: live, into: "A"}).importFrom(t.Context(), &file, &said),
		"no such file or directory":    (&archiveOptions{store: live, file: live + "/x"}).importFrom(t.Context(), &file, &said),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("err = %v, want %s", err, what)
		}
	}
}
