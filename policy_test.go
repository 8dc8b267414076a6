package ociregistry

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/internal/adminapi"
)

// as is how a user signs in whose password is that of alice.
func as(user string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":secret"))
}

// withPolicy is a site with a registry in memory, the users alice, bob, carol and root,
// and a policy.
func withPolicy(policy string, options ...string) string {
	var users strings.Builder
	for _, u := range []string{"alice", "bob", "carol", "root"} {
		fmt.Fprintf(&users, "\t\t\t\t%s %s\n", u, aliceHash)
	}
	return withAuth("provider http_basic {\n"+users.String()+"\t\t\t}\n\t\t\tchallenge basic", append(options, "policy {\n"+policy+"\n\t\t}")...)
}

// policyLayer is a blob of what TestPolicy pushes.
var policyLayer = digest.FromString("layer").String()

// policyRequests are who asks for what in TestPolicy, and the answer.
var policyRequests = []struct {
	who, method, path string
	want              int
}{
	{"", http.MethodGet, "/v2/public/x/tags/list", 200},
	{"", http.MethodGet, "/v2/public/x/blobs/" + policyLayer, 200},
	{"", http.MethodGet, "/v2/private/x/tags/list", 401},
	{"", http.MethodGet, "/v2/team/app/tags/list", 401},
	{"", http.MethodPost, "/v2/public/x/blobs/uploads/", 401},
	{"bob", http.MethodGet, "/v2/private/x/tags/list", 403},
	{"bob", http.MethodGet, "/v2/private/x/blobs/" + policyLayer, 403},
	{"bob", http.MethodGet, "/v2/private/none/tags/list", 403},
	{"bob", http.MethodGet, "/v2/team/app/tags/list", 200},
	{"bob", http.MethodGet, "/v2/team/lib/tags/list", 403},
	{"bob", http.MethodPost, "/v2/team/app/blobs/uploads/", 202},
	{"bob", http.MethodPost, "/v2/team/lib/blobs/uploads/", 403},
	{"bob", http.MethodPost, "/v2/team/app/blobs/uploads/?from=private/x&mount=" + policyLayer, 202},
	{"alice", http.MethodPost, "/v2/team/new/blobs/uploads/?from=private/x&mount=" + policyLayer, 201},
	{"alice", http.MethodPost, "/v2/team/app/blobs/uploads/", 403}, // the longer pattern counts, and it's bob's
	{"carol", http.MethodPost, "/v2/team/lib/blobs/uploads/", 202},
	{"carol", http.MethodDelete, "/v2/team/lib/manifests/v1", 403},
	{"alice", http.MethodGet, "/v2/private/x/tags/list", 200},
	{"root", http.MethodPost, "/v2/archive/x/blobs/uploads/", 403},
	{"root", http.MethodPost, "/v2/private/x/blobs/uploads/", 202},
	{"bob", http.MethodDelete, "/v2/team/app/manifests/v1", 202},
}

func TestPolicy(t *testing.T) {
	w := newWeb(t)
	site := withPolicy(`
		allow pull ** to *
		allow pull push team/** to alice group:release
		allow pull push overwrite delete team/app to bob
		allow pull private/** to alice
		admin pull push overwrite delete to root
		no_overwrite v*
		read_only archive/**`, "group release carol")
	w.run(t, "", site)
	asRoot := &web{&http.Client{Transport: sender{"", as("root"), w.Transport}}, w.addr}
	for _, name := range []string{"private/x", "public/x", "team/app", "team/lib"} {
		if err := asRoot.push(t.Context(), name, "v1", "layer"); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range policyRequests {
		header := []string{}
		if tc.who != "" {
			header = []string{"Authorization", as(tc.who)}
		}
		a, err := w.send(t.Context(), tc.method, tc.path, "", header...)
		if err != nil || a.StatusCode != tc.want {
			t.Errorf("%q %s %s: %v %s, want %d: %s", tc.who, tc.method, tc.path, err, a.Status, tc.want, a.body)
		}
	}
	for who, want := range map[string]string{
		"":      `["public/x"]`,
		"bob":   `["public/x","team/app"]`,
		"alice": `["private/x","public/x","team/lib","team/new"]`,
		"root":  `["private/x","public/x","team/app","team/lib","team/new"]`,
	} {
		header := []string{}
		if who != "" {
			header = []string{"Authorization", as(who)}
		}
		if a := w.want(t, http.StatusOK, http.MethodGet, "/v2/_catalog", "", header...); a.body != `{"repositories":`+want+`}` {
			t.Errorf("%q sees %s", who, a.body)
		}
	}
	// The same again is no move, and a move of what's protected is refused to all.
	if err := asRoot.push(t.Context(), "team/lib", "v1", "layer"); err != nil {
		t.Error(err)
	}
	if err := asRoot.push(t.Context(), "team/lib", "v1", "another"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a tag that can't move was pushed: %v", err)
	}
	w.want(t, http.StatusMethodNotAllowed, http.MethodPut, "/v2/team/lib/tags/list", "", "Authorization", as("root"))
}

// Rules may be bound to what Caddy knows of a request.
func TestPolicyConditions(t *testing.T) {
	w := newWeb(t)
	w.run(t, "servers {\ntrusted_proxies static 127.0.0.1\n}", withPolicy(`
		allow pull ** to authenticated
		allow pull push ci/** to alice when client_ip 10.0.0.0/8
		allow pull push team/** to alice {
			when client_ip 10.0.0.0/8
			when header User-Agent docker/*
		}
		allow pull push night/** to alice when cel `+"`req.client.ip.startsWith(\"10.\") && req.method == \"POST\"` \"not from there\""+`
		allow pull push groups/** to authenticated when cel `+"`\"dev\" in req.user.groups`"+``, "group dev alice"))
	for _, tc := range []struct {
		repository, from, agent string
		want                    int
	}{
		{"ci/x", "10.1.2.3", "x", 202},
		{"ci/x", "192.0.2.1", "x", 403},
		{"team/x", "10.1.2.3", "docker/29", 202},
		{"team/x", "10.1.2.3", "curl", 403},
		{"team/x", "192.0.2.1", "docker/29", 403},
		{"night/x", "10.1.2.3", "x", 202},
		{"night/x", "192.0.2.1", "x", 403},
		{"groups/x", "192.0.2.1", "x", 202},
	} {
		a, err := w.send(t.Context(), http.MethodPost, "/v2/"+tc.repository+"/blobs/uploads/", "",
			"Authorization", as("alice"), "X-Forwarded-For", tc.from, "User-Agent", tc.agent)
		if err != nil || a.StatusCode != tc.want {
			t.Errorf("%+v: %v %s %s", tc, err, a.Status, a.body)
		}
	}
}

// refusedPolicies are policies that aren't loaded, and parts of why not.
var refusedPolicies = []struct{ name, options, want string }{
	{"anonymous", "policy {\nallow pull ** to *\n}\nanonymous pull", "anonymous and policy contradict each other"},
	{"group without a policy", "group a b", "groups are for a policy, and there's none"},
	{"action of another registry", "policy {\nadmin read to alice\n}", `admin "read": want admin ACTION… to WHO…`},
	{"no such name", "policy {\nallow pull Team/** to alice\n}", `rule 1 (allow pull Team/** to alice) at Caddyfile:8: the pattern "Team/**" matches nothing`},
	{"equally long", "policy {\nallow pull team/* to alice\nallow pull */apps to bob\n}", "they're equally long and both match"},
	{"anonymous admin", "policy {\nadmin pull to anonymous\n}", "anonymous callers can't be admins"},
	{"cel", "policy {\nallow pull ** to alice when cel `req.nothing`\n}", "undeclared reference"},
	{"cel without backticks", "policy {\nallow pull ** to alice when cel req.client.ip == x\n}", "put the expression between backticks"},
	{"when", "policy {\nallow pull ** to alice when raining\n}", "when raining: want cel, or a request matcher: one of "},
	{"when twice", "policy {\nallow pull ** to alice {\nwhen method GET\nwhen method PUT\n}\n}", "when method is given twice"},
	{"to nobody", "policy {\nallow pull **\n}", "to whom? Want allow ACTION"},
	{"nothing", "policy {\nallow pull to alice\n}", "allow: which repositories?"},
	{"member", "group a anonymous\npolicy {\nallow pull ** to group:a\n}", `"anonymous" is no user`},
}

func TestPolicyIsRefused(t *testing.T) {
	w := newWeb(t)
	for _, tc := range refusedPolicies {
		t.Run(tc.name, func(t *testing.T) {
			site := fmt.Sprintf("oci_registry {\nstorage memory\n%s\n}", tc.options)
			in := caddyfile.Format([]byte(fmt.Sprintf("{\nadmin off\n}\nhttp://%s {\n%s\n}\n", w.addr, site)))
			config, err := adapt(t, string(in))
			if err == nil {
				err = validate(t, []byte(config))
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("err = %v\nwant %s", err, tc.want)
			}
		})
	}
}

// What hardly is meant is told when the configuration is loaded.
func TestPolicyWarnings(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "caddy.log")
	config := w.config(t, "", withPolicy("allow pull ** to *\nallow pull push a/** to group:relaese", "group release carol"))
	config = withJSON(t, config, fmt.Sprintf(`{"logs":{"default":{"writer":{"output":"file","filename":%q},"encoder":{"format":"json"}}}}`, file), "logging")
	load(t, config)
	stop(t)
	line := only(t, readLog(t, file), "policy: ")
	for _, part := range []string{`"level":"warn"`, "relaese", "rule 2 (allow pull push a/** to group:relaese)", "fix"} {
		if !strings.Contains(line, part) {
			t.Errorf("%s isn't in %s", part, line)
		}
	}
}

// explained is what 'caddy oci-registry explain' says.
func explained(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return runCommand(t, append([]string{"explain"}, args...)...)
}

func TestExplain(t *testing.T) {
	w := newWeb(t)
	config := filepath.Join(t.TempDir(), "caddy.json")
	site := withPolicy("allow pull ** to *\nallow pull push team/** to alice group:release\nallow pull push ci/** to alice when client_ip 10.0.0.0/8", "group release carol")
	if err := os.WriteFile(config, w.config(t, "", site), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args    []string
		granted bool
		parts   []string
	}{
		{[]string{"alice", "push", "team/app:v1"}, true, []string{"allowed to alice", "rule 2", "team/**", "may move: no"}},
		{[]string{"carol", "push", "team/app@" + digest.FromString("x").String()}, true, []string{"carol (groups: release)"}},
		{[]string{"--group", "release", "erin", "push", "team/app"}, true, []string{"rule 2"}},
		{[]string{"erin", "push", "team/app"}, false, []string{"refused to erin", "no rule for team/**"}},
		{[]string{"anonymous", "pull", "other"}, true, []string{"rule 1"}},
		{[]string{"user:anonymous", "push", "other"}, false, []string{"refused to anonymous"}},
		{[]string{"alice", "list"}, true, nil},
		{[]string{"alice", "push", "ci"}, false, []string{"it's about a request, and there's none"}},
		{[]string{"--from", "10.1.2.3", "alice", "push", "ci"}, true, []string{"rule 3"}},
		{[]string{"--from", "192.0.2.1", "alice", "push", "ci"}, false, []string{"isn't met"}},
	} {
		out, err := explained(t, append([]string{"--config", config}, tc.args...)...)
		if (err == nil) != tc.granted {
			t.Errorf("%q: %v %s", tc.args, err, out)
		}
		for _, part := range tc.parts {
			if !strings.Contains(out, part) {
				t.Errorf("%q: %s isn't in\n%s", tc.args, part, out)
			}
		}
	}
	for want, args := range map[string][]string{
		`action "read": want pull`:    {"alice", "read", "a"},
		"invalid repository name":     {"alice", "pull", "A"},
		"no registry \"x\" (it has: ": {"--registry", "x", "alice", "pull", "a"},
		"is in no group":              {"--group", "g", "anonymous", "pull", "a"},
		"address of the client":       {"--from", "here", "alice", "pull", "a"},
	} {
		if out, err := explained(t, append([]string{"--config", config}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s\n%s", args, err, want, out)
		}
	}
}

// Without a policy it's the option anonymous that decides.
func TestExplainWithoutAPolicy(t *testing.T) {
	w := newWeb(t)
	config := filepath.Join(t.TempDir(), "caddy.json")
	if err := os.WriteFile(config, w.config(t, "", withAuth(basicAlice)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := explained(t, "--config", config, "anonymous", "push", "a")
	if err == nil || !strings.Contains(out, "'anonymous pull'") {
		t.Errorf("%v %s", err, out)
	}
	if out, err := explained(t, "--config", config, "--json", "alice", "push", "a"); err != nil || !strings.Contains(out, `"granted": true`) {
		t.Errorf("%v %s", err, out)
	}
}

// The admin API says the same of a registry that runs.
func TestExplainByTheAdminAPI(t *testing.T) {
	w := newWeb(t)
	admin := w.runWithAdmin(t, "", withPolicy("allow pull ** to *\nallow pull push team/** to group:dev"))
	q := url.Values{"user": {"erin"}, "group": {"dev", "ops"}, "action": {"push"}, "repository": {"team/app"}, "reference": {"v1"}, "client": {"10.0.0.1"}}
	const at = adminapi.Path + "/inline/explain"
	for _, a := range []answer{
		admin.want(t, http.StatusOK, http.MethodGet, at+"?"+q.Encode(), ""),
		admin.want(t, http.StatusOK, http.MethodPost, at, q.Encode(), "Content-Type", "application/x-www-form-urlencoded"),
	} {
		var e authz.Explanation
		decode(t, a, &e)
		if !e.Granted || e.Overwrite || e.User != "erin" || !slices.Equal(e.Groups, []string{"dev", "ops"}) {
			t.Errorf("got %+v", e)
		}
	}
	admin.want(t, http.StatusBadRequest, http.MethodGet, at+"?user=erin&action=read", "")
	admin.want(t, http.StatusBadRequest, http.MethodGet, at+"?action=pull", "")
	admin.want(t, http.StatusNotFound, http.MethodGet, adminapi.Path+"/none/explain?user=erin&action=pull", "")
	admin.want(t, http.StatusMethodNotAllowed, http.MethodDelete, at, "")
}

// A name with spaces in it goes into quotes.
func TestQuotedNames(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withPolicy("allow pull push a to \"group:Domain Admins\" \"group:cn=Release Team,ou=groups,dc=example\"", "group \"Domain Admins\" alice", "group \"cn=Release Team,ou=groups,dc=example\" bob \"Jane Doe\""))
	for user, status := range map[string]int{"alice": http.StatusAccepted, "bob": http.StatusAccepted, "carol": http.StatusForbidden} {
		w.want(t, status, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", as(user))
	}
	err := validate(t, w.config(t, "", withPolicy("allow pull a to alice, bob")))
	if err == nil || !strings.Contains(err.Error(), `"alice,"`) {
		t.Errorf("a list with commas: %v", err)
	}
}

// A rule that names a provider is for who signs in there, and so is an explanation.
func TestUsersOfOneProvider(t *testing.T) {
	w := newWeb(t)
	site := withAuth(htpasswdAlice(t)+"\n\t\t\tprovider oci_mtls", "policy {\nallow pull push a to user@htpasswd:alice\nallow pull push b to user@mtls:alice\n}")
	admin := w.runWithAdmin(t, "", site)
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", alice)
	w.want(t, http.StatusForbidden, http.MethodPost, "/v2/b/blobs/uploads/", "", "Authorization", alice)
	for user, want := range map[string]bool{"user@htpasswd:alice": true, "user@mtls:alice": false, "alice": false, "alice&provider=htpasswd": true} {
		var e authz.Explanation
		decode(t, admin.want(t, http.StatusOK, http.MethodGet, adminapi.Path+"/inline/explain?action=push&repository=a&user="+user, ""), &e)
		if e.Granted != want {
			t.Errorf("%s: %+v", user, e)
		}
	}
}

func TestKnownProviders(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		auth Auth
		want []string
	}{
		{Auth{}, []string{"upstream"}},
		{Auth{sources: []string{"ldap", "http_basic"}}, []string{"ldap", "http_basic"}},
		{Auth{sources: []string{"ldap"}, Upstream: new(Upstream)}, []string{"ldap", "upstream"}},
	} {
		if got := tc.auth.known().Providers; !slices.Equal(got, tc.want) {
			t.Errorf("%v: %q, want %q", tc.auth.sources, got, tc.want)
		}
	}
}

// What is wrong with a policy is told with the line where it's written, be it an error or a
// warning.
func TestFindingsHaveLines(t *testing.T) {
	w := newWeb(t)
	config := w.config(t, "", withAuth(basicAlice, "policy {\nallow pull a/** to alice\nallow pull /b/** to alice\nadmin pull to *\n}"))
	lines := strings.Split(string(caddyfile.Format([]byte("{\nadmin off\npersist_config off\n\n}\nhttp://x {\nseen\n"+withAuth(basicAlice, "policy {\nallow pull a/** to alice")+"\n}"))), "\n")
	first := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "allow pull a/**") }) + 1
	err := validate(t, config)
	for _, want := range []string{
		fmt.Sprintf("rule 2 (allow pull /b/** to alice) at Caddyfile:%d: ", first+1),
		fmt.Sprintf("admin rule 1 (admin pull to *) at Caddyfile:%d: ", first+2),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	tie := validate(t, w.config(t, "", withAuth(basicAlice, "policy {\nallow pull a/*b to alice\nallow pull a/b* to alice\n}")))
	if want := fmt.Sprintf("patterns a/*b at Caddyfile:%d and a/b* at Caddyfile:%d: ", first, first+1); tie == nil || !strings.Contains(tie.Error(), want) {
		t.Errorf("%v\nwant %s", tie, want)
	}
	log := w.validated(t, withAuth(basicAlice, "policy {\nallow pull a/** to alice group:none\n}"))
	if !strings.Contains(log, `"where":"rule 1 (allow pull a/** to alice group:none) at Caddyfile:`) {
		t.Errorf("the log has %s", log)
	}
}
