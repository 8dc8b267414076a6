package ociregistry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"
)

// countedConfig is a site that serves one registry in a countedStorage.
func (w *web) countedConfig(t *testing.T, s countedStorage) []byte {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	config := quiet(t, w.config(t, "oci_registry {\nregistry main {\nstorage memory\nanonymous all\n}\n}", "oci_registry main"))
	return withJSON(t, config, `{"module":"counted",`+string(raw[1:]), "apps", "oci_registry", "registries", "main", "storage")
}

func wantCounts(t *testing.T, id string, opened, closed int) {
	t.Helper()
	if o, c, _ := countsOf(id).get(); o != opened || c != closed {
		t.Fatalf("store opened %d times and closed %d times, want %d and %d", o, c, opened, closed)
	}
}

// upload is a PATCH that is under way until it's finished.
type upload struct {
	pipe   *io.PipeWriter
	answer chan answer
}

// startUpload returns once the server has begun to read the content.
func (w *web) startUpload(t *testing.T) *upload {
	t.Helper()
	begun := w.want(t, http.StatusAccepted, http.MethodPost, "/v2/slow/blobs/uploads/", "")
	body, pipe := io.Pipe()
	u := &upload{pipe, make(chan answer, 1)}
	go func() {
		a, err := w.do(t.Context(), http.MethodPatch, begun.Header.Get("Location"), body, "Content-Type", "application/octet-stream", "Expect", "100-continue")
		if err != nil {
			a.body = err.Error()
		}
		u.answer <- a
	}()
	u.write(t, "first,")
	return u
}

// write returns once the client has taken the content, and so the server has
// asked for it.
func (u *upload) write(t *testing.T, content string) {
	t.Helper()
	if _, err := io.WriteString(u.pipe, content); err != nil {
		t.Fatal(err)
	}
}

func (u *upload) finish(t *testing.T) answer {
	t.Helper()
	u.write(t, "last")
	if err := u.pipe.Close(); err != nil {
		t.Fatal(err)
	}
	a := <-u.answer
	if a.Response == nil || a.StatusCode != http.StatusAccepted {
		t.Fatalf("the upload failed: %+v", a)
	}
	return a
}

func TestReloadsDuringUpload(t *testing.T) {
	w := newWeb(t)
	id := rand.Text()
	load(t, w.countedConfig(t, countedStorage{ID: id}))
	up := w.startUpload(t)
	for i := range 5 {
		load(t, w.countedConfig(t, countedStorage{ID: id, Tunable: i + 1}))
		if _, _, tuned := countsOf(id).get(); tuned != i+1 {
			t.Fatalf("reload %d: tuned to %d", i+1, tuned)
		}
		up.write(t, "more,")
	}
	location := up.finish(t).Header.Get("Location")
	content := "first," + strings.Repeat("more,", 5) + "last"
	w.want(t, http.StatusCreated, http.MethodPut, location+"?digest="+digest.FromString(content).String(), "")
	wantCounts(t, id, 1, 0)
	stop(t)
	wantCounts(t, id, 1, 1)
}

func TestFailedReloadsLeaveTheOldConfiguration(t *testing.T) {
	w := newWeb(t)
	id := rand.Text()
	load(t, w.countedConfig(t, countedStorage{ID: id, Tunable: 7}))
	up := w.startUpload(t)
	// Apps start in any order, so that some of these start ours first and some don't.
	bad := withJSON(t, w.countedConfig(t, countedStorage{ID: id, Tunable: 8}), "{}", "apps", "failing")
	for range 8 {
		if err := tryLoad(bad); err == nil || !strings.Contains(err.Error(), "never starts") {
			t.Fatalf("Load: %v", err)
		}
	}
	if _, _, tuned := countsOf(id).get(); tuned != 7 {
		t.Fatalf("tuned to %d after failed reloads, want 7", tuned)
	}
	up.finish(t)
	if err := w.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, id, 1, 0)
}

// The new configuration has another address too, so that it's known which of
// the two a request comes to.
func TestMovingDuringUpload(t *testing.T) {
	w, moved := newWeb(t), newWeb(t)
	here, there := rand.Text(), rand.Text()
	load(t, w.countedConfig(t, countedStorage{ID: here}))
	up := w.startUpload(t)
	load(t, moved.countedConfig(t, countedStorage{ID: there}))
	if err := moved.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, here, 1, 0) // the upload still needs it
	wantCounts(t, there, 1, 0)
	up.finish(t)
	wantCounts(t, here, 1, 1)
	wantCounts(t, there, 1, 0)
}

func TestReloadStorm(t *testing.T) {
	w := newWeb(t)
	id := rand.Text()
	load(t, w.countedConfig(t, countedStorage{ID: id}))
	var pushed atomic.Int64
	stop := make(chan struct{})
	var pushers sync.WaitGroup
	for i := range 4 {
		pushers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := w.push(t.Context(), fmt.Sprintf("repo%d", i), fmt.Sprintf("v%d", n), fmt.Sprintf("layer %d", n)); err != nil {
					t.Errorf("push %d of %d: %v", n, i, err)
					return
				}
				pushed.Add(1)
			}
		})
	}
	for i := range 60 {
		load(t, w.countedConfig(t, countedStorage{ID: id, Tunable: i}))
	}
	for seen := pushed.Load(); pushed.Load() < seen+4 && !t.Failed(); {
		load(t, w.countedConfig(t, countedStorage{ID: id})) // until each had its turn
	}
	close(stop)
	pushers.Wait()
	wantCounts(t, id, 1, 0)
	t.Logf("%d pushes", pushed.Load())
}

// 'caddy validate' runs beside a server, in another process or in this one.
func TestValidateTouchesNothing(t *testing.T) {
	w := newWeb(t)
	root := filepath.Join(t.TempDir(), "registry")
	id := rand.Text()
	for _, config := range [][]byte{
		w.config(t, "", "oci_registry {\nroot "+root+"\n}"),
		w.countedConfig(t, countedStorage{ID: id, Tunable: 3}),
	} {
		var c *caddy.Config
		if err := json.Unmarshal(quiet(t, config), &c); err != nil {
			t.Fatal(err)
		}
		if err := caddy.Validate(c); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(root); !os.IsNotExist(err) {
		t.Fatalf("the root is there: %v", err)
	}
	wantCounts(t, id, 0, 0)
}

func TestStoreThatCantBeOpened(t *testing.T) {
	w := newWeb(t)
	id := rand.Text()
	err := tryLoad(w.countedConfig(t, countedStorage{ID: id, FailOpen: true}))
	if err == nil || !strings.Contains(err.Error(), "open storage of registry main: the disk is on fire") {
		t.Fatalf("Load: %v", err)
	}
	load(t, w.countedConfig(t, countedStorage{ID: id}))
	if err := w.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, id, 1, 0)
}

// provisioned is a configuration's app and its handler, outside of Caddy's own
// order of events.
func provisioned(t *testing.T, config []byte) (*App, *Handler) {
	t.Helper()
	var c *caddy.Config
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(c)
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("oci_registry")
	if err != nil {
		t.Fatal(err)
	}
	h, err := ctx.LoadModuleByID("http.handlers.oci_registry", json.RawMessage(`{"registry":"main"}`))
	if err != nil {
		t.Fatal(err)
	}
	return app.(*App), h.(*Handler)
}

func wantCode(t *testing.T, h *Handler, want int) http.Header {
	t.Helper()
	rec := serveOnce(t, h, http.MethodGet, "/v2/a/tags/list")
	if rec.Code != want {
		t.Fatalf("got %d, want %d", rec.Code, want)
	}
	return rec.Header()
}

// Caddy may start the HTTP server before the app.
func TestRequestBeforeStart(t *testing.T) {
	id := rand.Text()
	app, h := provisioned(t, newWeb(t).countedConfig(t, countedStorage{ID: id}))
	wantCode(t, h, http.StatusNotFound)
	wantCounts(t, id, 1, 0)
	if err := app.Start(); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, id, 1, 0)
	if err := app.Cleanup(); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, id, 1, 1)
}

// A server may read a request after its configuration was replaced.
func TestRequestAfterCleanup(t *testing.T) {
	id := rand.Text()
	app, h := provisioned(t, newWeb(t).countedConfig(t, countedStorage{ID: id}))
	wantCode(t, h, http.StatusNotFound)
	if err := app.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if header := wantCode(t, h, http.StatusServiceUnavailable); header.Get("Retry-After") == "" {
		t.Fatal("no Retry-After")
	}
	wantCounts(t, id, 1, 1)
}

// If the registry is in use again meanwhile, the request finds the new store.
func TestRequestAfterReopening(t *testing.T) {
	id := rand.Text()
	config := newWeb(t).countedConfig(t, countedStorage{ID: id})
	app, h := provisioned(t, config)
	wantCode(t, h, http.StatusNotFound)
	var next *App
	countsOf(id).onClose = func() {
		countsOf(id).onClose = nil
		next, _ = provisioned(t, config)
	}
	if err := app.Cleanup(); err != nil {
		t.Fatal(err)
	}
	wantCode(t, h, http.StatusNotFound) // and not 503, as of a closed store
	wantCounts(t, id, 2, 1)
	if err := next.Cleanup(); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, id, 2, 2)
}

// When Caddy has stopped, nothing of a registry runs on.
func TestStopLeavesNothingRunning(t *testing.T) {
	before := goleak.IgnoreCurrent()
	w := newWeb(t)
	site := "oci_registry {\nroot " + t.TempDir() + "\nanonymous all\nauth {\n" + htpasswdAlice(t) + "\napi_keys\n}\n}"
	w.run(t, "", site)
	if err := w.push(t.Context(), "a", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	w.run(t, "", site)
	stop(t)
	goleak.VerifyNone(t, before)
}

// Who connects while a configuration is replaced, and speaks HTTP/2, may reach the old one, which
// doesn't tell that connection to go away (https://go.dev/issue/81153): it stays for a request,
// and not for as long as the client likes.
func TestConnectionsLeaveTheOldConfiguration(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", "oci_registry {\nstorage memory\nanonymous all\n}")
	early, err := new(net.Dialer).DialContext(t.Context(), "tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "") // the connection before was accepted before
	w.run(t, "", "oci_registry {\nstorage memory\nanonymous none\nauth {\n"+htpasswdAlice(t)+"\n}\n}")

	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if conn := early; conn != nil {
			early = nil
			return conn, nil
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	defer transport.CloseIdleConnections()
	client := &web{&http.Client{Transport: transport}, w.addr}
	if _, err := client.do(t.Context(), http.MethodGet, "/v2/", nil); err != nil { // whatever the old one says
		t.Fatal(err)
	}
	client.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/", "")
}
