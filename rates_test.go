package ociregistry

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// limited asks, and reports whether that was too often.
func (w *web) limited(t *testing.T, path string, header ...string) bool {
	t.Helper()
	a, err := w.send(t.Context(), http.MethodGet, path, "", header...)
	if err != nil {
		t.Fatal(err)
	}
	wait, _ := strconv.Atoi(a.Header.Get("Retry-After"))
	if tooMany := a.StatusCode == http.StatusTooManyRequests; tooMany != (wait > 0) || tooMany != strings.Contains(a.body, "TOOMANYREQUESTS") {
		t.Fatalf("%s: %s, come back after %d s: %s", path, a.Status, wait, a.body)
	}
	return a.StatusCode == http.StatusTooManyRequests
}

// What comes too often from one address is 429 whatever it's for, and a reload changes
// that only if it changes the limit.
func TestRateOfAddresses(t *testing.T) {
	w := newWeb(t)
	limit := func(burst string) string {
		return withAuth(htpasswdAlice(t)+"\n\t\t\tapi_keys", "health /health", "rate_limit {\n\t\t\tper_address "+burst+" 1h\n\t\t}")
	}
	w.run(t, "", limit("3"))
	for i, path := range []string{"/v2/a/tags/list", "/v2/token", apiKeysPath} {
		if w.limited(t, path) {
			t.Errorf("number %d is too many", i)
		}
	}
	w.run(t, "", limit("3"))
	for _, path := range []string{"/v2/", "/v2/token", apiKeysPath} {
		if !w.limited(t, path) || !w.limited(t, path, "Authorization", alice) {
			t.Errorf("%s isn't limited", path)
		}
	}
	if w.limited(t, "/health/livez") {
		t.Error("who looks after it is kept out")
	}
	w.run(t, "", limit("4"))
	for range 10 { // a connection that the server before had accepted is served by that
		if !w.limited(t, "/v2/a/tags/list") {
			return
		}
	}
	t.Error("another limit counts what came before it")
}

// What a user asks too often is 429, wherever the user is, and nobody else pays.
func TestRateOfUsers(t *testing.T) {
	w := newWeb(t)
	users := "provider http_basic {\n\t\t\t\talice " + aliceHash + "\n\t\t\t\troot " + aliceHash + "\n\t\t\t}"
	w.run(t, "", withAuth(users, "rate_limit {\n\t\t\tper_user 3 1h\n\t\t}"))
	for i, path := range []string{"/v2/a/tags/list", "/v2/a/tags/list", "/v2/token"} {
		if w.limited(t, path, "Authorization", alice) {
			t.Errorf("number %d is too many", i)
		}
	}
	for _, path := range []string{"/v2/a/tags/list", "/v2/token"} {
		if !w.limited(t, path, "Authorization", alice) {
			t.Errorf("%s isn't limited", path)
		}
		if w.limited(t, path) || w.limited(t, path, "Authorization", as("root")) {
			t.Errorf("%s is limited for others", path)
		}
	}
}

// Tokens for a refresh token are asked for, too.
func TestRateOfRefreshes(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t), "rate_limit {\n\t\t\tper_user 3 1h\n\t\t}"))
	refresh, _ := w.refreshToken(t)
	for _, status := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
		w.wantRefresh(t, status, refresh)
	}
}

// How often passwords may be wrong can be said.
func TestLoginLimits(t *testing.T) {
	w := newWeb(t)
	w.run(t, "", withAuth(htpasswdAlice(t)+"\n\t\t\tlimits {\n\t\t\t\tper_user 2 1h\n\t\t\t\tper_address 3 1h\n\t\t\t\tdelay 1ms\n\t\t\t}"))
	for i, tooMany := range []bool{false, false, true} {
		if w.limited(t, "/v2/", "Authorization", basic("alice", strconv.Itoa(i))) != tooMany {
			t.Errorf("wrong password number %d: it's %t", i, !tooMany)
		}
	}
	for i, tooMany := range []bool{false, true} {
		if w.limited(t, "/v2/", "Authorization", basic("bob", strconv.Itoa(i))) != tooMany {
			t.Errorf("number %d of another user: it's %t", i, !tooMany)
		}
	}
}

func TestLimitsThatCantBe(t *testing.T) {
	w := newWeb(t)
	for _, block := range []string{"per_user 0 1s", "per_user x 1s", "per_user 1", "per_user", "per_user 1 0s", "per_address 1 soon", "per_address -1 1s"} {
		for _, site := range []string{
			withAuth(basicAlice, "rate_limit {\n"+block+"\n}"),
			withAuth(basicAlice + "\nlimits {\n" + block + "\n}"),
		} {
			if _, err := adapt(t, "http://:1 {\n"+site+"\n}"); err == nil || !strings.Contains(err.Error(), "BURST EVERY") {
				t.Errorf("%s: %v", block, err)
			}
		}
	}
	config := w.config(t, "", withAuth(basicAlice, "rate_limit {\nper_user 1 1s\n}"))
	broken := []byte(strings.Replace(string(config), `"burst":1,`, "", 1))
	if err := validate(t, broken); err == nil || !strings.Contains(err.Error(), "burst 0") {
		t.Errorf("without a burst: %v", err)
	}
	nothing := w.config(t, "", withAuth(basicAlice, "rate_limit {\n}"))
	if err := validate(t, nothing); err == nil || !strings.Contains(err.Error(), "rate_limit limits nothing") {
		t.Errorf("without a limit: %v", err)
	}
}
