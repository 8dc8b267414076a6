//go:build real

package oidc

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/remote"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// twoRegistries is a Caddyfile with two registries at one provider, whose groups are
// what it calls people's families. Content and sessions are in folders.
const twoRegistries = `{
	admin ADMIN
	persist_config off
	storage file_system %[1]q
	log {
		level DEBUG
	}
	oci_registry {
		registry one {
			root %[2]q
			auth {
				provider oci_oidc {
					issuer zitadel %[4]s {
						client_id web
						client_secret {env.OIDC_SECRET}
						scopes openid email profile
						user email
						groups family_name
					}
				}
				api_keys
			}
			policy {
				allow pull ** to authenticated
				allow pull push team/** to group:User
				allow pull push others/** to group:User2
			}
		}
		registry two {
			root %[3]q
			anonymous none
			auth {
				provider oci_oidc {
					issuer zitadel %[4]s {
						client_id web
						client_secret {env.OIDC_SECRET}
						scopes openid email profile
						user email
					}
				}
				api_keys
			}
		}
	}
}
http://HOST {
	oci_registry one
}
http://%[5]s {
	oci_registry two
}
`

// status returns what a page's script is answered, which the page that is open runs.
func status(t *testing.T, b *tool.Browser, method, path string) string {
	t.Helper()
	got, err := b.Eval(fmt.Sprintf(`fetch(%q, {method: %q}).then(r => r.status)`, path, method))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestABrowserAtARegistry signs in at a registry with a browser, which may then do what
// the policy says of the provider's groups, makes a key for a client without a browser,
// outlives a restart, is nobody at another registry, and signs out.
func TestABrowserAtARegistry(t *testing.T) {
	caddy := registry.Program(t)
	caddy.Env = append(caddy.Env, "OIDC_SECRET=secret")
	_, port, _ := strings.Cut(registry.FreeAddress(t), ":")
	second := registry.FreeAddress(t)
	config := fmt.Sprintf(twoRegistries, t.TempDir(), t.TempDir(), t.TempDir(), "http://localhost:"+port+"/", second)
	srv := registry.Configure(t, caddy, config)
	startProvider(t, port, srv.URL+"/v2/_auth/callback/zitadel", "http://"+second+"/v2/_auth/callback/zitadel")

	b := tool.Chromium(t)
	signIn(t, b, srv.URL)
	wantStatuses(t, b, srv.URL, map[string]string{
		"GET /v2/team/app/tags/list":       "404",
		"POST /v2/team/app/blobs/uploads/": "202",
		"GET /v2/else/app/tags/list":       "404",
		"POST /v2/else/app/blobs/uploads/": "403",
		"GET /v2/others/app/tags/list":     "403",
	})
	b.Open(srv.URL + "/v2/_auth")
	b.Until(`document.querySelector("button") !== null`)
	key := newKey(t, b)
	wantKeyOf(t, srv, key)
	session := wantSessionOf(t, b, srv.URL, "http://"+second)

	srv.Stop()
	log := srv.Log()
	srv = registry.Configure(t, caddy, config)
	wantStatuses(t, b, srv.URL, map[string]string{"POST /v2/team/app/blobs/uploads/": "202", "POST /v2/else/app/blobs/uploads/": "403"})

	b.Open(srv.URL + "/v2/_auth")
	b.Until(`document.querySelector("button") !== null`)
	if _, err := b.Eval(`document.querySelector("button").click()`); err != nil {
		t.Fatal(err)
	}
	b.Until(`location.hostname === "localhost" && document.readyState === "complete"`)
	wantNobody(t, b, srv.URL)
	for name, value := range session {
		if err := get(t, &srv.Registry, name+"="+value); remote.Status(err) != http.StatusUnauthorized {
			t.Errorf("after signing out: %v", err)
		}
	}
	wantTold(t, log+srv.Log(), key, session)
}

// wantKeyOf fails unless a key is good for what its owner may do, and a password isn't.
func wantKeyOf(t *testing.T, srv *registry.Server, key string) {
	t.Helper()
	if got := start(t, srv, "team/app", key); got != http.StatusAccepted {
		t.Errorf("with the key: %d", got)
	}
	if got := start(t, srv, "others/app", key); got != http.StatusForbidden {
		t.Errorf("with the key, where its owner may not: %d", got)
	}
	if got := start(t, srv, "team/app", "verysecure"); got != http.StatusUnauthorized {
		t.Errorf("with the password that the provider knows: %d", got)
	}
}

// wantSessionOf fails if the cookie of one registry is something to another, in the
// browser or out of it. It returns the cookie.
func wantSessionOf(t *testing.T, b *tool.Browser, at, other string) map[string]string {
	t.Helper()
	wantNobody(t, b, other)
	session := b.Cookies(at)
	if len(session) != 1 {
		t.Fatalf("cookies: %v", session)
	}
	signIn(t, b, other)
	for name := range b.Cookies(other) {
		for _, stolen := range session {
			if err := get(t, &remote.Registry{URL: other}, name+"="+stolen); remote.Status(err) != http.StatusUnauthorized {
				t.Errorf("stolen as %s: %v", name, err)
			}
		}
	}
	return session
}

// signIn signs in at a registry.
func signIn(t *testing.T, b *tool.Browser, at string) {
	t.Helper()
	b.Open(at + "/v2/_auth/login")
	fill(t, b, "verysecure")
	b.Until(`document.body !== null && document.body.innerText.includes("You are test-user@zitadel.ch")`)
}

// wantNobody fails unless the browser has no session at a registry.
func wantNobody(t *testing.T, b *tool.Browser, at string) {
	t.Helper()
	b.Open(at + "/v2/_auth")
	b.Until(fmt.Sprintf(`location.href === %q && document.body.innerText.includes("You aren't signed in")`, at+"/v2/_auth"))
}

// get asks a registry with a cookie.
func get(t *testing.T, r *remote.Registry, cookie string) error {
	t.Helper()
	resp, err := r.Do(t.Context(), http.MethodGet, "/v2/", nil, "Cookie", cookie)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

// wantStatuses has a page of a registry's site ask for something.
func wantStatuses(t *testing.T, b *tool.Browser, at string, want map[string]string) {
	t.Helper()
	b.Open(at + "/empty")
	b.Until(fmt.Sprintf(`location.href === %q && document.readyState === "complete"`, at+"/empty"))
	for request, wanted := range want {
		method, path, _ := strings.Cut(request, " ")
		if got := status(t, b, method, path); got != wanted {
			t.Errorf("%s at %s: %s, want %s", request, at, got, wanted)
		}
	}
}

// newKey has the page that is open make an API key.
func newKey(t *testing.T, b *tool.Browser) string {
	t.Helper()
	made, err := b.Eval(`fetch("/v2/_apikeys", {method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"}).then(r => r.text())`)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Key string }
	if err := json.Unmarshal([]byte(made), &got); err != nil || !strings.HasPrefix(got.Key, "ork_") {
		t.Fatalf("%v: %s", err, made)
	}
	return got.Key
}

// start begins an upload, and returns the status.
func start(t *testing.T, srv *registry.Server, repository, password string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/v2/"+repository+"/blobs/uploads/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("test-user@zitadel.ch", password)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// wantTold fails unless the audit log says who signed in and out, and the log has none of
// the secrets.
func wantTold(t *testing.T, log, key string, session map[string]string) {
	t.Helper()
	for _, operation := range []string{`"sign-in"`, `"sign-out"`} {
		if !strings.Contains(log, `"operation": `+operation) && !strings.Contains(log, `"operation":`+operation) {
			t.Errorf("the audit log has no %s", operation)
		}
	}
	for _, secret := range slices.AppendSeq([]string{key}, maps.Values(session)) {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %s", secret)
		}
	}
}
