package ociregistry

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/cel"
)

var challengeRE = regexp.MustCompile(`^Bearer realm="http://([^"]+)/v2/token",service="([^"]+)"(?:,scope="([^"]*)")?(?:,error="([^"]*)")?$`)

// challenged asks for something and returns what the answer wants a token for.
func (w *web) challenged(t *testing.T, method, path string, header ...string) (scope, problem string) {
	t.Helper()
	a := w.want(t, http.StatusUnauthorized, method, path, "", header...)
	m := challengeRE.FindStringSubmatch(a.Header.Get("Www-Authenticate"))
	if m == nil || m[1] != w.addr || m[2] != w.addr {
		t.Fatalf("%s %s: asked with %q", method, path, a.Header.Get("Www-Authenticate"))
	}
	return m[3], m[4]
}

// token gets a token, as a client does that was challenged.
func (w *web) token(t *testing.T, scope string, header ...string) string {
	t.Helper()
	q := url.Values{"service": {w.addr}, "client_id": {"test"}}
	if scope != "" {
		q.Set("scope", scope)
	}
	a := w.want(t, http.StatusOK, http.MethodGet, "/v2/token?"+q.Encode(), "", header...)
	var got struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Token == "" {
		t.Fatalf("%v in %s", err, a.body)
	}
	return "Bearer " + got.Token
}

// On one host anybody pulls and users push: each client is asked for a token, and
// who has no user gets one as well.
func TestTokens(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)))
	if scope, problem := w.challenged(t, http.MethodGet, "/v2/"); scope+problem != "" {
		t.Errorf("GET /v2/ wants a token for %q (%s)", scope, problem)
	}
	nobody := w.token(t, "")
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", nobody)
	w.want(t, http.StatusNotFound, http.MethodGet, "/v2/a/tags/list", "")

	scope, _ := w.challenged(t, http.MethodPost, "/v2/a/blobs/uploads/")
	if scope != "repository:a:pull,push" {
		t.Errorf("a push wants a token for %q", scope)
	}
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/token?service="+w.addr+"&scope="+scope, "", "Authorization", wrongPassword)
	token := w.token(t, scope, "Authorization", alice)
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", token)
	w.want(t, http.StatusNotFound, http.MethodGet, "/v2/a/tags/list", "", "Authorization", token)

	// It's good for a, and the client is asked to get one for b.
	another, problem := w.challenged(t, http.MethodPost, "/v2/b/blobs/uploads/", "Authorization", token)
	if another != "repository:b:pull,push" || problem != "insufficient_scope" {
		t.Errorf("another push wants a token for %q (%s)", another, problem)
	}
	// An anonymous one isn't good for a push, and that isn't for want of scopes.
	w.challenged(t, http.MethodPost, "/v2/a/blobs/uploads/", "Authorization", w.token(t, scope))
}

// docker's way to sign in: a token for nothing, by which GET /v2/ is answered.
func TestLogin(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)))
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", w.token(t, "", "Authorization", alice))
	form := url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"secret"}, "service": {w.addr}, "client_id": {"x"}, "access_type": {"offline"}}
	a := w.want(t, http.StatusOK, http.MethodPost, "/v2/token", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	var got struct {
		Token   string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Token == "" || got.Refresh == "" {
		t.Fatalf("%v in %s", err, a.body)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.Refresh}, "service": {w.addr}, "client_id": {"x"}}
	w.want(t, http.StatusOK, http.MethodPost, "/v2/token", refresh.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	form.Set("password", "secrets")
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/token", form.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

// Both tokens end within seconds once the file has another password.
func TestTokensEndWithThePassword(t *testing.T) {
	w := newWeb(t)
	provider := htpasswdAlice(t)
	w.run(t, "", withAuth(provider))
	a := w.want(t, http.StatusOK, http.MethodGet, "/v2/token?offline_token=true&service="+w.addr, "", "Authorization", alice)
	var got struct {
		Token   string `json:"token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Token == "" || got.Refresh == "" {
		t.Fatalf("%v in %s", err, a.body)
	}
	const another = "$2y$04$abcdefghijklmnopqrstuu9N5EFOO7.c0HpyAYV.62fdUQKfWL346"
	path := strings.Fields(provider)[2]
	if err := os.WriteFile(path, []byte("alice:"+another+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.Refresh}, "service": {w.addr}, "client_id": {"x"}}
	w.refusedSoon(t, http.MethodPost, "/v2/token", refresh.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	w.refusedSoon(t, http.MethodGet, "/v2/", "", "Authorization", "Bearer "+got.Token)
}

// What a policy says of claims and groups counts with a token, too.
func TestConditionsAndTokens(t *testing.T) {
	for _, tc := range []struct {
		condition           string
		claims, other, team bool
	}{
		{`req.method == "GET"`, false, false, true},
		{`!has(req.claims.suspended)`, true, false, true},
		{`!("contractors" in req.user.groups)`, false, true, true},
	} {
		c, err := cel.New(tc.condition, cel.Options{})
		if err != nil {
			t.Fatal(err)
		}
		rule := authz.Rule{Repositories: "**", Allow: []authz.Action{authz.Pull}, To: []string{"group:team"}, Conditions: []authz.Condition{c}}
		r := &Registry{Policy: &Policy{Rules: []PolicyRule{{Rule: rule}}}}
		if r.policy, err = authz.New(authz.Config{Rules: []authz.Rule{rule}}); err != nil {
			t.Fatal(err)
		}
		groups := r.groupsInTokens()
		if got := groups == nil || groups("contractors"); got != tc.other {
			t.Errorf("%s: another group is in a token: %t", tc.condition, got)
		}
		if got := groups == nil || groups("team"); got != tc.team {
			t.Errorf("%s: a group of the policy is in a token: %t", tc.condition, got)
		}
		if got := r.claimsInTokens()("suspended"); got != tc.claims {
			t.Errorf("%s: claims are in a token: %t", tc.condition, got)
		}
	}
}

// auto is bearer where anonymous callers may do anything.
func TestChallengeAuto(t *testing.T) {
	w, provider := newWeb(t), htpasswdAlice(t)+atOnce
	for _, tc := range []struct{ challenge, options, want string }{
		{"", "", "Bearer "},
		{"", "anonymous all", "Bearer "},
		{"", "anonymous none", "Basic "},
		{"challenge auto", "anonymous none", "Basic "},
		{"challenge basic", "", "Basic "},
		{"challenge bearer", "anonymous none", "Bearer "},
		{"", "policy {\n\t\t\tallow pull ** to *\n\t\t}", "Bearer "},
		{"", "policy {\n\t\t\tallow pull public/** to anonymous\n\t\t}", "Bearer "},
		{"", "policy {\n\t\t\tallow pull ** to authenticated\n\t\t}", "Basic "},
	} {
		w.run(t, "", withAuth(provider+"\n\t\t\t"+tc.challenge, tc.options))
		got := ""
		for range 10 { // a connection that the server before had accepted is served by that
			stranger := basic(rand.Text(), "wrong") // whose guesses nobody has counted
			a := w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/a/tags/list", "", "Authorization", stranger)
			if got = a.Header.Get("Www-Authenticate"); strings.HasPrefix(got, tc.want) {
				break
			}
		}
		if !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s %s: asked with %q", tc.challenge, tc.options, got)
		}
	}
}

// Tokens outlive reloads, and what a policy says counts at once.
func TestTokensAndReloads(t *testing.T) {
	w := newWeb(t)
	provider := htpasswdAlice(t)
	w.run(t, "", withAuth(provider))
	token := w.token(t, "repository:a:pull,push", "Authorization", alice)
	w.run(t, "", withAuth(provider, "policy {\n\t\t\tallow pull push a/** to alice\n\t\t\tallow pull ** to *\n\t\t}"))
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", token)
	w.run(t, "", withAuth(provider, "policy {\n\t\t\tallow pull ** to *\n\t\t}"))
	a := w.want(t, http.StatusForbidden, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", token)
	if !strings.Contains(a.body, "'allow push'") {
		t.Errorf("the refusal is %s", a.body)
	}
}

// Each token here isn't one, and opens nothing.
func TestForgedTokens(t *testing.T) {
	w := newWeb(t)
	provider := htpasswdAlice(t)
	w.run(t, "servers {\ntrusted_proxies static 127.0.0.1\n}", withAuth(provider))
	good := strings.TrimPrefix(w.token(t, "repository:a:pull,push", "Authorization", alice), "Bearer ")
	parts := strings.Split(good, ".")
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(claims), `"alice"`, `"root"`, 1)
	for name, forged := range map[string]string{
		"no signature":         parts[0] + "." + parts[1] + ".",
		"alg none":             encode(`{"alg":"none","typ":"at+jwt"}`) + "." + parts[1] + ".",
		"alg none, signed":     encode(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2],
		"another algorithm":    encode(`{"alg":"HS256","typ":"at+jwt"}`) + "." + parts[1] + "." + parts[2],
		"own key":              encode(`{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"}}`) + "." + parts[1] + "." + parts[2],
		"another user":         parts[0] + "." + encode(other) + "." + parts[2],
		"a part too many":      good + ".x",
		"nothing":              "..",
		"its first part twice": parts[0] + "." + parts[0] + "." + parts[2],
	} {
		a, err := w.send(t.Context(), http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", "Bearer "+forged)
		if err != nil || a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %v %s %s", name, err, a.Status, a.body)
		}
	}
	bearer := "Bearer " + good
	// It's of this registry by another name.
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", bearer, "X-Forwarded-Host", "other.example.com")
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", bearer)
	// A token isn't good for a token.
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/token?scope=repository:b:push", "", "Authorization", bearer)
	// It isn't good as a password.
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("alice:"+good)))
}

// A client that isn't a trusted proxy says by which name it reached the registry, and
// would have others send their passwords there.
func TestForgedRealm(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(basicAlice))
	w.challenged(t, http.MethodGet, "/v2/", "X-Forwarded-Host", "evil.example.com", "X-Forwarded-Proto", "https", "Forwarded", "host=evil.example.com")
	w.run(t, "servers {\ntrusted_proxies static 127.0.0.1\n}", withAuth(basicAlice))
	a := w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/", "", "X-Forwarded-Host", "registry.example.com", "X-Forwarded-Proto", "https")
	if got := a.Header.Get("Www-Authenticate"); got != `Bearer realm="https://registry.example.com/v2/token",service="registry.example.com"` {
		t.Errorf("behind a proxy it's %s", got)
	}
	w.run(t, "", withAuth(basicAlice, "external_url https://registry.example.com"))
	a = w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/", "", "X-Forwarded-Host", "evil.example.com")
	if got := a.Header.Get("Www-Authenticate"); got != `Bearer realm="https://registry.example.com/v2/token",service="registry.example.com"` {
		t.Errorf("with external_url it's %s", got)
	}
}

// Who may pull from one repository and push to another mounts with a token for both,
// and with one for the target alone uploads.
func TestMountWithATokenForOne(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)+"\n\t\t\tchallenge bearer", "anonymous none"))
	asAlice := &web{&http.Client{Transport: sender{"", alice, w.Transport}}, w.addr}
	if err := asAlice.push(t.Context(), "from", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	mount := "/v2/to/blobs/uploads/?from=from&mount=" + digest.FromString("layer").String()
	both := w.token(t, "repository:to:pull,push repository:from:pull", "Authorization", alice)
	w.want(t, http.StatusCreated, http.MethodPost, mount, "", "Authorization", both)
	one := w.token(t, "repository:to:pull,push", "Authorization", alice)
	w.want(t, http.StatusAccepted, http.MethodPost, mount, "", "Authorization", one)
}

// Requests for tokens are counted and logged as all others are.
func TestTokensAreMeasured(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "log")
	w.run(t, "log {\noutput file "+file+"\nformat json\n}", "log\n"+withAuth(htpasswdAlice(t)))
	w.token(t, "")
	w.token(t, "", "Authorization", alice)
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/token", "", "Authorization", wrongPassword)
	w.want(t, http.StatusBadRequest, http.MethodGet, "/v2/token?service=another", "")
	wantMeasured(t, map[string]float64{
		"requests_total get-token inline 2xx": 2, "requests_total get-token inline 4xx": 2, "request_duration_seconds get-token inline": 4,
	}, "requests_total", "request_duration_seconds")
	stop(t)
	var got []string
	for _, line := range readLog(t, file) {
		var l struct {
			Logger string
			Status int
			OCI    *struct{ Operation, User, Error string }
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.OCI != nil {
			got = append(got, fmt.Sprint(l.Status, *l.OCI))
		}
	}
	want := "200 {get-token  }, 200 {get-token alice }, 401 {get-token  UNAUTHORIZED}, 400 {get-token  UNSUPPORTED}"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
}
