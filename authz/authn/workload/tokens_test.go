package workload_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
	"github.com/caddy-oci/oci-registry/authz/authn/workload"
)

const audience = "registry.example.com"

func newTokens(t testing.TB, trusts ...workload.Trust) *workload.Tokens {
	t.Helper()
	tokens, err := workload.New("ci", trusts...)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// trust is one in an issuer that nothing else is said of.
func trust(srv *issuertest.Issuer) workload.Trust {
	return workload.Trust{Issuer: issuer.Options{URL: srv.URL}, Audiences: []string{audience}}
}

func bearer(token string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v2/", http.NoBody)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func basic(user, password string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/v2/", http.NoBody)
	r.SetBasicAuth(user, password)
	return r
}

// platform returns the claims of a platform's tokens, valid now.
func platform(t *testing.T, srv *issuertest.Issuer, name string) map[string]any {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("ISSUER", srv.URL, "AUDIENCE", audience).Replace(string(data))
	var claims map[string]any
	if err := json.Unmarshal([]byte(text), &claims); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"iat", "nbf"} {
		if _, ok := claims[at]; ok {
			claims[at] = time.Now().Unix()
		}
	}
	claims["exp"] = time.Now().Add(5 * time.Minute).Unix()
	return claims
}

// platformCase is a platform's token, and who is meant by it.
type platformCase struct {
	platform string
	trust    workload.Trust
	user     string
	groups   []string
	claim    string
}

// platforms are tokens that an issuer signs as platforms do.
func platforms(srv *issuertest.Issuer) []platformCase {
	url := issuer.Options{URL: srv.URL}
	return []platformCase{
		{
			"github",
			workload.Trust{Issuer: url, Mapping: workload.Mapping{
				Variables: []workload.Variable{
					{Name: "owner", Expression: "claims.repository.split('/')[0]"},
					{Name: "trusted", Expression: "vars.owner == 'octo-org' && claims.ref_protected == 'true'"},
				},
				Validations: []workload.Validation{{Expression: "vars.trusted", Message: "not of us"}},
				User:        "'github:' + claims.repository",
				Groups:      "['org:' + vars.owner, 'env:' + claims.environment]",
			}},
			"github:octo-org/octo-repo",
			[]string{"org:octo-org", "env:prod"},
			"job_workflow_ref",
		},
		{
			"github",
			workload.Trust{Issuer: url},
			srv.URL + "/repo:octo-org/octo-repo:environment:prod", nil, "repository",
		},
		{
			"gitlab",
			workload.Trust{Issuer: url, Mapping: workload.Mapping{
				User: "claims.project_path", Groups: "claims.groups_direct",
			}},
			"my-group/my-project",
			[]string{"mygroup/mysubgroup", "myothergroup/myothersubgroup"},
			"pipeline_id",
		},
		{
			"kubernetes",
			workload.Trust{Issuer: url, Mapping: workload.Mapping{
				Validations: []workload.Validation{{Expression: "claims.sub.startsWith('system:serviceaccount:')"}},
				User:        "claims['kubernetes.io'].namespace + '/' + claims['kubernetes.io'].serviceaccount.name",
				Groups:      "['namespace:' + claims['kubernetes.io'].namespace]",
			}},
			"team-a/builder",
			[]string{"namespace:team-a"},
			"kubernetes.io",
		},
		{
			"spiffe",
			workload.Trust{Issuer: issuer.Options{TrustDomain: "example.org", JWKSURL: srv.URL + "/keys"}},
			"spiffe://example.org/ns/ci/sa/build", nil, "sub",
		},
	}
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	for _, c := range platforms(srv) {
		c.trust.Audiences = []string{"another", audience}
		tokens := newTokens(t, c.trust)
		token := srv.Sign(t, platform(t, srv, c.platform))
		for kind, r := range map[string]*http.Request{
			"bearer": bearer(token), "Basic": basic("any user", token), "Basic without user": basic("", token), "warm": bearer(token),
		} {
			who, found, err := tokens.Identify(r)
			if err != nil || !found || who.ID != c.user || !slices.Equal(who.Groups, c.groups) || who.Provider != "ci" {
				t.Errorf("%s as %s: %+v, %t, %v", c.platform, kind, who, found, err)
			}
			if who.Claims[c.claim] == nil {
				t.Errorf("%s as %s: no claim %s", c.platform, kind, c.claim)
			}
		}
		who, err := tokens.Authenticate(t.Context(), "x", token)
		if err != nil || who.ID != c.user {
			t.Errorf("%s as a password: %+v, %v", c.platform, who, err)
		}
	}
}

func TestWhatIsLeftToOthers(t *testing.T) {
	t.Parallel()
	srv, stranger := issuertest.New(t), issuertest.New(t)
	tokens := newTokens(t, trust(srv))
	good := srv.Sign(t, srv.Claims(audience, nil))
	theirs := stranger.Sign(t, stranger.Claims(audience, nil))
	twice := bearer(good)
	twice.Header.Add("Authorization", "Bearer "+good)
	digest := httptest.NewRequest(http.MethodGet, "/v2/", http.NoBody)
	digest.Header.Set("Authorization", "Digest "+good)
	cookie := httptest.NewRequest(http.MethodGet, "/v2/?access_token="+good, http.NoBody)
	cookie.AddCookie(&http.Cookie{Name: "token", Value: good})
	for name, r := range map[string]*http.Request{
		"nothing":            httptest.NewRequest(http.MethodGet, "/v2/", http.NoBody),
		"a stranger's":       bearer(theirs),
		"a stranger's Basic": basic("x", theirs),
		"a password":         basic("alice", "secret"),
		"an API key":         basic("alice", "ork_123"),
		"no password":        basic("alice", ""),
		"as the user":        basic(good, ""),
		"no JWT":             bearer("abc.def.ghi"),
		"empty":              bearer(""),
		"another scheme":     digest,
		"elsewhere":          cookie,
		"two headers":        twice,
	} {
		if who, found, err := tokens.Identify(r); found || err != nil || !who.IsAnonymous() {
			t.Errorf("%s: %+v, %t, %v", name, who, found, err)
		}
	}
	if _, err := tokens.Authenticate(t.Context(), "alice", "secret"); !errors.Is(err, authn.ErrRefused) {
		t.Errorf("a password: %v", err)
	}
	if n := stranger.Fetches(); n > 0 {
		t.Errorf("the stranger was asked %d times", n)
	}
}

func TestRefusedTokens(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	config := trust(srv)
	config.Mapping = workload.Mapping{
		Validations: []workload.Validation{{Expression: "claims.ok == true", Message: "it isn't ok"}},
		User:        "claims.name",
		Groups:      "claims.groups",
	}
	tokens := newTokens(t, config)
	many := make([]string, 1001)
	for i := range many {
		many[i] = "g"
	}
	changed := func(changes map[string]any) map[string]any {
		claims := srv.Claims(audience, map[string]any{"ok": true, "name": "n", "groups": []string{"g"}})
		maps.Copy(claims, changes)
		return claims
	}
	sign := func(changes map[string]any) string { return srv.Sign(t, changed(changes)) }
	if _, _, err := tokens.Identify(bearer(sign(nil))); err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"another audience":    sign(map[string]any{"aud": "another"}),
		"a longer audience":   sign(map[string]any{"aud": audience + ".evil"}),
		"no audience":         sign(map[string]any{"aud": nil}),
		"an empty audience":   sign(map[string]any{"aud": []string{}}),
		"expired":             sign(map[string]any{"exp": issuertest.Expired()}),
		"a stranger's key":    issuertest.NewKey(t, jose.ES256).Sign(t, changed(nil), nil),
		"not valid":           sign(map[string]any{"ok": false}),
		"valid by a word":     sign(map[string]any{"ok": "true"}),
		"no claim":            sign(map[string]any{"name": nil}),
		"a number for a name": sign(map[string]any{"name": 7}),
		"no name":             sign(map[string]any{"name": ""}),
		"a long name":         sign(map[string]any{"name": strings.Repeat("x", 1025)}),
		"a line in a name":    sign(map[string]any{"name": "a\nb"}),
		"groups of numbers":   sign(map[string]any{"groups": []any{"g", 7}}),
		"groups as a word":    sign(map[string]any{"groups": "g"}),
		"an empty group":      sign(map[string]any{"groups": []string{""}}),
		"many groups":         sign(map[string]any{"groups": many}),
		"a large token":       sign(map[string]any{"x": strings.Repeat("x", issuer.MaxToken)}),
	} {
		for _, r := range []*http.Request{bearer(token), basic("x", token)} {
			who, found, err := tokens.Identify(r)
			if !found || !errors.Is(err, authn.ErrRefused) || !who.IsAnonymous() {
				t.Errorf("%s: %+v, %t, %v", name, who, found, err)
			}
			if err != nil && strings.Contains(err.Error(), token) {
				t.Errorf("%s: the error has the token in it", name)
			}
		}
	}
	if _, _, err := tokens.Identify(bearer(sign(map[string]any{"ok": false}))); !strings.Contains(err.Error(), "it isn't ok") {
		t.Errorf("the error doesn't say the message: %v", err)
	}
}

func TestAlgorithmConfusion(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	tokens := newTokens(t, trust(srv))
	genuine := srv.Sign(t, srv.Claims(audience, nil))
	payload := strings.Split(genuine, ".")[1]
	none := "eyJhbGciOiJub25lIn0." + payload + "."
	public := srv.Key().Public()
	secret, err := public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, nil)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := json.Marshal(srv.Claims(audience, nil))
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	confused, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"none": none, "HS256": confused} {
		if who, found, err := tokens.Identify(bearer(token)); !found || !errors.Is(err, authn.ErrRefused) {
			t.Errorf("%s: %+v, %t, %v", name, who, found, err)
		}
	}
}

func TestSeveralTrustsInOneIssuer(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	prod, test := trust(srv), trust(srv)
	prod.Audiences, prod.Mapping.User = []string{"prod"}, "'prod'"
	test.Audiences, test.Mapping.User = []string{"prod", "test"}, "'test'"
	tokens := newTokens(t, prod, test)
	for aud, want := range map[string]string{"prod": "prod", "test": "test", "other": ""} {
		who, found, err := tokens.Identify(bearer(srv.Sign(t, srv.Claims(aud, nil))))
		if !found || who.ID != want || want == "" && !errors.Is(err, authn.ErrRefused) {
			t.Errorf("%s: %+v, %t, %v", aud, who, found, err)
		}
	}
	if n := srv.Fetches(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
}

func TestAnIssuerThatIsDownRefusesNothing(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	elsewhere := trust(srv)
	elsewhere.Issuer.JWKSURL = srv.URL + "/nothing"
	other := trust(srv)
	other.Issuer.KeysFile = keysFile(t, issuertest.NewKey(t, jose.ES256))
	srv.SetDown(true)
	for _, trusts := range [][]workload.Trust{{trust(srv)}, {elsewhere, trust(srv)}, {other, trust(srv)}, {trust(srv), other}} {
		_, found, err := newTokens(t, trusts...).Identify(bearer(srv.Sign(t, srv.Claims(audience, nil))))
		if !found || err == nil || errors.Is(err, authn.ErrRefused) {
			t.Errorf("%t, %v", found, err)
		}
	}
}

func keysFile(t *testing.T, k issuertest.Key) string {
	t.Helper()
	data, err := json.Marshal(map[string]any{"keys": []any{k.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestWarmTokens(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(t, trust(srv))
		token := srv.Sign(t, srv.Claims(audience, map[string]any{"exp": time.Now().Add(time.Hour).Unix()}))
		identify := func() error {
			_, _, err := tokens.Identify(bearer(token))
			return err
		}
		if err := identify(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Minute)
		srv.SetDown(true)
		if err := identify(); err != nil {
			t.Errorf("while the issuer is down: %v", err)
		}
		time.Sleep(time.Hour - 9*time.Minute + issuer.Leeway)
		if err := identify(); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("it has expired: %v", err)
		}
	})
}

func TestAWarmTokenWhoseKeyIsGone(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(t, trust(srv))
		token := srv.Sign(t, srv.Claims(audience, map[string]any{"exp": time.Now().Add(time.Hour).Unix()}))
		if _, _, err := tokens.Identify(bearer(token)); err != nil {
			t.Fatal(err)
		}
		srv.Use(issuertest.NewKey(t, jose.ES256))
		time.Sleep(10 * time.Minute)
		if _, _, err := tokens.Identify(bearer(token)); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("%v", err)
		}
	})
}

// TestRotationUnderLoad has an issuer that publishes its keys before it uses them,
// as they all do. Nobody is refused.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	tokens := newTokens(t, trust(srv))
	keys := []issuertest.Key{srv.Key(), issuertest.NewKey(t, jose.ES256), issuertest.NewKey(t, jose.EdDSA)}
	srv.Use(keys[0], keys[1:]...)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				claims := srv.Claims(audience, nil)
				if _, _, err := tokens.Identify(bearer(srv.Sign(t, claims))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, k := range keys[1:] {
		srv.Use(k, keys...)
	}
	wg.Wait()
}

func BenchmarkWarm(b *testing.B) {
	srv := issuertest.New(b)
	tokens := newTokens(b, trust(srv))
	r := bearer(srv.Sign(b, srv.Claims(audience, map[string]any{"padding": strings.Repeat("x", 1000)})))
	for b.Loop() {
		if _, _, err := tokens.Identify(r); err != nil {
			b.Fatal(err)
		}
	}
}
