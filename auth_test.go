package ociregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/oci"
)

// Ways to sign in that don't work.
const (
	wrongPassword = "Basic YWxpY2U6c2VjcmV0cw==" // alice:secrets
	nobody        = "Basic Ym9iOnNlY3JldA=="     // bob:secret
)

// withAuth is a site with a registry in memory, with an option auth and others.
func withAuth(auth string, options ...string) string {
	return "\toci_registry {\n\t\tstorage memory\n\t\tauth {\n\t\t\t" + auth + "\n\t\t}\n\t\t" + strings.Join(options, "\n\t\t") + "\n\t}\n"
}

// atOnce has wrong credentials answered at once, for tests with many of them.
const atOnce = "\n\t\t\tlimits {\n\t\t\t\tdelay 1ms\n\t\t\t}"

const basicAlice = "provider http_basic {\n\t\t\t\talice " + aliceHash + "\n\t\t\t}"

// htpasswdAlice is a provider with alice in its file.
func htpasswdAlice(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte("alice:"+aliceHash+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return "provider oci_htpasswd " + file
}

// Anonymous callers do what they may, users what they may, and who has credentials
// that are wrong nothing, not even what anonymous callers may do.
func TestProviders(t *testing.T) {
	w := newWeb(t)
	for name, tc := range map[string]struct{ auth, challenge string }{
		"Caddy's": {basicAlice, `Basic realm="restricted"`},
		"ours":    {htpasswdAlice(t), `Basic realm="registry", charset="UTF-8"`},
		"realm":   {basicAlice + "\n\t\t\trealm House", `Basic realm="House", charset="UTF-8"`},
	} {
		t.Run(name, func(t *testing.T) {
			w.run(t, "", withAuth(tc.auth+"\n\t\t\tchallenge basic"+atOnce))
			w.want(t, http.StatusOK, http.MethodGet, "/v2/", "")
			w.want(t, http.StatusNotFound, http.MethodGet, "/v2/a/tags/list", "")
			a := w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/a/blobs/uploads/", "")
			if got := a.Header.Values("Www-Authenticate"); !slices.Equal(got, []string{tc.challenge}) || !strings.Contains(a.body, `"UNAUTHORIZED"`) {
				t.Errorf("asked with %q, want %s: %s", got, tc.challenge, a.body)
			}
			w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", alice)
			w.want(t, http.StatusNotFound, http.MethodGet, "/v2/a/tags/list", "", "Authorization", alice)
			for _, wrong := range []string{wrongPassword, nobody, "Basic ", "Basic !", "Bearer e30.e30.x", "Negotiate x"} {
				a := w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/a/tags/list", "", "Authorization", wrong)
				if got := a.Header.Get("Www-Authenticate"); got != tc.challenge || !strings.Contains(a.body, "wrong credentials") || strings.Contains(a.body, "alice") {
					t.Errorf("%s: asked with %q: %s", wrong, got, a.body)
				}
			}
		})
	}
}

// Everything is asked for a user where anonymous callers may do nothing.
func TestAllPrivate(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(basicAlice, "anonymous none", "health /health"))
	for _, path := range []string{"/v2/", "/v2/_catalog", "/v2/a/tags/list"} {
		w.want(t, http.StatusUnauthorized, http.MethodGet, path, "")
	}
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", alice)
	w.want(t, http.StatusOK, http.MethodGet, "/health/livez", "")
}

// Who is asked first doesn't matter to who knows the credentials.
func TestSeveralProviders(t *testing.T) {
	w := newWeb(t)
	file := htpasswdAlice(t)
	bob := "provider http_basic {\n\t\t\t\tbob " + aliceHash + "\n\t\t\t}"
	for _, auth := range []string{file + "\n\t\t\t" + bob, bob + "\n\t\t\t" + file} {
		w.run(t, "", withAuth(auth))
		for _, who := range []string{alice, nobody} { // nobody is bob
			w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", who)
		}
		w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/", "", "Authorization", wrongPassword)
	}
}

// What an earlier handler says counts if it's believed: by default that's what
// Caddy's authentication has found out.
func TestUpstream(t *testing.T) {
	w := newWeb(t)
	push := func(t *testing.T, want int, header ...string) {
		t.Helper()
		w.want(t, want, http.MethodPost, "/v2/a/blobs/uploads/", "", header...)
	}
	fromHeader := withAuth("upstream {\n\t\t\t\tuser {header.Remote-User}\n\t\t\t\tgroups {header.Remote-Groups}\n\t\t\t}")
	w.run(t, "", fromHeader)
	push(t, http.StatusForbidden) // there's no way to sign in here
	push(t, http.StatusAccepted, "Remote-User", "alice")

	w.run(t, "", "\trequest_header -Remote-User\n"+fromHeader)
	push(t, http.StatusForbidden, "Remote-User", "alice")

	guard := "\tbasic_auth {\n\t\talice " + aliceHash + "\n\t}\n"
	w.run(t, "", guard+withAuth("upstream {\n\t\t\t\tuser {http.auth.user.id}\n\t\t\t}"))
	push(t, http.StatusUnauthorized)
	push(t, http.StatusAccepted, "Authorization", alice)

	// A guard on a part of the site, and the registry's own users beside it.
	w.run(t, "", strings.Replace(guard, "basic_auth", "basic_auth /v2/a/*", 1)+withAuth("provider http_basic {\n\t\t\t\tbob "+aliceHash+"\n\t\t\t}"))
	push(t, http.StatusAccepted, "Authorization", alice)
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/b/blobs/uploads/", "", "Authorization", nobody) // who is bob
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/b/blobs/uploads/", "", "Authorization", alice)
}

// A client says in every way there is that it's alice, and that a proxy vouches for it.
func TestForgedIdentity(t *testing.T) {
	w := newWeb(t)
	forged := []string{
		"Remote-User", "alice", "X-Remote-User", "alice", "X-Forwarded-User", "alice", "X-Auth-Request-User", "alice",
		"X-Token-Subject", "alice", "Remote-Groups", "admin", "X-Forwarded-For", "127.0.0.1", "X-Real-Ip", "127.0.0.1",
		"Forwarded", "for=127.0.0.1;by=alice", "X-Webauth-User", "alice", "X-Authenticated-User", "alice",
		"http.auth.user.id", "alice", "Cookie", "user=alice; id=alice",
	}
	for _, site := range []string{
		"\toci_registry {\n\t\tstorage memory\n\t\tanonymous none\n\t}\n",
		withAuth(basicAlice, "anonymous none"),
		withAuth(htpasswdAlice(t), "anonymous none"),
		withAuth("upstream {\n\t\t\t\tuser {http.auth.user.id}\n\t\t\t}", "anonymous none"),
	} {
		w.run(t, "", site)
		a, err := w.send(t.Context(), http.MethodGet, "/v2/a/tags/list?user=alice", "", forged...)
		if err != nil || a.StatusCode != http.StatusUnauthorized && a.StatusCode != http.StatusForbidden {
			t.Errorf("%v: %s %s in\n%s", err, a.Status, a.body, site)
		}
	}
}

// The access log says who signed in, and never with what.
func TestAccessLogHasTheUser(t *testing.T) {
	w := newWeb(t)
	access := filepath.Join(t.TempDir(), "access.log")
	w.run(t, "", "\tlog {\n\t\toutput file "+access+"\n\t\tformat json\n\t}\n"+withAuth(basicAlice))
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", alice)
	stop(t)
	line := only(t, readLog(t, access), "http.log.access")
	var got struct {
		UserID string            `json:"user_id"`
		OCI    map[string]string `json:"oci"`
	}
	if err := json.Unmarshal([]byte(line), &got); err != nil {
		t.Fatal(err)
	}
	if got.UserID != "alice" || got.OCI["user"] != "alice" {
		t.Errorf("the user is %q and %q", got.UserID, got.OCI["user"])
	}
	for _, secret := range []string{strings.TrimPrefix(alice, "Basic "), "secret", aliceHash} {
		if strings.Contains(line, secret) {
			t.Errorf("the log has %s", secret)
		}
	}
}

// Who guesses is slowed down, user or not, and a reload changes nothing about it;
// whoever has signed in before goes on, from the same address.
func TestGuessing(t *testing.T) {
	w := newWeb(t)
	site := withAuth(htpasswdAlice(t))
	w.run(t, "", site)
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", alice)
	for _, user := range []string{"alice", "bob"} {
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				if a, err := w.send(t.Context(), http.MethodGet, "/v2/", "", "Authorization", basic(user, fmt.Sprint(i))); err != nil || a.StatusCode != http.StatusUnauthorized {
					t.Errorf("%v %s", err, a.Status)
				}
			})
		}
		all.Wait()
		for range 2 {
			a := w.want(t, http.StatusTooManyRequests, http.MethodGet, "/v2/", "", "Authorization", basic(user, "another"))
			if a.Header.Get("Retry-After") == "" || !strings.Contains(a.body, "TOOMANYREQUESTS") {
				t.Errorf("%v %s", a.Header, a.body)
			}
			w.run(t, "", site)
		}
	}
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", alice)
	w.want(t, http.StatusOK, http.MethodGet, "/v2/_catalog", "")
}

// fakeAuth is a provider that knows only Caddy's interface.
type fakeAuth func(http.ResponseWriter, *http.Request) (caddyauth.User, bool, error)

func (f fakeAuth) Authenticate(w http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	return f(w, r)
}

// muteProvider is a provider that no Caddyfile can describe.
type muteProvider struct{ fakeAuth }

func (muteProvider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: providerModules + ".mute", New: func() caddy.Module { return new(muteProvider) }}
}

// A Provider is to any other site what Caddy's own are.
func TestProviderOnAnySite(t *testing.T) {
	w := newWeb(t)
	config := w.config(t, "", "\trespond \"{http.auth.user.id} {http.auth.user.provider}\"\n")
	var c map[string]any
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	file := strings.TrimPrefix(htpasswdAlice(t), "provider oci_htpasswd ")
	routes := c["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any)["srv0"].(map[string]any)
	routes["routes"] = append([]any{map[string]any{"handle": []any{map[string]any{
		"handler": "authentication", "providers": map[string]any{"oci_htpasswd": map[string]string{"file": file}},
	}}}}, routes["routes"].([]any)...)
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	load(t, quiet(t, config))
	a := w.want(t, http.StatusUnauthorized, http.MethodGet, "/", "")
	if got := a.Header.Get("Www-Authenticate"); !strings.HasPrefix(got, "Basic ") {
		t.Errorf("asked with %q", got)
	}
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/", "", "Authorization", wrongPassword)
	if a := w.want(t, http.StatusOK, http.MethodGet, "/", "", "Authorization", alice); a.body != "alice htpasswd" {
		t.Errorf("the user is %q", a.body)
	}
}

// undecided is an authn.Method that can't find out.
type undecided struct{}

func (undecided) Identify(*http.Request) (authz.Identity, bool, error) {
	return authz.Identity{}, true, errors.New("the directory is away")
}

// What can't be found out is neither anonymous nor refused.
func TestIdentifyUndecided(t *testing.T) {
	t.Parallel()
	a := Registry{Auth: new(Auth), auth: &Auth{upstream: defaultUpstream, chain: authn.Chain{undecided{}}, limited: undecided{}}}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
	if who, err := a.identify(r); err == nil || errors.Is(err, oci.Unauthorized) || !who.IsAnonymous() {
		t.Errorf("it's %+v, %v", who, err)
	}
}

// Placeholders of a user's name can't put anything into a name.
func TestUpstreamPlaceholders(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"{http.auth.user.id}": true, "{http.request.header.Remote-User}": true,
		"{header.Remote-User}": false, "{tls_client_subject}": false, // they would be empty
		"": false, "alice": false, "x{http.auth.user.id}": false, "{a}{b}": false, "{a}x": false, "{{a}}": false, "{a": false, "a}": false,
	} {
		if err := (&Upstream{User: s}).check(); (err == nil) != want {
			t.Errorf("user %q: %v", s, err)
		}
	}
	repl := caddy.NewReplacer()
	repl.Set("http.auth.user.id", "{env.HOME}{file./etc/passwd}")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
	r = caddyhttp.PrepareRequest(r, repl, nil, new(caddyhttp.Server))
	if got, want := defaultUpstream.identity(r), (authz.Identity{ID: "{env.HOME}{file./etc/passwd}"}); !reflect.DeepEqual(got, want) {
		t.Errorf("the user is %+v", got)
	}
}

// Credentials that nobody knows are wrong wherever the registry is told how callers sign in,
// and nobody looks at them where it isn't.
func TestCredentialsNobodyLooksAt(t *testing.T) {
	w := newWeb(t)
	without := "\toci_registry {\n\t\tstorage memory\n\t\tanonymous all\n\t}\n"
	upstream := withAuth("upstream {\n\t\t\t\tuser {http.request.header.Remote-User}\n\t\t\t}", "anonymous all")
	for _, credentials := range []string{alice, "Bearer x", "Negotiate x"} {
		w.run(t, "", without)
		w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", credentials)
		w.run(t, "", upstream)
		w.want(t, http.StatusForbidden, http.MethodGet, "/v2/", "", "Authorization", credentials)
		w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", credentials, "Remote-User", "alice")
		w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", "Basic Og==")
		w.want(t, http.StatusOK, http.MethodGet, "/v2/", "")
	}
}

// What asks nobody is told at load.
func TestAskingNobody(t *testing.T) {
	w := newWeb(t)
	upstream := "upstream {\n\t\t\t\tuser {http.request.header.Remote-User}\n\t\t\t}\n\t\t\t"
	for auth, warned := range map[string]bool{
		upstream + "realm House":               true,
		upstream + "challenge basic":           true,
		"provider oci_mtls\nrealm House":       true,
		"provider oci_mtls\nchallenge basic":   true,
		upstream:                               false,
		upstream + "challenge basic\napi_keys": false,
		basicAlice + "\nrealm House":           false,
	} {
		if log := w.validated(t, withAuth(auth)); strings.Contains(log, "asks nobody") != warned {
			t.Errorf("%s: the log has %q", auth, log)
		}
	}
}

// validated checks the site, and returns what the log is told.
func (w *web) validated(t *testing.T, site string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log")
	w.run(t, "log default {\noutput file "+file+"\nformat json\nlevel WARN\n}", site)
	stop(t)
	return strings.Join(readLog(t, file), "\n")
}

// A file that can't be read is no part of a new configuration, which says where it's
// wrong, while the old one goes on with what it had.
func TestBrokenHtpasswdAtReload(t *testing.T) {
	w := newWeb(t)
	provider := htpasswdAlice(t)
	w.run(t, "", withAuth(provider))
	file := strings.TrimPrefix(provider, "provider oci_htpasswd ")
	if err := os.WriteFile(file, []byte("alice:"+aliceHash+"\nbob:none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := tryLoad(quiet(t, w.config(t, "", withAuth(provider, "health /x"))))
	if err == nil || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), file) {
		t.Errorf("it's loaded, or the error is no help: %v", err)
	}
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", alice)
}
