package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/archive"
)

// small is a tar file with an index.json of two bytes.
func small(t testing.TB, h tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h.Typeflag, h.Name, h.Size = tar.TypeReg, "a/index.json", 2
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	must(w.Write([]byte("{}")))(t)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// gnuSparse makes the first file of a tar be one with holes, as GNU's tar wrote them
// before there was PAX: type S, with a list of what isn't a hole in its header.
func gnuSparse(file []byte) []byte {
	header := file[:512]
	header[156] = tar.TypeGNUSparse
	copy(header[386:], "00000000000\x0000000000002\x00") // from where, and how much
	copy(header[483:], "77777777777\x00")                // how large it is with its holes
	copy(header[148:], "        ")
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
	return file
}

// What is small in a file and large outside of it isn't read, nor passed over.
func TestSparseFiles(t *testing.T) {
	t.Parallel()
	pax := small(t, tar.Header{Format: tar.FormatPAX, PAXRecords: map[string]string{"GNU-sparse.major": "1"}})
	for format, file := range map[string][]byte{
		"pax": bytes.ReplaceAll(pax, []byte("GNU-sparse"), []byte("GNU.sparse")), // which has the same length
		"gnu": gnuSparse(small(t, tar.Header{Format: tar.FormatGNU})),
	} {
		err := archive.Import(t.Context(), onDisk(t, t.TempDir()), bytes.NewReader(file), archive.ImportOptions{})
		if err == nil || !strings.Contains(err.Error(), "a/index.json: it's sparse") {
			t.Errorf("%s: err = %v", format, err)
		}
	}
}

// weighed calls weigh when something is read.
type weighed struct {
	storage.Store

	weigh func()
}

func (w weighed) Repository(name oci.Name) storage.Repository {
	return weighedRepository{w.Store.Repository(name), w.weigh}
}

type weighedRepository struct {
	storage.Repository

	weigh func()
}

func (w weighedRepository) OpenBlob(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	w.weigh()
	return w.Repository.OpenBlob(ctx, d)
}

// However many manifests there are, only some of them are in memory at once.
func TestImportOfManyManifests(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	const manifests, size, most = 700, 64 << 10, 28 << 20
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	calls := 0
	target := weighed{onDisk(t, t.TempDir()), func() {
		if calls++; calls%150 != 0 {
			return
		}
		runtime.GC()
		runtime.ReadMemStats(&now)
		if n := int64(now.HeapAlloc) - int64(before.HeapAlloc); n > most {
			t.Errorf("after %d manifests %d MiB are in memory", calls, n>>20)
		}
	}}
	file, last := manyManifests(t, manifests, size)
	defer file.Close()
	if err := archive.Import(t.Context(), target, file, archive.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	if calls < manifests {
		t.Errorf("only %d manifests were read", calls)
	}
	if _, err := target.Repository(name(t, "a")).Resolve(t.Context(), oci.DigestRef(last)); err != nil {
		t.Errorf("the last one isn't there: %v", err)
	}
}

// manyManifests is a tar file of a repository with as many as that, of so many bytes.
func manyManifests(t testing.TB, n, size int) (file *os.File, last digest.Digest) {
	t.Helper()
	file = must(os.Create(filepath.Join(t.TempDir(), "many.tar")))(t)
	w := tar.NewWriter(file)
	write := func(name string, body []byte) {
		t.Helper()
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(body)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		must(w.Write(body))(t)
	}
	var index []string
	for i := range n {
		raw := fmt.Appendf(nil, `{"schemaVersion":2,"layers":[],"annotations":{"number":"%d","filling":%q}}`, i, strings.Repeat("x", size))
		last = digest.FromBytes(raw)
		write("a/blobs/sha256/"+last.Encoded(), raw)
		index = append(index, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, oci.MediaTypeImageManifest, last, len(raw)))
	}
	write("a/index.json", []byte(`{"schemaVersion":2,"manifests":[`+strings.Join(index, ",")+`]}`))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	must(file.Seek(0, io.SeekStart))(t)
	return file, last
}
