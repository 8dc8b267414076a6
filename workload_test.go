//go:build !noworkload

package ociregistry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// signer signs tokens of an issuer whose public key is in a file.
func signer(t *testing.T, file string) func(claims map[string]any) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(claims map[string]any) string {
		raw, err := jwt.Signed(s).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
}

// A job's token is a bearer and a password, for what its claims say, and one for
// somebody else is refused.
func TestWorkloadProvider(t *testing.T) {
	w := newWeb(t)
	file := filepath.Join(t.TempDir(), "keys.pem")
	sign := signer(t, file)
	w.run(t, "", withAuth(`provider oci_workload {
				issuer https://ci.example.com {
					keys_file `+file+`
					audience registry.example.com
					validate `+"`claims.ref == \"refs/heads/main\"`"+`
					user claims.sub
					groups claims.teams
				}
			}`, "policy {\n\t\t\tallow pull ** to *\n\t\t\tallow pull push team/** to group:builders\n\t\t}"))
	claims := func(changes ...any) map[string]any {
		c := map[string]any{
			"iss": "https://ci.example.com", "sub": "project/main", "aud": "registry.example.com", "ref": "refs/heads/main",
			"teams": []string{"builders"}, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		}
		for i := 0; i < len(changes); i += 2 {
			c[changes[i].(string)] = changes[i+1]
		}
		return c
	}
	for name, tc := range map[string]struct {
		claims map[string]any
		want   int
	}{
		"right":          {claims(), http.StatusAccepted},
		"another team":   {claims("teams", []string{"others"}), http.StatusForbidden},
		"for another":    {claims("aud", "other.example.com"), http.StatusUnauthorized},
		"another branch": {claims("ref", "refs/heads/x"), http.StatusUnauthorized},
		"expired":        {claims("exp", time.Now().Add(-time.Hour).Unix()), http.StatusUnauthorized},
		"another issuer": {claims("iss", "https://evil.example.com"), http.StatusUnauthorized},
	} {
		raw := sign(tc.claims)
		for _, authorization := range []string{"Bearer " + raw, basic("whoever", raw)} {
			a, err := w.send(t.Context(), http.MethodPost, "/v2/team/app/blobs/uploads/", "", "Authorization", authorization)
			if err != nil || a.StatusCode != tc.want {
				t.Errorf("%s, as %s: %v %s %s, want %d", name, strings.Fields(authorization)[0], err, a.Status, a.body, tc.want)
			}
		}
	}
	token := w.token(t, "repository:team/app:pull,push", "Authorization", basic("whoever", sign(claims())))
	w.want(t, http.StatusAccepted, http.MethodPost, "/v2/team/app/blobs/uploads/", "", "Authorization", token)
}

func TestWorkloadProviderRefuses(t *testing.T) {
	w := newWeb(t)
	for block, want := range map[string]string{
		"":                                    "oci_workload trusts nobody",
		"{\nissuer https://ci.example.com\n}": "at least one audience",
		"{\nissuer http://ci.example.com {\naudience a\n}\n}":                           "http",
		"{\nissuer https://ci.example.com {\naudience a\nuser claims.\n}\n}":            "user",
		"{\nissuer spiffe://example.org {\naudience a\n}\n}":                            "needs a JWKS URL",
		"{\nissuer https://ci.example.com {\naudience a\nkeys_file /no/such/file\n}\n}": "/no/such/file",
	} {
		if err := validate(t, w.config(t, "", withAuth("provider oci_workload "+block))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\nerr = %v\nwant %s", block, err, want)
		}
	}
}

// Everybody gets a token of GitHub, GitLab and others: with nothing to say which are meant,
// and no policy, the registry would be everybody's.
func TestPublicIssuers(t *testing.T) {
	w := newWeb(t)
	const validation = "validate `claims.repository_owner == \"example\"`"
	const toUsers, toAll = "policy {\nallow pull push app/** to example/app\n}", "policy {\nallow pull ** to authenticated\n}"
	for _, tc := range []struct {
		issuer, block, policy string
		refused, warned       string
	}{
		{"https://token.actions.githubusercontent.com", "", "", "may do everything", ""},
		{"https://gitlab.com/", "", "", "validate", ""},
		{"https://GitLab.com", "", "", "validate", ""},
		{"https://oauth2.sigstore.dev/auth", "", "", "validate", ""},
		{"https://token.actions.githubusercontent.com", validation, "", "", ""},
		{"https://token.actions.githubusercontent.com", "", toUsers, "", ""},
		{"https://token.actions.githubusercontent.com", "", toAll, "", "whoever has one"},
		{"https://token.actions.githubusercontent.com", validation, toAll, "", ""},
		{"https://ci.example.com", "", "", "", "may do everything"},
		{"https://ci.example.com", "", toAll, "", ""},
	} {
		site := withAuth("provider oci_workload {\nissuer "+tc.issuer+" {\naudience registry.example.com\n"+tc.block+"\n}\n}", tc.policy)
		if tc.refused != "" {
			if err := validate(t, w.config(t, "", site)); err == nil || !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("%+v: %v", tc, err)
			}
			continue
		}
		if log := w.validated(t, site); strings.Contains(log, "oci_workload: ") != (tc.warned != "") || !strings.Contains(log, tc.warned) {
			t.Errorf("%+v: the log has %q", tc, log)
		}
	}
}
