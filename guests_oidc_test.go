//go:build !nooidc

package ociregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
)

const oidcSecret = "secret-of-the-client"

// newIssuer is an issuer where alice signs in, of the group release, whose secret is in
// the environment.
func newIssuer(t *testing.T) *issuertest.Issuer {
	t.Helper()
	t.Setenv("OIDC_SECRET", oidcSecret)
	i := issuertest.New(t)
	i.Login.ClientID, i.Login.ClientSecret = "registry", oidcSecret
	i.Login.IDToken = map[string]any{"email": "alice@example.com", "email_verified": true}
	i.Login.UserInfo = map[string]any{"groups": []string{"release", "staff"}}
	return i
}

// at is a provider with that issuer.
func at(i *issuertest.Issuer, options ...string) string {
	return "provider oci_oidc {\nissuer " + i.URL + " {\nclient_id registry\nclient_secret {env.OIDC_SECRET}\n" + strings.Join(options, "\n") + "\n}\n}"
}

// browser is w with cookies, which follows redirects.
func (w *web) browser(t *testing.T) *web {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &web{&http.Client{Jar: jar, Transport: w.Transport}, w.addr}
}

// still is w without following redirects.
func (w *web) still() *web {
	c := *w.Client
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &web{&c, w.addr}
}

// cookies are what the site has given the browser.
func (w *web) cookies() []*http.Cookie {
	return w.Jar.Cookies(&url.URL{Scheme: "http", Host: w.addr, Path: "/"})
}

const (
	oidcClient = "client_id registry\nclient_secret {env.OIDC_SECRET}\n"
	oidcPolicy = "policy {\nallow pull ** to group:release\n}"
)

// oidcBlocks are blocks of a provider beside an option, and parts of why they're refused.
var oidcBlocks = []struct{ block, option, want string }{
	{"issuer https://sso.example.com {\n" + oidcClient + "}", "", ""},
	{"issuer keycloak https://sso.example.com/realms/team {\n" + oidcClient + "require_group registry\nfollow 5m\ntitle \"The team\"\nname sso\nscopes openid email\nuser email sub\ngroups groups realm_access.roles\nno_userinfo\nunverified_email\n}\npath /login\nlifetime 8h\nidle 1h", "", ""},
	{"issuer google {\n" + oidcClient + "require_domain example.com\n}\nissuer github {\n" + oidcClient + "require_group example\n}", "", ""},
	{"issuer entra https://login.microsoftonline.com/6a73ca24-6d4c-4dc6-8f5e-0b4e4c5cb7d5/v2.0 {\n" + oidcClient + "}", "", ""},
	{"issuer gitlab https://gitlab.example.com {\n" + oidcClient + "}", "", ""},
	{"issuer {env.OIDC_SECRET} {\n" + oidcClient + "}", "", "https"},

	{"issuer google {\n" + oidcClient + "}", oidcPolicy, ""},
	{"issuer google {\n" + oidcClient + "}", "", "everybody in the world can have an account there, and could sign in: write 'require_domain DOMAIN…' in its block, or a policy"},
	{"issuer github {\n" + oidcClient + "}", "", "or 'require_group NAME…' in its block, or a policy"},
	{"issuer gitlab https://gitlab.com {\n" + oidcClient + "}", "", "everybody in the world"},
	{"issuer https://accounts.google.com {\n" + oidcClient + "}", "", "everybody in the world"},
	{"issuer github https://GitHub.com/ {\n" + oidcClient + "}", "", "everybody in the world"},
	{"issuer https://oauth2.sigstore.dev/auth {\n" + oidcClient + "}", "", "everybody in the world"},
	{"issuer gitlab https://GITLAB.com:443/ {\n" + oidcClient + "}", "", "everybody in the world"},
	{"issuer google {\n" + oidcClient + "require_group staff\n}", "", "google knows no groups"},

	{"", "", "nowhere to sign in"},
	{"issuer", "", "want issuer [KIND] URL"},
	{"issuer https://login.microsoftonline.com/6a73ca24-6d4c-4dc6-8f5e-0b4e4c5cb7d5/v2.0 {\n" + oidcClient + "}", "", "'issuer entra https://login.microsoftonline.com/6a73ca24"},
	{"issuer keycloack https://sso.example.com {\n" + oidcClient + "}", "", "kinds are"},
	{"issuer keycloack {\n" + oidcClient + "}", "", "kinds are"},
	{"issuer https://a.example.com b {\n" + oidcClient + "}", "", "kinds are"},
	{"issuer keycloak {\n" + oidcClient + "}", "", "URL"},
	{"issuer http://sso.example.com {\n" + oidcClient + "}", "", "https"},
	{"issuer https://sso.example.com", "", "client's ID is missing"},
	{"issuer https://sso.example.com {\nclient_id registry\nclient_secret {env.NO_SUCH_VARIABLE}\n}", "", "client_secret stands for nothing"},
	{"issuer https://sso.example.com {\nclient_id registry\nclient_secret hush{file./no/such/file}\n}", "", "client_secret stands for nothing"},
	{"issuer https://sso.example.com {\n" + oidcClient + "require_group\n}", "", "require_group NAME…"},
	{"issuer https://sso.example.com {\n" + oidcClient + "follow 1s\n}", "", "once a minute"},
	{"issuer https://sso.example.com {\n" + oidcClient + "ca /no/such/file\n}", "", "/no/such/file"},
	{"issuer https://sso.example.com {\n" + oidcClient + "name http_basic\n}", "", "name"},
	{"issuer https://a.example.com {\n" + oidcClient + "}\nissuer https://b.example.com {\n" + oidcClient + "}", "", "two of that name"},
	{"issuer https://sso.example.com {\n" + oidcClient + "}\npath auth", "", "want a path like /auth"},
	{"issuer https://sso.example.com {\n" + oidcClient + "}\npath /", "", "want a path like /auth"},
	{"issuer https://sso.example.com {\n" + oidcClient + "}\npath /auth/", "", "want a path like /auth"},
	{"issuer https://sso.example.com {\n" + oidcClient + "}\npath /a/../v2", "", "want a path like /auth"},
	{"issuer https://sso.example.com {\n" + oidcClient + "}\npath //auth", "", "want a path like /auth"},
	{"issuer https://sso.example.com {\n" + oidcClient + "}\npath /v2", "", "the registry's API"},
	{"issuer https://sso.example.com {\n" + oidcClient + "}\npath /v2/token", "", "the registry's API"},
	{"issuer https://sso.example.com {\n" + oidcClient + "}\npath /v2/team/app", "", "the registry's API"},
	{"issuer https://sso.example.com {\n" + oidcClient + "}\npath /v2/_auth/people", "", ""},
	{"issuer https://sso.example.com {\n" + oidcClient + "}\nlifetime 1s", "", "a minute"},
}

// What can't be meant is refused when the configuration is loaded, and nobody is asked
// for that.
func TestOIDCProvider(t *testing.T) {
	w := newWeb(t)
	t.Setenv("OIDC_SECRET", oidcSecret)
	for _, tc := range oidcBlocks {
		out, err := adapt(t, string(caddyfile.Format(fmt.Appendf(nil, "http://%s {\n%s}\n", w.addr, withAuth("provider oci_oidc {\n"+tc.block+"\n}", tc.option)))))
		if err == nil {
			err = validate(t, []byte(out))
		}
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s\nerr = %v\nwant %s", tc.block, err, tc.want)
		}
		if err != nil && (strings.Contains(err.Error(), oidcSecret) && !strings.Contains(tc.block, "issuer {env") || strings.Contains(err.Error(), "hush")) {
			t.Errorf("the error has the secret: %v", err)
		}
	}
}

// No two providers may have users of one name.
func TestNamesOfOIDCIssuers(t *testing.T) {
	w := newWeb(t)
	t.Setenv("OIDC_SECRET", oidcSecret)
	named := func(name string) string {
		return "provider oci_oidc {\nissuer https://sso.example.com {\n" + oidcClient + "name " + name + "\n}\n}\n"
	}
	for auth, want := range map[string]string{
		htpasswdAlice(t) + "\n" + named("htpasswd"): "two providers htpasswd, whose users couldn't be told apart: give the issuer another name",
		named("htpasswd") + htpasswdAlice(t):        "two providers htpasswd",
		named("upstream"):                           "two providers upstream, whose users couldn't be told apart: give the issuer another name",
		named("a") + named("b"):                     "two providers oci_oidc: write all issuers into one",
	} {
		if err := validate(t, w.config(t, "", withAuth(auth))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", auth, err)
		}
	}
}

// A secret that stands in the configuration is warned of, and not told again.
func TestOIDCSecretInTheConfiguration(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "log")
	w.run(t, "log {\noutput file "+file+"\nformat json\n}", withAuth("provider oci_oidc {\nissuer dex https://sso.example.com {\nclient_id registry\nclient_secret "+oidcSecret+"\n}\n}"))
	stop(t)
	if line := only(t, readLog(t, file), "client_secret"); !strings.Contains(line, `"warn"`) || !strings.Contains(line, "{env.NAME}") {
		t.Errorf("the warning is %s", line)
	}
	wantNoSecrets(t, file, oidcSecret)
}

// A policy that means whoever has signed in is warned of where that is everybody.
func TestOIDCForEverybody(t *testing.T) {
	w := newWeb(t)
	for option, want := range map[string]int{"": 1, "require_domain example.com": 0} {
		file := filepath.Join(t.TempDir(), "log")
		w.run(t, "log {\noutput file "+file+"\nformat json\n}", withAuth("provider oci_oidc {\nissuer google {\nclient_id registry\n"+option+"\n}\n}",
			"policy {\nallow pull ** to authenticated\n}"))
		stop(t)
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(raw), "everybody in the world"); got != want {
			t.Errorf("%q: %d warnings", option, got)
		}
	}
}

// The users of an issuer are told from others by its name, and a rule is warned of that
// doesn't tell, or that says another name.
func TestOIDCUsersInAPolicy(t *testing.T) {
	w := newWeb(t)
	provider := htpasswdAlice(t) + "\nprovider oci_oidc {\nissuer keycloak https://sso.example.com/realms/a {\nclient_id registry\n}\n" +
		"issuer dex https://dex.example.com {\nname other\nclient_id registry\n}\n}"
	for who, want := range map[string]string{
		"alice":               "alice is whoever is called that by any provider (htpasswd, keycloak, other)",
		"user@oidc:alice":     `there's no provider \"oidc\"`,
		"group@oidc:staff":    `there's no provider \"oidc\"`,
		"user@dex:alice":      `there's no provider \"dex\"`,
		"user@keycloak:alice": "",
		"user@other:alice":    "",
		"user@htpasswd:alice": "",
	} {
		log := w.validated(t, withAuth(provider, "policy {\nallow pull push ** to "+who+"\n}"))
		if got := strings.Contains(log, "policy: "); got != (want != "") || !strings.Contains(log, want) {
			t.Errorf("%s: the log has %s", who, log)
		}
	}
}

// The name of an issuer is that of its users in a policy.
func TestAUserOfAnIssuer(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(at(newIssuer(t), "name sso"), "policy {\nallow pull push a to user@sso:alice@example.com\nallow pull push b to user@oidc:alice@example.com\n}"))
	b := w.browser(t)
	b.want(t, http.StatusOK, http.MethodGet, signInPath+"/login", "")
	b.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "")
	b.want(t, http.StatusForbidden, http.MethodPost, "/v2/b/blobs/uploads/", "")
}

// Who has signed in with a browser may do what the groups may that the issuer says, and
// makes keys for what has no browser; the audit log tells of it.
func TestSigningInWithABrowser(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "log")
	w.run(t, "log {\noutput file "+file+"\nformat json\nlevel DEBUG\n}", withAuth(at(newIssuer(t))+"\napi_keys",
		"policy {\nallow pull team/** to group:release\nallow pull push open/** to authenticated\n}"))
	b := w.browser(t)
	b.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/team/app/tags/list", "")
	if a := b.want(t, http.StatusOK, http.MethodGet, signInPath, ""); !strings.Contains(a.body, "You aren") {
		t.Errorf("nobody is %s", a.body)
	}
	if a := b.want(t, http.StatusOK, http.MethodGet, signInPath+"/login", ""); !strings.Contains(a.body, "You are alice@example.com") {
		t.Fatalf("signed in, it's %s", a.body)
	}
	b.want(t, http.StatusNotFound, http.MethodGet, "/v2/team/app/tags/list", "")
	b.want(t, http.StatusForbidden, http.MethodGet, "/v2/other/tags/list", "")
	b.want(t, http.StatusAccepted, http.MethodPost, "/v2/open/app/blobs/uploads/", "")

	_, key := b.apiKey(t, `{"scopes":[{"repositories":"open/**","actions":["pull","push"]}]}`)
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/open/app/blobs/uploads/", "", "Authorization", basic("alice@example.com", key))
	w.want(t, http.StatusForbidden, http.MethodGet, "/v2/team/app/tags/list", "", "Authorization", basic("alice@example.com", key))
	if a := w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/", ""); !strings.HasPrefix(a.Header.Get("Www-Authenticate"), "Basic ") {
		t.Errorf("for a key it's asked with %q", a.Header.Get("Www-Authenticate"))
	}

	session := b.cookies()
	if len(session) != 1 {
		t.Fatalf("cookies: %v", session)
	}
	b.still().want(t, http.StatusSeeOther, http.MethodPost, signInPath+"/logout", "")
	b.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/team/app/tags/list", "")
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/team/app/tags/list", "", "Cookie", session[0].String())
	w.want(t, http.StatusBadRequest, http.MethodGet, signInPath+"/callback/oidc?code=a&state=b", "")
	stop(t)
	wantAudited(t, file, "login alice@example.com sign-in", "api key created alice@example.com ", "login alice@example.com start-upload",
		"logout alice@example.com sign-out", "login refused  sign-in")
	wantNoSecrets(t, file, oidcSecret, session[0].Value, key)
}

// wantAudited fails unless the audit log in file has these logins, changes of keys and
// logouts, in that order.
func wantAudited(t *testing.T, file string, want ...string) {
	t.Helper()
	var got []string
	for _, line := range readLog(t, file) {
		var a audited
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		if a.Logger == "oci_registry.audit" && (strings.HasPrefix(a.Msg, "log") || strings.HasPrefix(a.Msg, "api key")) && a.Status != http.StatusUnauthorized || a.Operation == "sign-in" {
			got = append(got, a.Msg+" "+a.User+" "+a.Operation)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("audited:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func wantNoSecrets(t *testing.T, file string, secrets ...string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		if strings.Contains(string(raw), s) {
			t.Errorf("the log has %s", s)
		}
	}
}

// A session outlives the process, in a registry whose content is in a folder, and the
// sessions of one folder's registry are good for its next configuration.
func TestSessionsSurviveARestart(t *testing.T) {
	w := newWeb(t)
	i := newIssuer(t)
	site := fmt.Sprintf("oci_registry {\nroot %s\nanonymous none\nauth {\n%s\n}\n}", t.TempDir(), at(i))
	global := "storage file_system " + t.TempDir()
	w.run(t, global, site)
	b := w.browser(t)
	b.want(t, http.StatusOK, http.MethodGet, signInPath+"/login", "")
	b.want(t, http.StatusOK, http.MethodGet, "/v2/", "")
	stop(t)
	w.run(t, global, site)
	b.want(t, http.StatusOK, http.MethodGet, "/v2/", "")
}

// A session that began before more was required is over. So is every one once the keys
// are replaced, in a registry that gives no tokens, too.
func TestSessionsThatEnd(t *testing.T) {
	w := newWeb(t)
	i := newIssuer(t)
	global, root := "storage file_system "+t.TempDir(), t.TempDir()
	site := func(option string) string {
		return fmt.Sprintf("oci_registry {\nroot %s\nanonymous none\nauth {\n%s\n}\n}", root, at(i, option))
	}
	w.run(t, global, site(""))
	b := w.browser(t)
	signIn := func() {
		t.Helper()
		b.want(t, http.StatusOK, http.MethodGet, signInPath+"/login", "")
		b.want(t, http.StatusOK, http.MethodGet, "/v2/", "")
	}
	signIn()
	stop(t)
	file := filepath.Join(t.TempDir(), "log")
	admin := w.runWithAdmin(t, global+"\nlog {\noutput file "+file+"\nformat json\n}", site("require_group staff"))
	b.want(t, http.StatusForbidden, http.MethodGet, "/v2/", "")
	signIn()
	if out, err := admin.command(t, "tokens", "replace-keys"); err != nil || out != "" {
		t.Errorf("%s %v", out, err)
	}
	b.want(t, http.StatusForbidden, http.MethodGet, "/v2/", "")
	signIn()
	if _, err := admin.command(t, "tokens", "revoke", "alice@example.com"); err == nil || !strings.Contains(err.Error(), "gives no tokens") {
		t.Errorf("there are no tokens to revoke: %v", err)
	}
	stop(t)
	only(t, readLog(t, file), `"session keys replaced"`)
}

// An account that's followed may have keys for longer than one that nobody looks at.
func TestKeysOfAFollowedAccount(t *testing.T) {
	w := newWeb(t)
	const month = `{"expires_in":2592000}`
	for options, status := range map[string]int{"": http.StatusBadRequest, "follow 5m": http.StatusCreated} {
		w.run(t, "", withAuth(at(newIssuer(t), options)+"\napi_keys"))
		b := w.browser(t)
		signedIn := false
		for range 10 { // a connection that the server before had accepted is served by that
			signedIn = signedIn || strings.Contains(b.want(t, http.StatusOK, http.MethodGet, signInPath+"/login", "").body, "You are alice")
		}
		if !signedIn {
			t.Fatalf("%q: alice can't sign in", options)
		}
		b.want(t, status, http.MethodPost, apiKeysPath, month, "Content-Type", "application/json")
	}
}

// An account that was followed, and that nobody has seen for long, is forgotten, and its
// keys are: whoever gets the name doesn't get them.
func TestAccountsThatAreForgotten(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(at(newIssuer(t), "follow 5m")+"\napi_keys"))
	b := w.browser(t)
	b.want(t, http.StatusOK, http.MethodGet, signInPath+"/login", "")
	_, key := b.apiKey(t, `{}`)
	r, err := servedAs("inline")
	if err != nil {
		t.Fatal(err)
	}
	var at string
	for key, err := range r.state.List(t.Context(), "accounts") {
		if at != "" || err != nil {
			t.Fatal(at, key, err)
		}
		at = key
	}
	value, version, err := r.state.Load(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	var account map[string]any
	if err := json.Unmarshal(value, &account); err != nil {
		t.Fatal(err)
	}
	account["token"], account["gone"], account["checked"] = "", true, "2020-01-01T00:00:00Z"
	if value, err = json.Marshal(account); err != nil {
		t.Fatal(err)
	}
	if _, err := r.state.Save(t.Context(), at, value, version); err != nil {
		t.Fatal(err)
	}
	for _, c := range r.chores() {
		if err := c.do(t.Context()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, _, err := r.state.Load(t.Context(), at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the account is there: %v", err)
	}
	w.browser(t).want(t, http.StatusOK, http.MethodGet, signInPath+"/login", "") // the name is somebody's again
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/", "", "Authorization", basic("alice@example.com", key))
	if keys, err := r.keys.All(t.Context()); err != nil || len(keys) > 0 {
		t.Errorf("there are keys: %v, %v", keys, err)
	}
}

// On a site that's no registry browsers are sent to sign in, and nobody else is; what
// comes after knows who it is.
func TestOIDCOnAnySite(t *testing.T) {
	w := newWeb(t)
	i := newIssuer(t)
	config := w.config(t, "storage file_system "+t.TempDir(), "respond \"{http.auth.user.id} {http.auth.user.groups}\"\nhandle_errors {\nrespond \"an error\"\n}\n")
	var c map[string]any
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	routes := c["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any)["srv0"].(map[string]any)
	routes["routes"] = append([]any{map[string]any{"handle": []any{map[string]any{
		"handler": "authentication", "providers": map[string]any{"oci_oidc": map[string]any{
			"issuers": []any{map[string]any{"url": i.URL, "client_id": "registry", "client_secret": "{env.OIDC_SECRET}"}},
		}},
	}}}}, routes["routes"].([]any)...)
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	load(t, quiet(t, config))
	b := w.browser(t)
	if a := b.want(t, http.StatusUnauthorized, http.MethodGet, "/x", ""); a.body != "an error" {
		t.Errorf("what is no browser gets %q", a.body)
	}
	b.want(t, http.StatusUnauthorized, http.MethodPost, "/x", "", "Accept", "text/html")
	if a := b.want(t, http.StatusBadRequest, http.MethodGet, "/auth/callback/oidc", ""); !strings.HasSuffix(a.body, "</html>\n") {
		t.Errorf("the page is %s", a.body)
	}
	if a := b.still().want(t, http.StatusSeeOther, http.MethodGet, "/x?a=b", "", "Accept", "text/html"); a.body != "" || a.Header.Get("Location") != "/auth/login?return_to=%2Fx%3Fa%3Db" {
		t.Errorf("a browser is sent to %q with %q", a.Header.Get("Location"), a.body)
	}
	a := b.want(t, http.StatusOK, http.MethodGet, "/x?a=b", "", "Accept", "text/html")
	if a.body != `alice@example.com ["release","staff"]` || a.Request.URL.RequestURI() != "/x?a=b" {
		t.Errorf("signed in, it's %q at %s", a.body, a.Request.URL)
	}
	b.still().want(t, http.StatusSeeOther, http.MethodPost, "/auth/logout", "")
	b.want(t, http.StatusUnauthorized, http.MethodGet, "/x", "")
}

// Sessions have keys, too, which aren't left behind in the other home.
func TestSessionsInTheOtherHome(t *testing.T) {
	s, provider := newStateful(t), at(newIssuer(t))
	load := func(state string) error {
		site := "oci_registry {\nroot " + s.root + "\nanonymous none\nstate " + state + "\nauth {\n" + provider + "\nchallenge basic\n}\n}"
		return tryLoad(quiet(t, s.config(t, s.global(), site)))
	}
	if err := load("caddy"); err != nil {
		t.Fatal(err)
	}
	s.browser(t).want(t, http.StatusOK, http.MethodGet, signInPath+"/login", "")
	if err := load("store"); err == nil || !strings.Contains(err.Error(), "keys are elsewhere") {
		t.Errorf("err = %v", err)
	}
	stop(t)
}
