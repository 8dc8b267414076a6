package handler_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// Under a policy, who may not know of a repository gets the same answer whether it's
// there or not, whatever is asked.
func TestPolicyHidesRepositories(t *testing.T) {
	t.Parallel()
	p, err := authz.New(authz.Config{
		Rules: []authz.Rule{
			{Allow: []authz.Action{authz.Pull, authz.Push}, Repositories: "secret/**", To: []string{"alice"}},
			{Allow: []authz.Action{authz.Pull, authz.Push}, Repositories: "inbox", To: []string{"bob"}},
		},
		NoOverwrite: []authz.NoOverwrite{{Tags: []string{"v*"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	store := memory.New()
	t.Cleanup(func() { _ = store.Close() })
	newClient(t, handler.Options{Store: store}).pushImage("secret/here", "a")
	for _, who := range []string{"", "bob"} {
		c := newClient(t, handler.Options{
			Store: store, Authorizer: p,
			Identity:  func(*http.Request) (authz.Identity, error) { return authz.Identity{ID: who}, nil },
			Challenge: func(*http.Request, authz.Question) string { return `Basic realm="x"` },
		})
		for _, x := range [][2]string{
			{"GET", "manifests/v1"},
			{"HEAD", "manifests/v1"},
			{"PUT", "manifests/v1"},
			{"DELETE", "manifests/v1"},
			{"GET", "blobs/" + layerDigest.String()},
			{"HEAD", "blobs/" + layerDigest.String()},
			{"GET", "tags/list"},
			{"GET", "referrers/" + layerDigest.String()},
			{"POST", "blobs/uploads/"},
			{"GET", "blobs/uploads/x"},
		} {
			here, gone := c.send(x[0], "/v2/secret/here/"+x[1], "{}"), c.send(x[0], "/v2/secret/gone/"+x[1], "{}")
			here.body = strings.ReplaceAll(here.body, "secret/here", "secret/gone")
			if here.status != http.StatusUnauthorized && here.status != http.StatusForbidden || !reflect.DeepEqual(here, gone) {
				t.Errorf("%q, %s %s: %v, without the repository %v", who, x[0], x[1], here, gone)
			}
		}
		mount := "/v2/inbox/blobs/uploads/?mount=" + layerDigest.String() + "&from=secret/"
		here, gone := c.send("POST", mount+"here", ""), c.send("POST", mount+"gone", "")
		if here.status != gone.status || who == "bob" && here.status != http.StatusAccepted {
			t.Errorf("%q, a mount: %v, without the repository %v", who, here, gone)
		}
	}
}
