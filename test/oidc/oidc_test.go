//go:build real

// Package oidc signs in at a real OpenID provider with a real browser.
package oidc

import (
	"context"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
	"github.com/caddy-oci/oci-registry/authz/authn/oidc"
	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/test/registry"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// site is a page that says who asks, with a way in and a way out.
type site struct {
	*httptest.Server
	login *oidc.Login
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	if s.login.Serves(r.URL.Path) {
		s.login.ServeHTTP(w, r)
		return
	}
	who, _, err := s.login.Identify(r)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, `<p id="who">%s by %s, %t</p><form method="post" action="/auth/logout"><button>Sign out</button></form>`,
		html.EscapeString(who.ID), html.EscapeString(who.Provider), err == nil)
}

// startProvider starts the provider on a port, for sites with these callbacks, and
// returns its issuer.
func startProvider(t *testing.T, port string, callbacks ...string) string {
	t.Helper()
	program := tool.Find(t, "server")
	program.Env = append(program.Env, "PORT="+port, "REDIRECT_URI="+strings.Join(callbacks, ","))
	server := program.Start()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	place := "http://localhost:" + port + "/"
	err := server.Until(ctx, func(ctx context.Context) error { return ask(ctx, place+".well-known/openid-configuration") })
	if err != nil {
		t.Fatal(err)
	}
	return place
}

// ask fails unless somebody answers.
func ask(ctx context.Context, place string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// newSite starts a site and its provider.
func newSite(t *testing.T) *site {
	t.Helper()
	s := new(site)
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	keys := oidc.StoredRing(new(keep.Memory), "sessions/keys", 24*time.Hour, 12*time.Hour)
	_, port, _ := strings.Cut(registry.FreeAddress(t), ":") // the provider takes a number, and not a listener
	var err error
	s.login, err = oidc.New(oidc.Config{
		Registry: "test", Keys: keys, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Providers: []oidc.Provider{{
			Name: "zitadel", Issuer: issuer.Options{URL: startProvider(t, port, s.URL+"/auth/callback/zitadel")},
			ClientID: "web", Secret: func() (string, error) { return "secret", nil },
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fill fills in the provider's form, with a password.
func fill(t *testing.T, b *tool.Browser, password string) {
	t.Helper()
	b.Until(`document.getElementById("password") !== null`)
	script := fmt.Sprintf(`document.getElementById("username").value = "test-user@localhost";
		document.getElementById("password").value = %q; document.querySelector("button").click()`, password)
	if _, err := b.Eval(script); err != nil {
		t.Fatal(err)
	}
}

func TestSigningInWithABrowser(t *testing.T) {
	s := newSite(t)
	b := tool.Chromium(t)
	who := func(text string) string {
		return fmt.Sprintf(`location.pathname + location.search === "/ui?a=b" && document.getElementById("who").textContent === %q`, text)
	}
	b.Open(s.URL + "/ui?a=b")
	b.Until(who(" by , true"))

	b.Open(s.URL + "/auth/login?return_to=" + url.QueryEscape("/ui?a=b"))
	fill(t, b, "wrong")
	b.Until(`document.body !== null && document.body.innerText.includes("wrong")`)
	fill(t, b, "verysecure")
	b.Until(who("test-user@zitadel.ch by zitadel, true"))

	// A script of the page can't read the session.
	if cookies, err := b.Eval("document.cookie"); err != nil || cookies != "" {
		t.Errorf("%q, %v", cookies, err)
	}
	// Nor can another site end it, though its form gets here.
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method="post" action="%s/auth/logout"><button>A prize</button></form>`, s.URL)
	}))
	t.Cleanup(other.Close)
	b.Open(strings.Replace(other.URL, "127.0.0.1", "localhost", 1)) // another site, not just another port
	b.Until(`document.querySelector("button") !== null`)
	if _, err := b.Eval(`document.querySelector("button").click()`); err != nil {
		t.Fatal(err)
	}
	b.Until(`document.body !== null && document.body.innerText.includes("another site")`)
	b.Open(s.URL + "/ui?a=b")
	b.Until(who("test-user@zitadel.ch by zitadel, true"))

	// The site itself can, and the provider ends its own.
	if _, err := b.Eval(`document.querySelector("button").click()`); err != nil {
		t.Fatal(err)
	}
	b.Until(`location.hostname === "localhost" && document.readyState === "complete"`)
	b.Open(s.URL + "/ui?a=b")
	b.Until(who(" by , true"))
}
