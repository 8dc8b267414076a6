package archive_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/archive"
	"github.com/caddy-oci/oci-registry/storage/filesystem"
	"github.com/caddy-oci/oci-registry/storage/memory"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
	"github.com/caddy-oci/oci-registry/storage/transfer"
)

// must ends the test if a call failed, and else is what it returned: must(f())(t).
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func name(t testing.TB, s string) oci.Name { t.Helper(); return must(oci.ParseName(s))(t) }

func onDisk(t testing.TB, dir string) storage.Store {
	t.Helper()
	s := must(filesystem.Open(dir, filesystem.Options{}))(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// export writes all of a store to a tar file.
func export(t testing.TB, s storage.Store) []byte {
	t.Helper()
	var b bytes.Buffer
	names := must(archive.All(t.Context(), s))(t)
	opts := archive.Options{Problem: func(p transfer.Problem) { t.Errorf("a problem: %s", p) }}
	if err := archive.Export(t.Context(), &b, s, names, opts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// imported reads a tar file, and returns the problems.
func imported(t testing.TB, s storage.Store, from []byte, opts archive.ImportOptions) (problems []string) {
	t.Helper()
	opts.Problem = func(p transfer.Problem) { problems = append(problems, p.String()) }
	if err := archive.Import(t.Context(), s, bytes.NewReader(from), opts); err != nil {
		t.Fatal(err)
	}
	return problems
}

func wantProblems(t testing.TB, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("the problems are %q, want %q", got, want)
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("problem %q, want %q", got[i], want[i])
		}
	}
}

// What was written is read again as it was, and reading it twice changes nothing.
func TestExportAndImport(t *testing.T) {
	t.Parallel()
	source := onDisk(t, t.TempDir())
	storagetest.Fill(t, source)
	file := export(t, source)
	target := onDisk(t, t.TempDir())
	for range 2 {
		wantProblems(t, imported(t, target, file, archive.ImportOptions{}))
		storagetest.WantSame(t, target, source)
	}
}

// A store that can't tell what it holds is exported by what its manifests name.
func TestExportOfMemory(t *testing.T) {
	t.Parallel()
	source, target := memory.New(), memory.New()
	storagetest.Fill(t, source)
	wantProblems(t, imported(t, target, export(t, source), archive.ImportOptions{}))
	storagetest.WantSame(t, target, source)
}

// Unpacked, it's a root.
func TestUnpacked(t *testing.T) {
	t.Parallel()
	source := onDisk(t, t.TempDir())
	storagetest.Fill(t, source)
	root := t.TempDir()
	for name, body := range files(t, export(t, source)) {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, body, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	storagetest.WantSame(t, onDisk(t, root), source)
}

func files(t testing.TB, archive []byte) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := all[h.Name]; twice {
			t.Errorf("%s is in it twice", h.Name)
		}
		all[h.Name] = must(io.ReadAll(r))(t)
	}
}

// pack makes a tar file of files, in the order of their names or another one.
func pack(t testing.TB, files map[string][]byte, order func(a, b string) int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.SortedFunc(maps.Keys(files), order) {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(files[name])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		must(w.Write(files[name]))(t)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// One repository is a file that other tools know; its name is said when it's read.
func TestOne(t *testing.T) {
	t.Parallel()
	source := onDisk(t, t.TempDir())
	storagetest.Fill(t, source)
	var b bytes.Buffer
	if err := archive.ExportOne(t.Context(), &b, source, name(t, "team/app"), archive.Options{}); err != nil {
		t.Fatal(err)
	}
	for file := range files(t, b.Bytes()) {
		if file != "oci-layout" && file != "index.json" && path.Dir(path.Dir(file)) != "blobs" {
			t.Errorf("there's a file %s", file)
		}
	}
	target := onDisk(t, t.TempDir())
	wantProblems(t, imported(t, target, b.Bytes(), archive.ImportOptions{Into: "new/name"}))
	want := make(map[string]string)
	for key, v := range storagetest.Picture(t, source) {
		if rest, ok := strings.CutPrefix(key, "team/app"); ok {
			want["new/name"+rest] = v
		}
	}
	storagetest.WantPicture(t, storagetest.Picture(t, target), want)
	if err := archive.Import(t.Context(), target, &b, archive.ImportOptions{}); err == nil {
		t.Error("it's imported without a name")
	}
	err := archive.ExportOne(t.Context(), io.Discard, source, name(t, "nowhere"), archive.Options{})
	if !errors.Is(err, oci.NameUnknown) {
		t.Errorf("one that isn't there: %v", err)
	}
}

// Layouts are read in whatever order their files come, and wherever they are put.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"skopeo", "regctl", "zot"} {
		root := filepath.Join("..", "..", "test", "testdata", "foreign", tool)
		all := make(map[string][]byte)
		err := fs.WalkDir(os.DirFS(root), ".", func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				all["./"+p], err = os.ReadFile(filepath.Join(root, p))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(root)); err != nil {
			t.Fatal(err)
		}
		want := onDisk(t, copied)
		for _, order := range []func(a, b string) int{strings.Compare, func(a, b string) int { return strings.Compare(b, a) }} {
			got := onDisk(t, t.TempDir())
			wantProblems(t, imported(t, got, pack(t, all, order), archive.ImportOptions{}))
			storagetest.WantSame(t, got, want)
		}
	}
}

// Of a file that's cut off nothing has a name, and the whole one goes on from there.
func TestCutOff(t *testing.T) {
	t.Parallel()
	source, target := onDisk(t, t.TempDir()), onDisk(t, t.TempDir())
	storagetest.Fill(t, source)
	file := export(t, source)
	for end := range len(file)/512 - 2 {
		err := archive.Import(t.Context(), target, bytes.NewReader(file[:(end+1)*512]), archive.ImportOptions{})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("of %d bytes %d: err = %v", len(file), (end+1)*512, err)
		}
	}
	for key := range storagetest.Picture(t, target) {
		if strings.ContainsAny(key, "@") || !strings.Contains(key, "sha") {
			t.Errorf("there's %s", key)
		}
	}
	var p transfer.Progress
	wantProblems(t, imported(t, target, file, archive.ImportOptions{Options: archive.Options{Progress: &p}}))
	storagetest.WantSame(t, target, source)
	if p.Skipped.Load() == 0 {
		t.Error("all of it was stored again")
	}
}

func TestNoLayout(t *testing.T) {
	t.Parallel()
	for what, file := range map[string][]byte{
		"nothing":        {},
		"another tar":    pack(t, map[string][]byte{"README.md": []byte("hello")}, strings.Compare),
		"a text":         []byte(strings.Repeat("hello", 1000)),
		"a broken index": pack(t, map[string][]byte{"a/index.json": []byte("{")}, strings.Compare),
		"no name":        pack(t, map[string][]byte{"A/index.json": []byte(`{"manifests":[]}`)}, strings.Compare),
		"above":          pack(t, map[string][]byte{"../a/index.json": []byte(`{"manifests":[]}`)}, strings.Compare),
	} {
		s := onDisk(t, t.TempDir())
		if err := archive.Import(t.Context(), s, bytes.NewReader(file), archive.ImportOptions{}); err == nil {
			t.Errorf("%s is imported", what)
		}
		if got := storagetest.Picture(t, s); len(got) > 0 {
			t.Errorf("%s left %v", what, got)
		}
	}
}

// index is an index.json of an image with a layer, which has a name.
func index(t testing.TB, called string) (all map[string][]byte, layer, image digest.Digest) {
	t.Helper()
	layer = digest.FromString("layer")
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"layers":[{"mediaType":"a/b","digest":%q,"size":5}]}`, layer)
	image = digest.FromBytes(raw)
	return map[string][]byte{
		"a/index.json": fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"org.opencontainers.image.ref.name":%q}}]}`,
			oci.MediaTypeImageManifest, image, len(raw), called),
		"a/blobs/sha256/" + layer.Encoded(): []byte("layer"),
		"a/blobs/sha256/" + image.Encoded(): raw,
	}, layer, image
}

// What isn't right is told, and all else is imported.
func TestProblems(t *testing.T) {
	t.Parallel()
	all, layer, image := index(t, "v1")
	damaged := maps.Clone(all)
	damaged["a/blobs/sha256/"+layer.Encoded()] = []byte("later")
	missing := maps.Clone(all)
	delete(missing, "a/blobs/sha256/"+layer.Encoded())
	nameless := maps.Clone(all)
	delete(nameless, "a/index.json")
	called, _, _ := index(t, "example.com/a:v1")
	for _, tc := range []struct {
		files map[string][]byte
		want  []string
		tag   bool
	}{
		{all, nil, true},
		{damaged, []string{"a@" + layer.String() + ": its bytes are damaged", "a@" + layer.String() + ": manifest " + image.String() + " needs it"}, true},
		{missing, []string{"a@" + layer.String() + ": manifest " + image.String() + " needs it"}, true},
		{nameless, []string{"a: it has no index.json"}, false},
		{called, []string{`it's called "example.com/a:v1", which can't be a tag`}, false},
	} {
		s := onDisk(t, t.TempDir())
		wantProblems(t, imported(t, s, pack(t, tc.files, strings.Compare), archive.ImportOptions{}), tc.want...)
		_, err := s.Repository(name(t, "a")).Resolve(t.Context(), must(oci.ParseReference("v1"))(t))
		if (err == nil) != tc.tag {
			t.Errorf("%q: the tag is %v", tc.want, err)
		}
	}
}

// A file in which tar has put a blob once, and links to it after that.
func TestHardLinks(t *testing.T) {
	t.Parallel()
	all, layer, _ := index(t, "v1")
	var b bytes.Buffer
	b.Write(pack(t, all, strings.Compare))
	b.Truncate(b.Len() - 1024) // its end
	w := tar.NewWriter(&b)
	for file, body := range all {
		h := &tar.Header{Typeflag: tar.TypeLink, Name: "b" + file[1:], Linkname: file}
		if strings.HasSuffix(file, "index.json") {
			h = &tar.Header{Typeflag: tar.TypeReg, Name: h.Name, Size: int64(len(body))}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			must(w.Write(body))(t)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s := onDisk(t, t.TempDir())
	wantProblems(t, imported(t, s, b.Bytes(), archive.ImportOptions{}))
	if _, err := s.Repository(name(t, "b")).StatBlob(t.Context(), layer); err != nil {
		t.Error(err)
	}
}

// A file can't get at what it hasn't got: not outside of Into, and not by a link into
// another repository.
func TestNothingOfOthers(t *testing.T) {
	t.Parallel()
	secret := digest.FromString("secret")
	blob := "/blobs/sha256/" + secret.Encoded()
	link := func(to string) []byte {
		var b bytes.Buffer
		b.Write(pack(t, map[string][]byte{"a/index.json": []byte(`{"schemaVersion":2,"manifests":[]}`)}, strings.Compare))
		b.Truncate(b.Len() - 1024) // its end
		w := tar.NewWriter(&b)
		if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: "a" + blob, Linkname: to}), w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	all, _, _ := index(t, "v1")
	outside := make(map[string][]byte)
	for file, body := range all {
		outside["../victim"+file[1:]] = body
	}
	for what, c := range map[string]struct {
		file []byte
		into string
	}{
		"a link":             {link("private" + blob), ""},
		"a link up":          {link("../private" + blob), "team"},
		"a link out of it":   {link("a/../../private" + blob), "team"},
		"a link over itself": {link("a/../private" + blob), ""},
		"a link from above":  {link("/private" + blob), ""},
		"outside":            {pack(t, outside, strings.Compare), "team"},
	} {
		s := onDisk(t, t.TempDir())
		must(storage.PutBlob(t.Context(), s.Repository(name(t, "private")), secret, strings.NewReader("secret"), storage.UploadOptions{}))(t)
		_ = archive.Import(t.Context(), s, bytes.NewReader(c.file), archive.ImportOptions{Into: c.into}) // what it says doesn't matter here
		for _, to := range []string{"a", "team/a"} {
			if _, err := s.Repository(name(t, to)).StatBlob(t.Context(), secret); err == nil {
				t.Errorf("%s: %s has a blob of another repository", what, to)
			}
		}
		if _, err := s.Repository(name(t, "victim")).Index(t.Context()); err == nil {
			t.Errorf("%s: it has written to another repository", what)
		}
	}
}

// Of a repository whose names can't be read the last good ones are written, and it's
// said that they are.
func TestExportOfBrokenNames(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := must(filesystem.Open(root, filesystem.Options{Recheck: -1}))(t)
	defer s.Close()
	storagetest.Fill(t, s)
	if err := os.WriteFile(filepath.Join(root, "team", "app", "index.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var problems []string
	opts := archive.Options{Problem: func(p transfer.Problem) { problems = append(problems, p.String()) }}
	if err := archive.ExportOne(t.Context(), io.Discard, s, name(t, "team/app"), opts); err != nil {
		t.Fatal(err)
	}
	wantProblems(t, problems, "team/app: these are its last good names: ")
	problems = nil
	if err := archive.ExportOne(t.Context(), io.Discard, s, name(t, "team"), opts); err != nil {
		t.Fatal(err)
	}
	wantProblems(t, problems)
}

// A damaged blob in the source is told of, and all else is written.
func TestExportOfDamage(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := onDisk(t, root)
	d := digest.FromString("layer")
	must(storage.PutBlob(t.Context(), s.Repository(name(t, "a")), d, strings.NewReader("layer"), storage.UploadOptions{}))(t)
	blob := filepath.Join(root, "a", "blobs", "sha256", d.Encoded())
	if err := errors.Join(os.Remove(blob), os.WriteFile(blob, []byte("later"), 0o600)); err != nil {
		t.Fatal(err)
	}
	var problems []string
	err := archive.ExportOne(t.Context(), io.Discard, s, name(t, "a"), archive.Options{Problem: func(p transfer.Problem) { problems = append(problems, p.String()) }})
	if err != nil {
		t.Fatal(err)
	}
	wantProblems(t, problems, "a@"+d.String()+": its bytes are damaged")
}
