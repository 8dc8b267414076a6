package ociregistry

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// apiKey makes a key.
func (w *web) apiKey(t *testing.T, wanted string, header ...string) (id, key string) {
	t.Helper()
	a := w.want(t, http.StatusCreated, http.MethodPost, apiKeysPath, wanted, append(header, "Content-Type", "application/json")...)
	var got struct{ ID, Key string }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.ID == "" || got.Key == "" {
		t.Fatalf("%v in %s", err, a.body)
	}
	return got.ID, got.Key
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// A key is a password of its owner's, for what it was made for, until it's revoked;
// so is a token that it was shown for.
func TestAPIKeys(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)+"\n\t\t\tapi_keys"))
	id, key := w.apiKey(t, `{"label":"ci","scopes":[{"repositories":"team/**","actions":["pull","push"]}]}`, "Authorization", alice)
	for authorization, status := range map[string]int{
		basic("alice", key): http.StatusAccepted,
		"Bearer " + key:     http.StatusAccepted,
		basic("bob", key):   http.StatusUnauthorized,
		basic("", key):      http.StatusUnauthorized,
		basic("alice", key[:len(key)-1]+string('a'+(key[len(key)-1]-'a'+1)%26)): http.StatusUnauthorized,
		basic("alice", "ork_"): http.StatusUnauthorized,
	} {
		w.want(t, status, http.MethodPost, "/v2/team/app/blobs/uploads/", "", "Authorization", authorization)
	}
	a := w.want(t, http.StatusForbidden, http.MethodPost, "/v2/other/blobs/uploads/", "", "Authorization", basic("alice", key))
	if !strings.Contains(a.body, "scopes") {
		t.Errorf("the refusal is %s", a.body)
	}
	token := w.token(t, "repository:team/app:pull,push repository:other:pull,push", "Authorization", basic("alice", key))
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/team/app/blobs/uploads/", "", "Authorization", token)
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/other/blobs/uploads/", "", "Authorization", token)

	w.want(t, http.StatusUnauthorized, http.MethodGet, apiKeysPath, "")
	if a := w.want(t, http.StatusOK, http.MethodGet, apiKeysPath, "", "Authorization", alice); !strings.Contains(a.body, id) || strings.Contains(a.body, key) {
		t.Errorf("the list is %s", a.body)
	}
	w.want(t, http.StatusNoContent, http.MethodDelete, apiKeysPath+"/"+id, "", "Authorization", alice)
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/team/app/blobs/uploads/", "", "Authorization", basic("alice", key))
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/team/app/blobs/uploads/", "", "Authorization", "Bearer "+key)
}

// A key that's good no more isn't shown to who knows passwords, where it would be a
// wrong one.
func TestAPIKeysAreNobodyElsesPasswords(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)+"\n\t\t\tapi_keys"))
	id, key := w.apiKey(t, `{}`, "Authorization", alice)
	w.want(t, http.StatusNoContent, http.MethodDelete, apiKeysPath+"/"+id, "", "Authorization", alice)
	for range 12 { // more than may be wrong
		w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/", "", "Authorization", basic("alice", key))
	}
}

// An admin is whom an admin rule names, and without a policy nobody is.
func TestAPIKeysOfOthers(t *testing.T) {
	w := newWeb(t)
	users := "provider http_basic {\n\t\t\t\talice " + aliceHash + "\n\t\t\t\troot " + aliceHash + "\n\t\t\t}\n\t\t\tapi_keys"
	w.run(t, "", withAuth(users))
	id, key := w.apiKey(t, `{}`, "Authorization", alice)
	w.want(t, http.StatusForbidden, http.MethodGet, apiKeysPath+"?all=true", "", "Authorization", as("root"))
	w.want(t, http.StatusNotFound, http.MethodDelete, apiKeysPath+"/"+id, "", "Authorization", as("root"))

	w.run(t, "", withAuth(users, "policy {\n\t\t\tallow pull push ** to authenticated\n\t\t\tadmin delete to root\n\t\t}"))
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", basic("alice", key)) // keys outlive reloads
	w.want(t, http.StatusForbidden, http.MethodGet, apiKeysPath+"?all=true", "", "Authorization", alice)
	if a := w.want(t, http.StatusOK, http.MethodGet, apiKeysPath+"?all=true", "", "Authorization", as("root")); !strings.Contains(a.body, id) {
		t.Errorf("root sees %s", a.body)
	}
	w.want(t, http.StatusNoContent, http.MethodDelete, apiKeysPath+"/"+id, "", "Authorization", as("root"))
	w.want(t, http.StatusUnauthorized, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", basic("alice", key))
}

// Without the option there are no keys, and nothing at their path.
func TestNoAPIKeys(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)))
	w.want(t, http.StatusNotFound, http.MethodGet, apiKeysPath, "", "Authorization", alice)
}

// A token that was got for a key ends with the key, not when it expires.
func TestRevokedKeyEndsTokens(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)+"\n\t\t\tapi_keys"))
	id, key := w.apiKey(t, `{}`, "Authorization", alice)
	token := w.token(t, "repository:a:pull,push", "Authorization", basic("alice", key))
	own := w.token(t, "repository:a:pull,push", "Authorization", alice)
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", token)
	w.want(t, http.StatusNoContent, http.MethodDelete, apiKeysPath+"/"+id, "", "Authorization", alice)
	w.refusedSoon(t, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", token)
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", own)
}

// What a user got ends within seconds of the account: tokens, keys, and tokens for keys.
func TestAccountEndsKeysAndTokens(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as it takes to notice")
	}
	w := newWeb(t)
	provider := htpasswdAlice(t)
	w.run(t, "", withAuth(provider+"\n\t\t\tapi_keys"))
	_, key := w.apiKey(t, `{}`, "Authorization", alice)
	all := []string{
		w.token(t, "repository:a:pull,push", "Authorization", alice),
		w.token(t, "repository:a:pull,push", "Authorization", basic("alice", key)),
		basic("alice", key),
	}
	for _, authorization := range all {
		w.want(t, http.StatusAccepted, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", authorization)
	}
	if err := os.WriteFile(strings.TrimPrefix(provider, "provider oci_htpasswd "), []byte("bob:"+aliceHash+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, authorization := range all {
		w.refusedSoon(t, http.MethodPost, "/v2/a/blobs/uploads/", "", "Authorization", authorization)
	}
}

// A key's scopes bind the token that it's shown for, and a client is told that it needs
// another one, and for what.
func TestLimitedTokenIsInsufficient(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)+"\n\t\t\tapi_keys"))
	_, key := w.apiKey(t, `{"scopes":[{"repositories":"team/**","actions":["pull"]}]}`, "Authorization", alice)
	token := w.token(t, "repository:team/app:pull,push", "Authorization", basic("alice", key))
	scope, problem := w.challenged(t, http.MethodPost, "/v2/team/app/blobs/uploads/", "Authorization", token)
	if scope != "repository:team/app:pull,push" || problem != "insufficient_scope" {
		t.Errorf("a push wants a token for %q (%s)", scope, problem)
	}
}

// A key that is sent as a bearer and isn't for what is asked is refused, wherever tokens
// are given: there's nothing else to sign in with.
func TestLimitedKeyIsDenied(t *testing.T) {
	w := newWeb(t)
	for _, challenge := range []string{"basic", "bearer"} {
		w.run(t, "", withAuth(htpasswdAlice(t)+"\n\t\t\tapi_keys\n\t\t\tchallenge "+challenge))
		_, key := w.apiKey(t, `{"scopes":[{"repositories":"team/**","actions":["pull"]}]}`, "Authorization", alice)
		for _, authorization := range []string{"Bearer " + key, basic("alice", key)} {
			a := w.want(t, http.StatusForbidden, http.MethodPost, "/v2/team/app/blobs/uploads/", "", "Authorization", authorization)
			if !strings.Contains(a.body, "scopes of the credential") || !strings.Contains(a.body, "DENIED") || a.Header.Get("Www-Authenticate") != "" {
				t.Errorf("%s: %v %s", challenge, a.Header, a.body)
			}
			w.want(t, http.StatusNotFound, http.MethodGet, "/v2/team/app/tags/list", "", "Authorization", authorization)
		}
	}
}

// Certificates aren't asked for, and keys are: else who has one and no certificate would
// never be asked for it.
func TestKeysBesideCertificates(t *testing.T) {
	w := newWeb(t)
	for options, want := range map[string]string{
		"api_keys":                        `Bearer realm="http://` + w.addr + `/v2/token"`,
		"api_keys\n\t\t\tchallenge basic": `Basic realm="registry"`,
		"api_keys\n\t\t\tchallenge basic\nrealm House": `Basic realm="House"`,
		"":            "",
		"realm House": "",
	} {
		w.run(t, "", withAuth("provider oci_mtls\n\t\t\t"+options))
		status := map[bool]int{true: http.StatusForbidden, false: http.StatusUnauthorized}[want == ""]
		a := w.want(t, status, http.MethodPost, "/v2/a/blobs/uploads/", "")
		if got := a.Header.Get("Www-Authenticate"); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: asked with %q, want %s", options, got, want)
		}
	}
}

// What a person is told is told wherever a password is asked for.
func TestRealmBesideTokens(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)+"\n\t\t\tapi_keys\n\t\t\trealm House"))
	for _, path := range []string{"/v2/token", apiKeysPath} {
		a := w.want(t, http.StatusUnauthorized, http.MethodGet, path, "", "Authorization", wrongPassword)
		if got := a.Header.Get("Www-Authenticate"); !strings.HasPrefix(got, `Basic realm="House"`) {
			t.Errorf("%s: asked with %q", path, got)
		}
	}
}
