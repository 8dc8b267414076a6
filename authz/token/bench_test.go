package token_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/token"
)

// BenchmarkIdentify is what a token costs that was seen before, and one that wasn't.
func BenchmarkIdentify(b *testing.B) {
	s, err := token.New(token.Options{State: new(keep.Memory), Credentials: newPeople(), Authorizer: new(rules)})
	if err != nil {
		b.Fatal(err)
	}
	ask := func() *http.Request {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "https://"+host+"/v2/token?scope=repository:alice:pull", nil)
		r.SetBasicAuth("alice", "secret")
		return r
	}
	got := func() string {
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, ask())
		const before = `{"token":"`
		raw := rec.Body.String()[len(before):]
		for i := range raw {
			if raw[i] == '"' {
				return raw[:i]
			}
		}
		return raw
	}
	with := func(raw string) *http.Request {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "https://"+host+"/v2/", nil)
		r.Header.Set("Authorization", "Bearer "+raw)
		return r
	}
	b.Run("warm", func(b *testing.B) {
		r := with(got())
		b.ReportAllocs()
		for b.Loop() {
			if _, found, err := s.Identify(r); !found || err != nil {
				b.Fatal(found, err)
			}
		}
	})
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			r := with(got())
			b.StartTimer()
			if _, found, err := s.Identify(r); !found || err != nil {
				b.Fatal(found, err)
			}
		}
	})
}
