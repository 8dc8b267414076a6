package ociregistry

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// sender sends what comes from an address and a user.
type sender struct {
	from, authorization string
	next                http.RoundTripper
}

func (s sender) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Forwarded-For", s.from)
	r.Header.Set("Authorization", s.authorization)
	return s.next.RoundTrip(r)
}

// TestExampleNetworks runs examples/networks as it stands there, and asks from
// addresses that a proxy vouches for.
func TestExampleNetworks(t *testing.T) {
	w := newWeb(t)
	raw, err := os.ReadFile("examples/networks/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ALICE_HASH", aliceHash)
	config, err := adapt(t, strings.NewReplacer(
		"{\n\toci_registry {", "{\n\tadmin off\n\tpersist_config off\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1\n\t}\n\toci_registry {",
		"registry.example.com", "http://"+w.addr, "/srv/registry", t.TempDir(),
	).Replace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	load(t, quiet(t, []byte(config)))
	const build, house, outside = "10.1.0.5", "10.2.0.5", "203.0.113.5"
	ci := &web{&http.Client{Transport: sender{build, alice, w.Transport}}, w.addr}
	for _, name := range []string{"public/app", "team/app"} {
		if err := ci.push(t.Context(), name, "v1", "layer"); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		from, user, method, path string
		want                     int
	}{
		{build, "", http.MethodGet, "/v2/", http.StatusUnauthorized},
		{build, alice, http.MethodGet, "/v2/team/app/tags/list", http.StatusOK},
		{house, "", http.MethodGet, "/v2/", http.StatusOK},
		{house, "", http.MethodGet, "/v2/team/app/tags/list", http.StatusOK},
		{house, "", http.MethodGet, "/v2/_catalog", http.StatusOK},
		{house, alice, http.MethodPost, "/v2/team/app/blobs/uploads/", http.StatusForbidden},
		{house, alice, http.MethodDelete, "/v2/team/app/manifests/v1", http.StatusForbidden},
		{outside, "", http.MethodGet, "/v2/", http.StatusOK},
		{outside, "", http.MethodGet, "/v2/public/app/tags/list", http.StatusOK},
		{outside, alice, http.MethodPost, "/v2/public/app/blobs/uploads/?mount=" + digest.FromString("layer").String() + "&from=team/app", http.StatusForbidden},
		{outside, "", http.MethodGet, "/v2/team/app/tags/list", http.StatusForbidden},
		{outside, "", http.MethodGet, "/v2/public/../team/app/tags/list", http.StatusForbidden},
		{outside, "", http.MethodGet, "/v2/public%2f..%2fteam/app/tags/list", http.StatusForbidden},
		{outside, "", http.MethodGet, "/v2/_catalog", http.StatusForbidden},
		{outside, "", http.MethodGet, "/", http.StatusForbidden},
	} {
		w.want(t, tc.want, tc.method, tc.path, "", "X-Forwarded-For", tc.from, "Authorization", tc.user)
	}
}
