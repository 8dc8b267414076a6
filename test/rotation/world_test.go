//go:build real

// Package rotation changes who may sign in, at every source of identities, while
// clients push and pull. Five seconds later all answers are those of after the change,
// a reload isn't needed, and who may push before and after notices nothing.
package rotation

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/test/crowd"
	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// soon is how long answers may be wrong after a change.
const soon = 5 * time.Second

// rounds is how often a source changes.
func rounds() int { return tool.Sized(1, 6) }

// world is a registry that knows its users by some source.
type world struct {
	*testing.T
	*registry.Server

	root  string
	turns atomic.Uint64
	crowd *crowd.Crowd
}

const config = `{
	admin ADMIN
}
http://HOST {
	oci_registry {
		root %q
		state store
		auth {
			%s
			challenge bearer
		}
		policy {
			allow pull push overwrite ** to authenticated
		}
	}
}`

// start starts a registry with providers.
func start(t *testing.T, providers string) *world {
	t.Helper()
	root := filepath.Join(t.TempDir(), "registry")
	return &world{T: t, Server: registry.Config(t, fmt.Sprintf(config, root, providers)), root: root}
}

// caller is somebody who pushes and pulls.
type caller struct {
	*world

	what       string
	repository *remote.Repository
}

// caller returns one whose requests go through a transport.
func (w *world) caller(what string, transport http.RoundTripper) *caller {
	r := &remote.Registry{URL: w.URL, Client: &http.Client{Transport: transport}}
	return &caller{w, what, r.Repository("app")}
}

// turn pushes an image and pulls it.
func (c *caller) turn(ctx context.Context) error {
	n := c.turns.Add(1)
	content, tag := image.Random(n, 2, 8<<10), fmt.Sprint("v", n)
	if err := c.repository.Push(ctx, content, tag); err != nil {
		return fmt.Errorf("%s: push: %w", c.what, err)
	}
	if _, err := c.repository.Verify(ctx, tag); err != nil {
		return fmt.Errorf("%s: pull: %w", c.what, err)
	}
	return nil
}

// goOn has callers push and pull from now on, none of whom may ever fail.
func (w *world) goOn(all ...*caller) {
	w.Helper()
	var clients []func(context.Context) error
	for _, c := range all {
		clients = append(clients, c.turn)
	}
	w.crowd = crowd.Start(w.T, clients...)
}

// change changes something: those that come are let in after it, and not before; those
// that go are let in before, and not after.
func (w *world) change(do func(), come, gone []*caller) {
	w.Helper()
	w.want(gone, true)
	w.want(come, false)
	w.crowd.Await(4)
	do()
	late := time.Now().Add(soon)
	var all sync.WaitGroup
	for _, c := range come {
		all.Go(func() { c.until(late, true) })
	}
	for _, c := range gone {
		all.Go(func() { c.until(late, false) })
	}
	all.Wait()
	w.crowd.Await(4)
	for range 2 {
		w.want(come, true)
		w.want(gone, false)
	}
}

// until waits until a caller is let in, or isn't, as it has to be for one who asks late.
func (c *caller) until(late time.Time, in bool) {
	for {
		began := time.Now()
		err := c.turn(c.Context())
		if err != nil && !refused(err) {
			c.Errorf("neither let in nor refused: %v", err)
			return
		}
		if in == (err == nil) {
			return
		}
		if began.After(late) {
			c.Errorf("%s, %s after the change: %v, want to be let in: %t", c.what, soon, err, in)
			return
		}
	}
}

func (w *world) want(all []*caller, in bool) {
	w.Helper()
	for _, c := range all {
		if err := c.turn(w.Context()); in != (err == nil) || !in && !refused(err) {
			w.Fatalf("%s: %v, want to be let in: %t", c.what, err, in)
		}
	}
}

// refused reports whether an error says that somebody isn't let in: by an answer, or
// before there is one.
func refused(err error) bool {
	status := remote.Status(err)
	return status == http.StatusUnauthorized || status == 0 && isAlert(err)
}

// stop lets all callers end.
func (w *world) stop() {
	w.Helper()
	w.Logf("%d images, pushed and pulled", w.crowd.Stop())
}

// likeDocker has a token, and gets another one when that is refused.
type likeDocker struct {
	world        *world
	user, secret string

	mu    sync.Mutex
	token string
}

// RoundTrip implements http.RoundTripper.
func (d *likeDocker) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	token := d.token
	d.mu.Unlock()
	resp, err := remote.Bearer(token).RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	_ = resp.Body.Close() // what it says is known
	if token, err = d.world.token(r.Context(), d.user, d.secret); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.token = token
	d.mu.Unlock()
	if r.GetBody != nil {
		r = r.Clone(r.Context())
		if r.Body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	return remote.Bearer(token).RoundTrip(r)
}

// token gets a token for all that callers do.
func (w *world) token(ctx context.Context, user, secret string) (string, error) {
	r := remote.As(w.URL, remote.Basic(user, secret))
	query := url.Values{"service": {w.Host}, "scope": {"repository:app:pull,push"}}
	resp, err := r.Do(ctx, http.MethodGet, "/v2/token?"+query.Encode(), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var got struct{ Token string }
	return got.Token, json.NewDecoder(resp.Body).Decode(&got)
}

// byToken is a caller with a token that was got with a password.
func (w *world) byToken(user, secret string) *caller {
	w.Helper()
	token, err := w.token(w.Context(), user, secret)
	if err != nil {
		w.Fatal(err)
	}
	return w.caller(user+" by a token", remote.Bearer(token))
}
