package handler_test

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
)

// seen is what is left of a request that has been served.
type seen struct {
	event  *handler.Event
	want   []authz.Access
	header http.Header
}

// copied is s in memory of its own.
func (s seen) copied() seen {
	e := *s.event
	return seen{&e, append([]authz.Access(nil), s.want...), s.header.Clone()}
}

// TestLasting: what was told of a request, and answered, stays as it was while others
// are served, and nothing of it is in what's told of them.
func TestLasting(t *testing.T) {
	t.Parallel()
	var last seen
	c := newClient(t, handler.Options{
		Identity: func(r *http.Request) (authz.Identity, error) { return authz.Identity{ID: r.Header.Get("User")}, nil },
		Authorizer: authorizer(func(q authz.Question) (authz.Answer, error) {
			last.want = q.Want
			return authz.Answer{}, nil
		}),
		Observe: func(_ *http.Request, e *handler.Event) { last.event = e },
	})
	c.pushImage("a/b", "")
	serve := func(method, target, user string) seen {
		r := httptest.NewRequest(method, target, nil)
		r.Header.Set("User", user)
		w := httptest.NewRecorder()
		last = seen{}
		c.h.ServeHTTP(w, r)
		last.header = w.Header() // the handler's own, not a copy
		return last
	}
	var kept, were []seen
	for range 20 {
		for _, s := range []seen{
			serve("HEAD", manifestPath("a/b", "v1"), "jane"),
			serve("GET", blobPath("a/b", layerDigest), "joe"),
			serve("GET", manifestPath("a/b", "v2"), "jane"),
			serve("GET", "/v2/%2e%2e/x", "joe"),
		} {
			kept, were = append(kept, s), append(were, s.copied())
		}
		ping := serve("GET", "/v2/", "")
		ping.event.Duration = 0
		if want := (handler.Event{Operation: "ping", Status: 200, Sent: ping.event.Sent}); !reflect.DeepEqual(*ping.event, want) {
			t.Fatalf("told of a ping: %+v, want %+v", *ping.event, want)
		}
	}
	for i := range kept {
		if !reflect.DeepEqual(kept[i], were[i]) {
			t.Fatalf("request %d was %+v, and is %+v", i, were[i], kept[i])
		}
	}
}
