package ociregistry

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"
)

// Each test here is one attack on who may do what. Those on one way to sign in are beside
// what they attack:
//
//	a token that is forged, expired, or of another        authz/token: TestForgedClaims, TestForgedSignatures,
//	issuer, audience, key or algorithm                    TestForeignTokens, TestAnotherHost
//	the same, of workloads                                authz/authn/issuer: TestForgedTokens; authz/authn/workload:
//	                                                      TestRefusedTokens, TestAlgorithmConfusion
//	another user's API key, a revoked one, a wider one    authz/authn/apikey: TestKeySwap, TestReplayOfARevokedKey,
//	                                                      TestNoWiderKey, TestForgery
//	what it takes to refuse a user who isn't there        authz/authn/htpasswd: TestEveryAnswerCostsOneHash;
//	                                                      authz/authn/ldap: TestAUserWhoIsNotThereCostsTheSame
//	names that mean something to a directory              authz/authn/ldap: TestNamesAreOnlyNames
//	a certificate that nobody has verified                authz/authn/mtls: TestWhatNobodyHasVerified
//	identities in headers of a request                    TestForgedIdentity
//	cookies, open redirects, requests of other sites      authz/authn/oidc: TestCookieTheft, TestOpenRedirects,
//	                                                      TestRequestsOfOtherSites
//	paths, methods and headers at large                   handler: hardening_*_test.go; test/hardening

// Who asks finds out by the answer whether there's a user of that name.
func TestUsersCantBeEnumerated(t *testing.T) {
	w := newWeb(t)
	for challenge, path := range map[string]string{"basic": "/v2/a/tags/list", "bearer": "/v2/token"} {
		w.run(t, "", withAuth(htpasswdAlice(t)+"\n\t\t\tchallenge "+challenge+atOnce))
		for _, path := range []string{"/v2/", path} {
			there := w.want(t, http.StatusUnauthorized, http.MethodGet, path, "", "Authorization", basic("alice", "x"))
			nowhere := w.want(t, http.StatusUnauthorized, http.MethodGet, path, "", "Authorization", basic("nobody", "x"))
			there.Header.Del("Date")
			nowhere.Header.Del("Date")
			if there.body != nowhere.body || !reflect.DeepEqual(there.Header, nowhere.Header) {
				t.Errorf("%s %s: %v %s\nand %v %s", challenge, path, there.Header, there.body, nowhere.Header, nowhere.body)
			}
		}
	}
}

// A user's name is a line of the file, or two, or a hash.
func TestHtpasswdInjection(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)+atOnce))
	for _, credentials := range []string{
		"alice", "alice:", ":secret", ":", "alice\n:secret", "alice:" + aliceHash, "alice\x00:secret", " alice:secret", "alice :secret",
		"ALICE:secret", "alice:secret\n", "alice:secret\x00", "#:secret", "alice:" + aliceHash + ":secret", "*:secret", "\xff:secret",
		"../alice:secret", "alice%00:secret", "alice:" + strings.Repeat("a", 40<<10),
	} {
		authorization := "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
		a, err := w.send(t.Context(), http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", authorization)
		if err == nil && a.StatusCode != http.StatusUnauthorized && a.StatusCode != http.StatusTooManyRequests && a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%q: %s %s", credentials[:min(len(credentials), 60)], a.Status, a.body)
		}
	}
}

// Credentials are where proxies and logs see them, or come twice.
func TestCredentialsElsewhere(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t), "anonymous none"))
	token := strings.TrimPrefix(alice, "Basic ")
	for _, path := range []string{
		"/v2/a/tags/list?access_token=" + token, "/v2/a/tags/list?Authorization=" + token, "/v2/a/tags/list?account=alice&password=secret",
	} {
		w.want(t, http.StatusUnauthorized, http.MethodGet, path, "")
	}
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/a/tags/list", "", "Proxy-Authorization", alice)
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/a/tags/list", "", "Cookie", "Authorization="+alice)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.addr+"/v2/a/tags/list", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["Authorization"] = []string{alice, wrongPassword}
	resp, err := w.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("with two headers Authorization it's %s", resp.Status)
	}
}

// A path that means another repository to the policy than to the store.
func TestPathsAgainstAPolicy(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withPolicy("allow pull public/** to *\nadmin pull push to root"))
	asRoot := &web{&http.Client{Transport: sender{"", as("root"), w.Transport}}, w.addr}
	if err := asRoot.push(t.Context(), "secret", "v1", "layer"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"/v2/public/../secret/tags/list", "/v2/public/%2e%2e/secret/tags/list", "/v2/public%2f..%2fsecret/tags/list", "/v2//secret/tags/list",
		"/v2/secret/tags/list", "/v2/./secret/tags/list", "/v2/SECRET/tags/list", "/v2/public/..%5csecret/tags/list", "/v2/secret%00/tags/list",
		"/v2/secret/tags/list?repository=public/x", "/v2/public;/../secret/tags/list", "/v2/secret/manifests/v1", "/v2/%73ecret/tags/list",
	} {
		a, err := w.send(t.Context(), http.MethodGet, path, "", "X-Original-Url", "/v2/public/x/tags/list", "X-Rewrite-Url", "/v2/public/x/tags/list")
		if err != nil || a.StatusCode < 400 || strings.Contains(a.body, `"v1"`) {
			t.Errorf("%s: %v %s %s", path, err, a.Status, a.body)
		}
	}
}

// A token of one registry opens another one by the same name: both are in one Caddy.
func TestTokenOfAnotherRegistry(t *testing.T) {
	w := newWeb(t)
	auth := fmt.Sprintf("auth {\n%s\n}", htpasswdAlice(t))
	w.run(t, "oci_registry {\nregistry one {\nstorage memory one\n"+auth+"\n}\nregistry two {\nstorage memory two\n"+auth+"\n}\n}",
		"@two header X-Two yes\noci_registry @two two\noci_registry one\n")
	token := w.token(t, "repository:a:pull,push", "Authorization", alice)
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", token)
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", token, "X-Two", "yes")
}

// Who isn't in the file any more has a token, and a password that was right.
func TestUserWhoIsGone(t *testing.T) {
	w := newWeb(t)
	provider := htpasswdAlice(t)
	w.run(t, "", withAuth(provider))
	token := w.token(t, "repository:a:pull,push", "Authorization", alice)
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", token)
	if err := os.WriteFile(strings.TrimPrefix(provider, "provider oci_htpasswd "), []byte("bob:"+aliceHash+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, authorization := range []string{alice, token} {
		w.refusedSoon(t, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", authorization)
	}
}
