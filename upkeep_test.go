package ociregistry

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
	"github.com/caddy-oci/oci-registry/storage"
)

// Chores are done soon after the start and then as often as they say, and one that
// fails is done again.
func TestUpkeep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var hourly, daily atomic.Int64
		u := startUpkeep(slog.New(slog.NewTextHandler(&out, nil)), []chore{
			{"looking", time.Hour, func(context.Context) error { hourly.Add(1); return errors.New("down") }},
			{"forgetting", 24 * time.Hour, func(context.Context) error { daily.Add(1); return storage.ErrStandby }},
		})
		time.Sleep(2 * choreDelay)
		synctest.Wait()
		if h, d := hourly.Load(), daily.Load(); h != 1 || d != 1 {
			t.Errorf("soon after the start it's %d and %d", h, d)
		}
		time.Sleep(48 * time.Hour)
		synctest.Wait()
		if h, d := hourly.Load(), daily.Load(); h != 49 || d != 3 {
			t.Errorf("after two days it's %d and %d", h, d)
		}
		u.stop()
		if got := out.String(); !strings.Contains(got, "level=WARN msg=looking error=down") || strings.Contains(got, "forgetting") {
			t.Errorf("the log has %s", got)
		}
	})
}

// Stopping cuts a chore short, and waits for it.
func TestUpkeepStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var ended atomic.Bool
		u := startUpkeep(slog.New(slog.NewTextHandler(&out, nil)), []chore{{"waiting", time.Hour, func(ctx context.Context) error {
			<-ctx.Done()
			ended.Store(true)
			return ctx.Err()
		}}})
		time.Sleep(2 * choreDelay)
		synctest.Wait()
		began := time.Now()
		u.stop()
		if !ended.Load() || time.Since(began) != 0 || out.Len() > 0 {
			t.Errorf("ended %v after %v, and said %q", ended.Load(), time.Since(began), &out)
		}
		u.stop()
		(*upkeep)(nil).stop()
	})
}

// A registry that serves looks after its keys and what was revoked of its tokens.
func TestChores(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)+"\n\t\t\tapi_keys"))
	id, _ := w.apiKey(t, `{"label":"ci","expires_in":3600}`, "Authorization", alice)
	r, err := servedAs("inline")
	if err != nil {
		t.Fatal(err)
	}
	if r.upkeep == nil {
		t.Error("nothing does the chores")
	}
	const over = "token/revoked/x"
	if _, err := r.state.Save(t.Context(), over, []byte(`{"before":1}`), ""); err != nil {
		t.Fatal(err)
	}
	for _, c := range r.chores() {
		if err := c.do(t.Context()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, _, err := r.state.Load(t.Context(), over); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was revoked long ago is kept: %v", err)
	}
	kept := ""
	for key, err := range r.state.List(t.Context(), "apikeys") {
		if err != nil {
			t.Fatal(err)
		}
		value, _, err := r.state.Load(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		kept += string(value)
	}
	if !strings.Contains(kept, id) || !strings.Contains(kept, `"warned":true`) {
		t.Errorf("nobody was told that the key expires soon: %s", kept)
	}
}

// Whoever reads the log sees which keys expire soon, and which have lost their owner.
func TestKeysThatEndAreLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := &Registry{log: slog.New(slog.NewTextHandler(&out, nil))}
	for _, kind := range []apikey.EventKind{apikey.Created, apikey.Revoked, apikey.Expiring, apikey.Orphaned, apikey.Adopted, apikey.Removed} {
		out.Reset()
		r.observeKey(t.Context(), apikey.Event{Kind: kind, Key: apikey.Key{ID: "k1", Owner: "alice", Label: "ci"}})
		warned := strings.Contains(out.String(), "level=WARN") && strings.Contains(out.String(), "key=k1 owner=alice")
		if want := kind == apikey.Expiring || kind == apikey.Orphaned; warned != want {
			t.Errorf("%s: the log has %q", kind, &out)
		}
	}
}
