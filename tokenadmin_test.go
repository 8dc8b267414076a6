package ociregistry

import (
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

const formType = "application/x-www-form-urlencoded"

// refreshToken gets one for alice, which is good for how many seconds its tokens are.
func (w *web) refreshToken(t *testing.T) (refresh string, expiresIn int) {
	t.Helper()
	form := url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"secret"}, "service": {w.addr}, "client_id": {"x"}, "access_type": {"offline"}}
	a := w.want(t, http.StatusOK, http.MethodPost, "/v2/token", form.Encode(), "Content-Type", formType)
	var got struct {
		Refresh string `json:"refresh_token"`
		Expires int    `json:"expires_in"`
	}
	decode(t, a, &got)
	return got.Refresh, got.Expires
}

func (w *web) wantRefresh(t *testing.T, status int, refresh string) {
	t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "service": {w.addr}, "client_id": {"x"}}
	w.want(t, status, http.MethodPost, "/v2/token", form.Encode(), "Content-Type", formType)
}

// The commands end tokens, and the audit log says so.
func TestTokenCommands(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "audit.log")
	admin := w.runWithAdmin(t, "log audit {\noutput file "+file+"\nformat json\ninclude oci_registry.audit\n}\nlog default {\noutput discard\n}", withAuth(htpasswdAlice(t)))
	run := func(wrong string, args ...string) {
		t.Helper()
		out, err := admin.command(t, append([]string{"tokens"}, args...)...)
		if wrong == "" && (err != nil || out != "") || wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)) {
			t.Errorf("%s: %s %v, want %q", args, out, err, wrong)
		}
	}
	token := w.token(t, "", "Authorization", alice)
	refresh, _ := w.refreshToken(t)
	run("", "revoke", "bob")
	run("", "revoke", "user@htpasswd:bob")
	run("no provider of that name", "revoke", "--provider", "ldap", "alice")
	run("no provider of that name", "revoke", "user@ldap:alice")
	run("whose?", "revoke", "")
	run("there's no registry", "revoke", "--name", "none", "alice")
	w.wantRefresh(t, http.StatusOK, refresh)
	run("", "revoke", "--provider", "oci_htpasswd", "alice")
	w.wantRefresh(t, http.StatusUnauthorized, refresh)
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", token)
	run("", "replace-keys")
	w.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/", "", "Authorization", token)
	w.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", w.token(t, "", "Authorization", alice))
	stop(t)
	var got []string
	for _, line := range readLog(t, file) {
		var a struct {
			Msg, Registry, By, Owner string
			Provider                 string `json:"owner_provider"`
		}
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		if a.By != "" {
			got = append(got, strings.Join([]string{a.Registry, a.By, a.Msg, a.Owner, a.Provider}, ","))
		}
	}
	const by = "inline,admin API,"
	want := []string{
		by + "refresh tokens revoked,bob,htpasswd", by + "refresh tokens revoked,bob,htpasswd",
		by + "refresh tokens revoked,alice,htpasswd", by + "token keys replaced,,",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the audit log says %q, want %q", got, want)
	}
}

func TestTokenCommandsWithoutTokens(t *testing.T) {
	w := newWeb(t)
	admin := w.runWithAdmin(t, "", withAuth(htpasswdAlice(t), "anonymous none"))
	if _, err := admin.command(t, "tokens", "replace-keys"); err == nil || !strings.Contains(err.Error(), "registry inline gives no tokens") {
		t.Errorf("error %v", err)
	}
}

// Tokens are good for as long as the option says.
func TestTokenLives(t *testing.T) {
	w := newWeb(t)
	for option, want := range map[string]struct {
		life    int
		refresh bool
	}{
		"":                                       {300, true},
		"tokens {\nlife 90s\n}":                  {90, true},
		"tokens {\nrefresh_life 8h\n}":           {300, true},
		"tokens {\nlife 1h\nrefresh_life off\n}": {3600, false},
	} {
		w.run(t, "", withAuth(htpasswdAlice(t)+"\n"+option))
		if refresh, life := w.refreshToken(t); life != want.life || (refresh != "") != want.refresh {
			t.Errorf("%q: tokens for %d s, refresh token %t", option, life, refresh != "")
		}
	}
	err := validate(t, w.config(t, "", withAuth(htpasswdAlice(t)+"\nchallenge basic\ntokens {\nlife 90s\n}")))
	if err == nil || !strings.Contains(err.Error(), "write 'challenge bearer', or leave tokens out") {
		t.Errorf("without tokens: %v", err)
	}
	for _, wrong := range []Tokens{
		{Life: caddy.Duration(time.Second)},
		{Life: caddy.Duration(25 * time.Hour)},
		{Life: -1},
		{RefreshLife: caddy.Duration(time.Minute)},
		{RefreshLife: caddy.Duration(366 * 24 * time.Hour)},
		{RefreshLife: -2},
	} {
		if err := wrong.check(); err == nil || !strings.Contains(err.Error(), "want 1") {
			t.Errorf("%+v: %v", wrong, err)
		}
	}
}
