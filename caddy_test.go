package ociregistry

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/logging"
	_ "github.com/caddyserver/caddy/v2/modules/logging"
	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

func init() {
	caddy.RegisterModule(countedStorage{})
	caddy.RegisterModule(failingApp{})
	caddy.RegisterModule(seenHandler{})
	caddy.RegisterModule(muteProvider{})
	httpcaddyfile.RegisterHandlerDirective("seen", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return seenHandler{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("seen", httpcaddyfile.Before, "tracing") // the first of all
}

// web is the one Caddy of this process, as a client sees it. Tests that use it
// aren't parallel.
type web struct {
	*http.Client
	addr string
}

// newWeb returns a web in which nothing runs yet. It stops what runs when the
// test ends.
func newWeb(t *testing.T) *web {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	t.TempDir() // so that all of the test's folders are removed after Caddy has stopped
	t.Cleanup(func() { stop(t) })
	// Without keep-alive, since a server may close an idle connection just when a
	// request comes, and that's not what is tested here.
	transport := &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Minute}
	return &web{&http.Client{Transport: transport}, addr}
}

// config is a Caddyfile with a site.
func (w *web) config(t *testing.T, global, site string) []byte {
	t.Helper()
	in := fmt.Sprintf("{\nadmin off\npersist_config off\n%s\n}\nhttp://%s {\nseen\n%s\n}", global, w.addr, site)
	out, err := adapt(t, string(caddyfile.Format([]byte(in))))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(out)
}

// run runs the site in place of what ran before.
func (w *web) run(t *testing.T, global, site string) {
	t.Helper()
	load(t, quiet(t, w.config(t, global, site)))
}

// quiet keeps the default log out of the test's output, if the configuration
// doesn't say where it goes.
func quiet(t *testing.T, config []byte) []byte {
	t.Helper()
	var c map[string]any
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	if c["logging"] == nil {
		c["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{"level": "FATAL"}}}
	}
	out, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// answer is a response that was read.
type answer struct {
	*http.Response
	body string
}

// do sends a request and reads the answer.
func (w *web) do(ctx context.Context, method, path string, body io.Reader, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+w.addr+path, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp, string(raw)}, err
}

// want is send in a test that knows the status.
func (w *web) want(t *testing.T, status int, method, path, body string, header ...string) answer {
	t.Helper()
	a, err := w.send(t.Context(), method, path, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != status {
		t.Fatalf("%s %s: got %s, want %d\n%s", method, path, a.Status, status, a.body)
	}
	return a
}

// refusedSoon asks until the answer is 401, which must be within half a minute.
func (w *web) refusedSoon(t *testing.T, method, path, body string, header ...string) {
	t.Helper()
	last := 0
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		a, err := w.send(t.Context(), method, path, body, header...)
		if err != nil {
			t.Fatal(err)
		}
		if last = a.StatusCode; last == http.StatusUnauthorized {
			return
		}
	}
	t.Fatalf("%s %s: it's still %d, want 401", method, path, last)
}

// push pushes an image of one layer, as a client does that has several requests
// for a blob, and returns the first answer that isn't a success as an error.
func (w *web) push(ctx context.Context, repository, tag, layer string) error {
	config := "{}"
	for _, blob := range []string{layer, config} {
		begun, err := w.send(ctx, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", "")
		if err = success(begun, err); err != nil {
			return err
		}
		sent, err := w.send(ctx, http.MethodPatch, begun.Header.Get("Location"), blob, "Content-Type", "application/octet-stream")
		if err = success(sent, err); err != nil {
			return err
		}
		done, err := w.send(ctx, http.MethodPut, sent.Header.Get("Location")+"?digest="+digest.FromString(blob).String(), "")
		if err = success(done, err); err != nil {
			return err
		}
	}
	const image = "application/vnd.oci.image.manifest.v1+json"
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":%d},"layers":[{"mediaType":"application/octet-stream","digest":%q,"size":%d}]}`,
		image, digest.FromString(config), len(config), digest.FromString(layer), len(layer))
	put, err := w.send(ctx, http.MethodPut, "/v2/"+repository+"/manifests/"+tag, manifest, "Content-Type", image)
	return success(put, err)
}

// send is do for a client that meets reloads: net/http closes a connection
// without an answer if the server began to shut down between accepting it and
// reading the request. A request that no handler has seen is sent again; one
// that was seen has to be answered.
func (w *web) send(ctx context.Context, method, path, body string, header ...string) (answer, error) {
	for {
		id := rand.Text()
		a, err := w.do(ctx, method, path, strings.NewReader(body), append(header, "X-Seen", id)...)
		_, handled := seen.LoadAndDelete(id)
		dropped := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
		if handled || !dropped {
			return a, err
		}
	}
}

// seen has the X-Seen of the requests that came to a seenHandler.
var seen sync.Map

// seenConn is the last connection that was made to a server with a seenHandler.
var seenConn atomic.Pointer[net.Conn]

type seenHandler struct{}

func (seenHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.seen", New: func() caddy.Module { return new(seenHandler) }}
}

func (seenHandler) Provision(ctx caddy.Context) error {
	ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server).RegisterConnContext(func(ctx context.Context, c net.Conn) context.Context {
		seenConn.Store(&c)
		return ctx
	})
	return nil
}

func (seenHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if id := r.Header.Get("X-Seen"); id != "" {
		seen.Store(id, true)
	}
	return next.ServeHTTP(w, r)
}

func success(a answer, err error) error {
	if err == nil && a.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", a.Request.Method, a.Request.URL.Path, a.Status, a.body)
	}
	return err
}

// counts are what happened to the stores of one countedStorage.
type counts struct {
	mu             sync.Mutex
	opened, closed int
	tuned          int // the last Tunable

	onClose func() // runs when a store is being closed
}

var counted sync.Map // of *counts, by ID

func countsOf(id string) *counts {
	c, _ := counted.LoadOrStore(id, new(counts))
	return c.(*counts)
}

func (c *counts) get() (opened, closed, tuned int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened, c.closed, c.tuned
}

// countedStorage is memory that counts.
type countedStorage struct {
	ID       string `json:"id"`
	Tunable  int    `json:"tunable,omitempty"`
	FailOpen bool   `json:"fail_open,omitempty"`
	Broken   bool   `json:"broken,omitempty"` // nothing can be read
}

func (countedStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oci_registry.storage.counted",
		New: func() caddy.Module { return new(countedStorage) },
	}
}

func (c *countedStorage) Identity() string { return c.ID }

func (c *countedStorage) Open(context.Context) (storage.Store, error) {
	if c.FailOpen {
		return nil, errors.New("the disk is on fire")
	}
	n := countsOf(c.ID)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.opened++
	return &countedStore{memory.New(), n, c.Broken}, nil
}

func (c *countedStorage) Tune(storage.Store) {
	n := countsOf(c.ID)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tuned = c.Tunable
}

type countedStore struct {
	storage.Store
	counts *counts
	broken bool
}

func (s *countedStore) Repository(name oci.Name) storage.Repository {
	if s.broken {
		return brokenRepository{s.Store.Repository(name)}
	}
	return s.Store.Repository(name)
}

func (s *countedStore) Diagnose() []storage.Check {
	return []storage.Check{{Name: "conditions", Verdict: storage.Good}}
}

type brokenRepository struct{ storage.Repository }

func (brokenRepository) Index(context.Context) (storage.Index, error) {
	return nil, errors.New("secret detail")
}

func (s *countedStore) Ready(ctx context.Context) error {
	if s.broken {
		return fmt.Errorf("secret detail: %w", storage.ErrFull)
	}
	return s.Store.Ready(ctx)
}

func (s *countedStore) Close() error {
	if f := s.counts.onClose; f != nil {
		f()
	}
	err := s.Store.Close()
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	s.counts.closed++
	return err
}

// failingApp is an app that can't be started.
type failingApp struct{}

func (failingApp) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "failing", New: func() caddy.Module { return new(failingApp) }}
}

func (*failingApp) Start() error { return errors.New("this app never starts") }
func (*failingApp) Stop() error  { return nil }

// withJSON returns config with the value at a path of object keys replaced.
func withJSON(t *testing.T, config []byte, value string, path ...string) []byte {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(config, &root); err != nil {
		t.Fatal(err)
	}
	at := root
	for _, key := range path[:len(path)-1] {
		at = at[key].(map[string]any)
	}
	at[path[len(path)-1]] = json.RawMessage(bytes.TrimSpace([]byte(value)))
	out, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
