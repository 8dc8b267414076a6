package ociregistry

import (
	"crypto/tls"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestOrigin(t *testing.T) {
	t.Parallel()
	forwarded := http.Header{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"registry.example.com"}}
	for _, tc := range []struct {
		name     string
		external string
		tls      bool
		trusted  bool
		header   http.Header
		want     string
	}{
		{name: "request", want: "http://inside:5000"},
		{name: "TLS", tls: true, want: "https://inside:5000"},
		{name: "external_url", external: "https://a.example.com:8443/", trusted: true, header: forwarded, want: "https://a.example.com:8443"},
		{name: "untrusted", header: forwarded, want: "http://inside:5000"},
		{name: "trusted", trusted: true, header: forwarded, want: "https://registry.example.com"},
		{name: "trusted, silent", trusted: true, tls: true, want: "https://inside:5000"},
		{name: "the nearest proxy counts", trusted: true, header: http.Header{
			"X-Forwarded-Proto": {"ftp, http", "http, https"}, "X-Forwarded-Host": {"evil.example.com, b.example.com:5001"},
		}, want: "https://b.example.com:5001"},
		{name: "nonsense", trusted: true, header: http.Header{
			"X-Forwarded-Proto": {"javascript"}, "X-Forwarded-Host": {`x"><script>`},
		}, want: "http://inside:5000"},
		{name: "IPv6", trusted: true, header: http.Header{"X-Forwarded-Host": {"[2001:db8::1]:5000"}}, want: "http://[2001:db8::1]:5000"},
		{name: "userinfo", trusted: true, header: http.Header{"X-Forwarded-Host": {"inside:5000@evil.example.com"}}, want: "http://inside:5000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://inside:5000/", nil)
			if tc.tls {
				r.TLS = new(tls.ConnectionState)
			}
			maps.Copy(r.Header, tc.header)
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, new(caddyhttp.Server))
			caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, tc.trusted)
			scheme, host := (&Registry{externalURL: tc.external}).origin(r)
			if got := scheme + "://" + host; got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// The page, in a whole Caddy, knows where it is from proxies that are trusted.
func TestPage(t *testing.T) {
	w := newWeb(t)
	for _, tc := range []struct {
		name, global string
		readOnly     string
		want, absent string
	}{
		{"itself", "", "false", "docker push " + w.addr + "/hello", "insecure-registries"},
		{"untrusted proxy", "", "false", "docker pull " + w.addr + "/hello", "registry.example.com"},
		{"trusted proxy", "servers {\ntrusted_proxies static 127.0.0.1/32\n}", "false", "docker pull registry.example.com/hello", w.addr},
		{"read-only", "", "true", "docker pull " + w.addr + "/hello", "docker push"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			config := quiet(t, w.config(t, tc.global, "respond nothing"))
			load(t, withJSON(t, config, `[{"handle":[{"handler":"oci_registry","page":true,"read_only":`+tc.readOnly+`,"storage":{"module":"memory"}}]}]`,
				"apps", "http", "servers", "srv0", "routes"))
			a := w.want(t, http.StatusOK, http.MethodGet, "/", "", "X-Forwarded-Host", "registry.example.com", "X-Forwarded-Proto", "https")
			if !strings.Contains(a.body, tc.want) || strings.Contains(a.body, tc.absent) {
				t.Errorf("the page has no %q, or has %q:\n%s", tc.want, tc.absent, a.body)
			}
			if strings.Contains(a.body, "src=") || !strings.Contains(a.Header.Get("Content-Security-Policy"), "default-src 'none'") {
				t.Errorf("the page may load something: %v\n%s", a.Header, a.body)
			}
			w.want(t, http.StatusMethodNotAllowed, http.MethodPost, "/", "")
		})
	}
}

func TestPageSaysHowToTrustPlainHTTP(t *testing.T) {
	t.Parallel()
	h := &Handler{Page: true, registry: &Registry{lease: new(leases)}}
	rec := serveOnce(t, h, http.MethodGet, "http://build.example.com:5000/")
	if want := `{"insecure-registries": ["build.example.com:5000"]}`; !strings.Contains(rec.Body.String(), want) {
		t.Errorf("the page has no %s:\n%s", want, rec.Body)
	}
}
