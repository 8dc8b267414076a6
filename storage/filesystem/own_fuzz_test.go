package filesystem

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/layout"
)

// FuzzOwnName: a repository's folder of ours is one component, is that of no
// other repository, and says whose it is.
func FuzzOwnName(f *testing.F) {
	for _, s := range []string{"a", "a/b", "a,b", "a/b/c", "a,b/c", ",", "a,", ",a", "a,,b", "..", "a/blobs", "blobs", "A", "", "a,index.json"} {
		f.Add(s, "a/b")
	}
	f.Fuzz(func(t *testing.T, s, other string) {
		if n, err := oci.ParseName(s); err == nil {
			dir := ownDir(n)
			if path.Dir(dir) != reposDir || path.Clean(dir) != dir {
				t.Fatalf("%q is kept at %q", s, dir)
			}
			if back, err := ownName(path.Base(dir)); err != nil || back != n {
				t.Fatalf("%q is kept at %q, which is that of %q, %v", s, dir, back, err)
			}
			if o, err := oci.ParseName(other); err == nil && o != n && ownDir(o) == dir {
				t.Fatalf("%q and %q are kept at %q", s, other, dir)
			}
		}
		if n, err := ownName(s); err == nil && !strings.Contains(s, "/") && path.Base(ownDir(n)) != s {
			t.Fatalf("%q is that of %q, which is kept at %q", s, n, ownDir(n))
		}
	})
}

// FuzzHistory: whoever did it, and whatever that one is called, an event is one
// line, and the line says so.
func FuzzHistory(f *testing.F) {
	f.Add("alice", "v1", true)
	f.Add("", "", false)
	f.Add("a\nb\r\u2028\x00\xff\"}\\", "v1", true)
	f.Add(strings.Repeat("x", 10_000), "_", false)
	f.Fuzz(func(t *testing.T, by, tag string, moved bool) {
		v, _ := oci.ParseTag(tag)
		e := event{layout.Event{Tag: v, Now: digest.FromString("now")}, by}
		if moved {
			e.Was = digest.FromString("was")
		}
		now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
		lines, loses, err := encodeHistory([]event{e, {layout.Event{Was: e.Now}, ""}}, now)
		if err != nil || !loses || bytes.Count(lines, []byte("\n")) != 2 || !bytes.HasSuffix(lines, []byte("\n")) {
			t.Fatalf("written as %q, %v", lines, err)
		}
		first, _, _ := bytes.Cut(lines, []byte("\n"))
		var got historyEntry
		if err := json.Unmarshal(first, &got); err != nil {
			t.Fatal(err)
		}
		want := historyEntry{now, asJSON(by), v.String(), e.Was, e.Now}
		if got != want {
			t.Fatalf("%+v is written as %s", want, first)
		}
	})
}

// asJSON is a string as JSON can have it.
func asJSON(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r) // the replacement character for each byte that is none
	}
	return b.String()
}

// FuzzSession: whatever is in the files of a session, it is one that can be gone
// on with, or it's unknown; it never becomes a blob that has other content than
// its digest says.
func FuzzSession(f *testing.F) {
	h := digest.Canonical.Hash()
	_, _ = io.WriteString(h, "hello")
	saved, err := h.(interface{ MarshalBinary() ([]byte, error) }).MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	hash := base64.StdEncoding.EncodeToString(saved)
	for _, s := range []string{
		`{"repository":"a","algorithm":"sha256","size":5,"hash":"` + hash + `","boot":"another"}`,
		`{"repository":"a","algorithm":"sha256","size":5,"hash":"","boot":""}`,
		`{"repository":"a","algorithm":"sha512","size":3,"hash":"AAAA","boot":"x","by":"alice","began":"2026-01-02T15:04:05Z"}`,
		`{"repository":"a","algorithm":"sha256","size":6}`, `{"repository":"a","algorithm":"sha256","size":-1}`,
		`{"repository":"a","algorithm":"sha256","size":0}`, `{"repository":"../a","algorithm":"sha256","size":5}`,
		`{"repository":"b","algorithm":"sha256","size":5}`, `{"repository":"a","algorithm":"md5","size":5}`, `{"repository":"a","size":5}`,
		`{"repository":"a","algorithm":"sha256","size":9223372036854775807}`, `{"repository":"a","algorithm":"sha256","size":5,"began":"x"}`,
		`{`, ``, `null`, `[]`, `{"Repository":"a","repository":"b","algorithm":"sha256","size":1}`,
	} {
		f.Add([]byte(s), []byte("hello"))
	}
	f.Add([]byte(`{"repository":"a","algorithm":"sha256","size":5}`), []byte(nil))
	root := f.TempDir()
	if memory, merr := os.MkdirTemp("/dev/shm", "filesystem_test"); merr == nil {
		root = memory
		f.Cleanup(func() { _ = os.RemoveAll(memory) })
	}
	s, err := Open(root, Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	name, err := oci.ParseName("a")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, state, data []byte) {
		const id = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		r := s.Repository(name)
		put(t, s.fs, id, "state", state)
		put(t, s.fs, id, "data", data)
		u, err := r.ResumeUpload(t.Context(), id)
		if err != nil {
			if !errors.Is(err, oci.BlobUploadUnknown) {
				t.Fatal(err)
			}
			return
		}
		defer func() { _ = u.Close() }()
		if u.Size() > int64(len(data)) || u.Size() < 0 {
			t.Fatalf("%d bytes of %d", u.Size(), len(data))
		}
		if bytes.Contains(state, []byte(bootID())) {
			t.Skip("who knows this boot is believed") // no state file of a seed does
		}
		want := append(bytes.Clone(data[:u.Size()]), " world"...)
		if _, err := u.Append(t.Context(), u.Size(), strings.NewReader(" world")); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Commit(t.Context(), digest.FromBytes(want)); err != nil {
			t.Fatal(err)
		}
		b, err := r.OpenBlob(t.Context(), digest.FromBytes(want))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		if err = errors.Join(err, b.Close()); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("committed %q, and there is %q, %v", want, got, err)
		}
		if err := storage.DeleteBlob(t.Context(), r, digest.FromBytes(want), ""); err != nil {
			t.Fatal(err)
		}
	})
}

// put writes a file of a session.
func put(t *testing.T, fsys vfs.FS, id, name string, content []byte) {
	t.Helper()
	for _, dir := range []string{uploadsDir, sessionDir(id)} {
		if err := fsys.Mkdir(dir); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	f, err := fsys.OpenFile(path.Join(sessionDir(id), name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err == nil {
		_, err = f.Write(content)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}
