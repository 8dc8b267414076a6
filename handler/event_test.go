package handler_test

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
)

// TestOperations: who counts by Operation may set up what counts beforehand.
func TestOperations(t *testing.T) {
	t.Parallel()
	unseen := handler.Operations()
	known := slices.Clone(unseen)
	for _, tc := range specCases {
		c := newClient(t, handler.Options{Observe: func(_ *http.Request, e *handler.Event) {
			if !slices.Contains(known, e.Operation) {
				t.Errorf("%s: operation %q isn't one of %q", tc.name, e.Operation, known)
			}
			unseen = slices.DeleteFunc(unseen, func(op string) bool { return op == e.Operation })
		}})
		c.pushBlob("a/b", config)
		c.pushBlob("a/b", layer)
		c.pushManifest("a/b", "v1", img, plain)
		for _, x := range tc.steps {
			c.send(x.method, x.target, x.body, x.header...)
		}
	}
	if len(unseen) > 0 {
		t.Errorf("no request was a %q", unseen)
	}
}

// TestDuration: an Event says how long all of the request took.
func TestDuration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var took []time.Duration
		c := newClient(t, handler.Options{
			Authorizer: authorizer(func(authz.Question) (authz.Answer, error) {
				time.Sleep(3 * time.Second)
				return authz.Answer{}, nil
			}),
			Observe: func(_ *http.Request, e *handler.Event) { took = append(took, e.Duration) },
		})
		c.send("GET", "/v2/", "")
		if !slices.Equal(took, []time.Duration{3 * time.Second}) {
			t.Errorf("took %v, want 3s", took)
		}
	})
}
