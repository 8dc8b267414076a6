package handler_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// authorizer is an authz.Authorizer as a function.
type authorizer func(authz.Question) (authz.Answer, error)

func (a authorizer) Authorize(_ context.Context, q authz.Question) (authz.Answer, error) { return a(q) }

func (a authorizer) Filter(ctx context.Context, q authz.Question, names iter.Seq[oci.Name]) iter.Seq[oci.Name] {
	return authz.FilterOneByOne(ctx, a, q, names)
}

// jane is who sent every request.
func jane(*http.Request) (authz.Identity, error) { return authz.Identity{ID: "jane"}, nil }

// onlyThere lets callers do anything, in the repositories given.
func onlyThere(names ...string) authorizer {
	return func(q authz.Question) (authz.Answer, error) {
		for _, w := range q.Want {
			allowed := w.Repository.IsZero()
			for _, n := range names {
				allowed = allowed || w.Repository.String() == n
			}
			if !allowed {
				return authz.Answer{}, oci.Errorf(oci.Denied, "not %s", w.Repository)
			}
		}
		return authz.Answer{Overwrite: true}, nil
	}
}

// hookedStore is a Store whose repositories pass through a function.
type hookedStore struct {
	storage.Store

	hook func(storage.Repository) storage.Repository
}

func (s hookedStore) Repository(n oci.Name) storage.Repository { return s.hook(s.Store.Repository(n)) }

// newHookedStore returns a Store in memory whose repositories pass through hook.
func newHookedStore(t testing.TB, hook func(storage.Repository) storage.Repository) storage.Store {
	t.Helper()
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	return hookedStore{store, hook}
}

// failing is a repository that fails.
type failing struct {
	storage.Repository

	err error
}

func (f failing) StatBlob(context.Context, digest.Digest) (oci.Descriptor, error) {
	return oci.Descriptor{}, f.err
}

func (f failing) OpenBlob(context.Context, digest.Digest) (*storage.Blob, error) { return nil, f.err }

func (f failing) Update(context.Context, func(*storage.Edit) error) error { return f.err }

func (f failing) NewUpload(context.Context, storage.UploadOptions) (storage.Upload, error) {
	return nil, f.err
}

// blobs is a repository whose blobs are opened by a function.
type blobs struct {
	storage.Repository

	open func(digest.Digest) (*storage.Blob, error)
}

func (b blobs) OpenBlob(_ context.Context, d digest.Digest) (*storage.Blob, error) { return b.open(d) }

// oneBlob is a repository with one blob, opened anew each time.
type oneBlob struct {
	storage.Repository

	desc oci.Descriptor
	open func() io.ReadSeeker
}

func (o oneBlob) OpenBlob(context.Context, digest.Digest) (*storage.Blob, error) {
	return &storage.Blob{Descriptor: o.desc, ReadSeekCloser: struct {
		io.ReadSeeker
		io.Closer
	}{o.open(), io.NopCloser(nil)}}, nil
}

// newFileStore returns a Store where every blob that is opened is a file with
// this content.
func newFileStore(t testing.TB, content []byte) (storage.Store, digest.Digest) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(content)
	desc := oci.Descriptor{MediaType: oci.MediaTypeBlob, Digest: d, Size: int64(len(content))}
	open := func(digest.Digest) (*storage.Blob, error) {
		f, err := os.Open(name)
		return &storage.Blob{Descriptor: desc, ReadSeekCloser: f}, err
	}
	return newHookedStore(t, func(r storage.Repository) storage.Repository { return blobs{r, open} }), d
}

// uploading is a repository whose upload sessions pass through a function.
type uploading struct {
	storage.Repository

	begin func(storage.UploadOptions) // may be nil
	hook  func(storage.Upload) storage.Upload
}

func (u uploading) NewUpload(ctx context.Context, opts storage.UploadOptions) (storage.Upload, error) {
	if u.begin != nil {
		u.begin(opts)
	}
	up, err := u.Repository.NewUpload(ctx, opts)
	if err != nil {
		return nil, err
	}
	return u.hook(up), nil
}

func (u uploading) ResumeUpload(ctx context.Context, id string) (storage.Upload, error) {
	up, err := u.Repository.ResumeUpload(ctx, id)
	if err != nil {
		return nil, err
	}
	return u.hook(up), nil
}

// strictBody is a request's body that fails the test if it's read when it
// mustn't be: at all, or after its end.
type strictBody struct {
	t     testing.TB
	r     io.Reader // nil: not to be read
	ended bool
}

func (b *strictBody) Read(p []byte) (int, error) {
	if b.r == nil || b.ended {
		b.t.Error("the body is read when it mustn't be")
		return 0, io.EOF
	}
	n, err := b.r.Read(p)
	b.ended = err != nil
	return n, err
}

func (b *strictBody) Close() error { return nil }

var errBroken = errors.New("connection to 10.0.0.7 broken")

// newRequest returns a request with a body of the length given, -1 if it's unknown.
func newRequest(t testing.TB, method, target string, body io.Reader, length int64) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	r.RemoteAddr = "192.0.2.1:1234"
	return r
}
