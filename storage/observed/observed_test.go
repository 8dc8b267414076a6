package observed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
	"github.com/caddy-oci/oci-registry/storage/observed"
	"github.com/caddy-oci/oci-registry/storage/storagetest"
)

// observer is a Begin that remembers.
type observer struct {
	mu     sync.Mutex
	open   map[string]int // methods that have begun and not ended
	ended  []string       // "method" or "method: error"
	orphan []string       // methods that weren't called in the context of key
}

type key struct{}

func (o *observer) begin(ctx context.Context, method string) (context.Context, func(error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = make(map[string]int)
	}
	o.open[method]++
	if ctx.Value(key{}) != method {
		o.orphan = append(o.orphan, method)
	}
	return context.WithValue(ctx, key{}, method), func(err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.open[method]--
		if err != nil {
			method += ": " + err.Error()
		}
		o.ended = append(o.ended, method)
	}
}

// wantAllEnded: what has begun ends, once.
func (o *observer) wantAllEnded(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for method, n := range o.open {
		if n != 0 {
			t.Errorf("%d of %s didn't end", n, method)
		}
	}
}

// It is a store like any other.
func TestStore(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) storage.Store {
		o := new(observer)
		t.Cleanup(func() { o.wantAllEnded(t) })
		return observed.New(memory.New(), o.begin)
	})
}

// quick are the methods that nobody is told of.
var quick = []string{"StatBlob", "OpenBlob", "Ready"}

// Everything else that has a context is told of, and goes on in the context that
// it was given.
func TestWhatIsTold(t *testing.T) {
	t.Parallel()
	var outer, inner observer
	s := observed.New(observed.New(memory.New(), inner.begin), outer.begin)
	use(t, s)
	want := make(map[string]bool)
	for _, i := range []reflect.Type{reflect.TypeFor[storage.Store](), reflect.TypeFor[storage.Repository](), reflect.TypeFor[storage.Upload]()} {
		for m := range i.Methods() {
			takesContext := m.Type.NumIn() > 0 && m.Type.In(0) == reflect.TypeFor[context.Context]()
			if takesContext && !slices.Contains(quick, m.Name) {
				want[m.Name] = true
			}
		}
	}
	got := make(map[string]bool)
	for _, method := range outer.ended {
		got[method] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("told of %v, want %v", got, want)
	}
	outer.wantAllEnded(t)
	if !slices.Equal(outer.ended, inner.ended) || len(inner.orphan) > 0 {
		t.Errorf("outside %q\ninside  %q\nof those in another context %q", outer.ended, inner.ended, inner.orphan)
	}
}

// use calls every method.
func use(t *testing.T, s storage.Store) {
	t.Helper()
	check := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	a, b := name(t, "a"), name(t, "b")
	r := s.Repository(a)
	d := digest.FromString("x")
	u, err := r.NewUpload(ctx, storage.UploadOptions{})
	check(u, err)
	check(u.Append(ctx, 0, strings.NewReader("x")))
	u, err = r.ResumeUpload(ctx, u.ID())
	check(u, err)
	check(u.Commit(ctx, d))
	check(nil, u.Cancel(ctx))
	check(s.Repository(b).MountBlob(ctx, d, a))
	m, err := oci.ParseManifest(oci.MediaTypeImageManifest, fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/x","digest":%q,"size":1},"layers":[]}`, oci.MediaTypeImageManifest, d), digest.SHA256)
	check(m, err)
	check(nil, storage.PutManifest(ctx, r, m, storage.PutOptions{}))
	check(r.Resolve(ctx, oci.DigestRef(m.Digest)))
	check(r.Referrers(ctx, d, ""))
	check(r.Index(ctx))
	check(r.StatBlob(ctx, d))
	blob, err := r.OpenBlob(ctx, d)
	check(blob, err)
	check(nil, blob.Close())
	for n, err := range s.Repositories(ctx, oci.Name{}) {
		check(n, err)
	}
	check(nil, s.Ready(ctx))
}

func name(t *testing.T, s string) oci.Name {
	t.Helper()
	n, err := oci.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Who is told of a failure is told what it was.
func TestErrorsAreTold(t *testing.T) {
	t.Parallel()
	var o observer
	s := observed.New(memory.New(), o.begin)
	r := s.Repository(name(t, "a"))
	cause := errors.New("the disk is on fire")
	if err := r.Update(t.Context(), func(*storage.Edit) error { return cause }); !errors.Is(err, cause) {
		t.Fatal(err)
	}
	if _, err := r.ResumeUpload(t.Context(), "nothing"); err == nil {
		t.Fatal("a session that nobody began")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range s.Repositories(t.Context(), oci.Name{}) {
		if !errors.Is(err, storage.ErrClosed) {
			t.Fatal(err)
		}
	}
	if len(o.ended) != 3 || o.ended[0] != "Update: the disk is on fire" || !strings.HasPrefix(o.ended[1], "ResumeUpload: ") ||
		o.ended[2] != "Repositories: storage: closed" {
		t.Errorf("told of %q", o.ended)
	}
}

// What a store is able to do beside being one is found behind the observer.
func TestAbilities(t *testing.T) {
	t.Parallel()
	s := observed.New(memory.New(), new(observer).begin)
	if _, ok := storage.As[storage.UploadCounter](s); !ok {
		t.Error("the store doesn't count its uploads any more")
	}
	if _, ok := storage.As[storage.PullRecorder](observed.New(pulled{memory.New()}, new(observer).begin).Repository(name(t, "a"))); !ok {
		t.Error("the repository doesn't record its pulls any more")
	}
}

// pulled is a store whose repositories remember pulls.
type pulled struct{ storage.Store }

func (p pulled) Repository(n oci.Name) storage.Repository { return recorder{p.Store.Repository(n)} }

type recorder struct{ storage.Repository }

func (recorder) RecordPull(context.Context, digest.Digest) {}
