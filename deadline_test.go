package ociregistry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

func init() { caddy.RegisterModule(slowStorage{}) }

// pause is how long a store pauses: longer than Caddy lets a client be idle in
// these tests, so that a deadline that ran on meanwhile would have passed.
const pause = 1500 * time.Millisecond

// limited is a web that gives up a client that is idle for a second, and free
// another way to the same registry.
func limited(t *testing.T, storage, rate string) (limited, free *web) {
	t.Helper()
	limited, free = newWeb(t), newWeb(t)
	_, port, _ := strings.Cut(limited.addr, ":")
	limited.run(t, fmt.Sprintf(`
		servers :%s {
			protocols h1 h2c
			timeouts {
				read_body_idle 1s %s
				write_idle 1s
			}
		}
		oci_registry {
			registry main {
				storage %s
				anonymous all
			}
		}`, port, rate, storage), "oci_registry main\n}\nhttp://"+free.addr+" {\noci_registry main")
	return limited, free
}

// versions are the versions of HTTP that these tests speak.
var versions = map[string]func(*http.Protocols){
	"h1": func(p *http.Protocols) { p.SetHTTP1(true) },
	"h2": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
}

// over is the web as a client sees it that speaks one version of HTTP.
func (w *web) over(t *testing.T, set func(*http.Protocols)) *web {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	set(transport.Protocols)
	t.Cleanup(transport.CloseIdleConnections)
	return &web{&http.Client{Transport: transport}, w.addr}
}

// each runs f for each version of HTTP, and again if it fails: a machine that
// stands still for a second makes an idle client of any. What is wrong is so
// each time.
func each(t *testing.T, w *web, f func(w *web, version string) error) {
	t.Helper()
	var all sync.WaitGroup
	for version, set := range versions {
		client := w.over(t, set)
		all.Go(func() {
			var err error
			for range 5 {
				if err = f(client, version); err == nil {
					return
				}
			}
			t.Errorf("%s: %v", version, err)
		})
	}
	all.Wait()
}

// begin begins an upload.
func (w *web) begin(ctx context.Context, repository string) (location string, err error) {
	a, err := w.send(ctx, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", "")
	if err = success(a, err); err != nil {
		return "", err
	}
	return a.Header.Get("Location"), nil
}

// TestSlowStore: in none of the moments at which a store may take its time does
// Caddy take it for a client that's idle.
func TestSlowStore(t *testing.T) {
	w, free := limited(t, "slow", "")
	var all sync.WaitGroup
	defer all.Wait()
	const index = "application/vnd.oci.image.index.v1+json"
	all.Go(func() {
		each(t, w, func(w *web, _ string) error {
			return success(w.send(t.Context(), http.MethodPut, "/v2/slow/manifests/v1", `{"schemaVersion":2,"mediaType":"`+index+`","manifests":[]}`, "Content-Type", index))
		})
	})
	for name, tc := range map[string]struct{ patch, put string }{
		"commit after a PUT without a body": {"", ""},
		"commit after a body's end":         {"", "rest"},
		"the middle of a body and a pull":   {strings.Repeat("much", 512<<10), ""}, // more than HTTP/2 sends ahead
	} {
		all.Go(func() {
			each(t, w, func(w *web, _ string) error {
				if err := w.putAndGet(t.Context(), free, tc.patch, tc.put); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				return nil
			})
		})
	}
}

// putAndGet pushes a blob in a PATCH and the closing PUT, and pulls it.
func (w *web) putAndGet(ctx context.Context, free *web, patch, put string) error {
	at, err := free.begin(ctx, "slow")
	if err != nil {
		return err
	}
	if patch != "" {
		if err := success(w.send(ctx, http.MethodPatch, at, patch)); err != nil {
			return err
		}
	}
	done, err := w.send(ctx, http.MethodPut, at+"?digest="+digest.FromString(patch+put).String(), put)
	if err = success(done, err); err != nil {
		return err
	}
	got, err := w.send(ctx, http.MethodGet, done.Header.Get("Location"), "")
	if err == nil && got.body != patch+put {
		err = fmt.Errorf("pulled %d bytes, pushed %d", len(got.body), len(patch+put))
	}
	return success(got, err)
}

// TestIdleClient: who stops sending is told so, and goes on later from where it
// stopped.
func TestIdleClient(t *testing.T) {
	for name, tc := range map[string]struct {
		rate string // the least that Caddy wants, in bytes a second
		more func(*io.PipeWriter)
	}{
		"stops":       {"", func(*io.PipeWriter) {}},
		"is too slow": {"1000000", trickle},
	} {
		t.Run(name, func(t *testing.T) {
			w, free := limited(t, "filesystem {\nroot "+t.TempDir()+"\n}", tc.rate)
			each(t, w, func(w *web, _ string) error {
				at, err := free.begin(t.Context(), "a")
				if err != nil {
					return err
				}
				body, pipe := io.Pipe()
				defer pipe.Close()
				go func() {
					_, _ = pipe.Write(make([]byte, 10_000)) // the server may be gone
					tc.more(pipe)
				}()
				a, err := w.do(t.Context(), http.MethodPatch, at, body)
				if err != nil {
					return err
				}
				if a.StatusCode != http.StatusRequestTimeout || !strings.Contains(a.body, "SIZE_INVALID") {
					return fmt.Errorf("%s %s", a.Status, a.body)
				}
				return free.goOn(t.Context(), at, 10_000)
			})
		})
	}
}

// goOn ends an upload that is to have at least so many bytes, all zero.
func (w *web) goOn(ctx context.Context, at string, least int) error {
	a, err := w.send(ctx, http.MethodGet, at, "")
	if err = success(a, err); err != nil {
		return err
	}
	var last int
	if _, err := fmt.Sscanf(a.Header.Get("Range"), "0-%d", &last); err != nil || last+1 < least {
		return errors.Join(err, fmt.Errorf("the session has %s, want %d bytes", a.Header.Get("Range"), least))
	}
	content := string(make([]byte, last+1)) + "rest"
	return success(w.send(ctx, http.MethodPut, at+"?digest="+digest.FromString(content).String(), "rest",
		"Content-Range", fmt.Sprintf("%d-%d", last+1, last+4)))
}

// trickle writes a byte now and then, until nobody reads.
func trickle(to *io.PipeWriter) {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for range again.C {
		if _, err := to.Write([]byte{0}); err != nil {
			return
		}
	}
}

// TestIdleReader: who stops reading doesn't hold a blob open, doesn't take what
// it has for all of it, and can fetch the rest.
func TestIdleReader(t *testing.T) {
	w, free := limited(t, "slow", "")
	content := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB, more than sockets hold
	d := digest.FromString(content).String()
	each(t, w, func(w *web, version string) error {
		at, err := free.begin(t.Context(), version)
		if err != nil {
			return err
		}
		if err := success(free.send(t.Context(), http.MethodPut, at+"?digest="+d, content)); err != nil {
			return err
		}
		closed := make(chan struct{}, 2)
		blobClosed.Store(version, closed)
		blob := "/v2/" + version + "/blobs/" + d
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.addr+blob, nil)
		if err != nil {
			return err
		}
		resp, err := w.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		<-closed
		got, err := io.ReadAll(resp.Body)
		if err == nil || len(got) >= len(content) {
			return fmt.Errorf("%d bytes of %d, and no error", len(got), len(content))
		}
		rest, err := free.send(t.Context(), http.MethodGet, blob, "", "Range", fmt.Sprintf("bytes=%d-", len(got)))
		if err == nil && string(got)+rest.body != content {
			err = errors.New("both together aren't what was pushed")
		}
		return success(rest, err)
	})
}

// slowStorage is memory whose repository slow is as slow as some disk: it pauses
// once in all that takes long.
type slowStorage struct{ MemoryStorage }

func (slowStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "oci_registry.storage.slow", New: func() caddy.Module { return new(slowStorage) }}
}

func (*slowStorage) Open(context.Context) (storage.Store, error) { return slowStore{memory.New()}, nil }

type slowStore struct{ storage.Store }

func (s slowStore) Repository(name oci.Name) storage.Repository {
	r := s.Store.Repository(name)
	if name.String() == "slow" {
		return slowRepository{r}
	}
	return watchedRepository{r}
}

type slowRepository struct{ storage.Repository }

func (r slowRepository) OpenBlob(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	b, err := r.Repository.OpenBlob(ctx, d)
	if err == nil {
		b.ReadSeekCloser = &slowBlob{b.ReadSeekCloser, pausing{Reader: b.ReadSeekCloser}}
	}
	return b, err
}

func (r slowRepository) ResumeUpload(ctx context.Context, id string) (storage.Upload, error) {
	u, err := r.Repository.ResumeUpload(ctx, id)
	if err != nil {
		return nil, err
	}
	return slowUpload{u}, nil
}

func (r slowRepository) Update(ctx context.Context, fn func(*storage.Edit) error) error {
	<-time.After(pause)
	return errors.Join(ctx.Err(), r.Repository.Update(ctx, fn))
}

type slowUpload struct{ storage.Upload }

func (u slowUpload) Append(ctx context.Context, offset int64, r io.Reader) (int64, error) {
	return u.Upload.Append(ctx, offset, &pausing{Reader: r})
}

func (u slowUpload) Commit(ctx context.Context, want digest.Digest) (oci.Descriptor, error) {
	<-time.After(pause)
	return u.Upload.Commit(ctx, want)
}

type slowBlob struct {
	io.ReadSeekCloser

	slow pausing
}

func (b *slowBlob) Read(p []byte) (int, error) { return b.slow.Read(p) }

// pausing is a reader that pauses once, in the middle.
type pausing struct {
	io.Reader

	n int64
}

func (p *pausing) Read(b []byte) (int, error) {
	const middle = 300 << 10
	n, err := p.Reader.Read(b)
	if p.n < middle && p.n+int64(n) >= middle {
		<-time.After(pause)
	}
	p.n += int64(n)
	return n, err
}

// watchedRepository says when its blobs are closed.
type watchedRepository struct{ storage.Repository }

// blobClosed has a chan struct{} for some repositories, which gets a value when
// a blob of it is closed.
var blobClosed sync.Map

func (r watchedRepository) OpenBlob(ctx context.Context, d digest.Digest) (*storage.Blob, error) {
	b, err := r.Repository.OpenBlob(ctx, d)
	if closed, ok := blobClosed.Load(r.Name().String()); ok && err == nil {
		b.ReadSeekCloser = watchedBlob{b.ReadSeekCloser, closed.(chan struct{})}
	}
	return b, err
}

type watchedBlob struct {
	io.ReadSeekCloser

	closed chan<- struct{}
}

func (b watchedBlob) Close() error {
	b.closed <- struct{}{}
	return b.ReadSeekCloser.Close()
}
