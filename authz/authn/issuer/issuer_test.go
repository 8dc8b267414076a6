package issuer_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer/issuertest"
)

func newIssuer(t *testing.T, o issuer.Options) *issuer.Issuer {
	t.Helper()
	i, err := issuer.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestEveryAsymmetricAlgorithm(t *testing.T) {
	t.Parallel()
	for _, alg := range []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	} {
		t.Run(string(alg), func(t *testing.T) {
			t.Parallel()
			srv := issuertest.New(t)
			srv.Use(issuertest.NewKey(t, alg))
			claims, err := newIssuer(t, issuer.Options{URL: srv.URL}).Verify(t.Context(), srv.Sign(t, srv.Claims("us", nil)))
			if err != nil || claims.String("sub") != "somebody" || !claims.IsFor("us") {
				t.Fatalf("%v, %v", claims, err)
			}
		})
	}
}

// segment is a part of a token.
func segment(v any) string {
	data, _ := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(data)
}

func signHMAC(secret []byte, header, payload string) string {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(header + "." + payload))
	return header + "." + payload + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// publicKeys are the forms in which somebody could take a public key for HMAC's.
func publicKeys(t *testing.T, k issuertest.Key) [][]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := k.Public()
	jwk, err := public.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), jwk, nil}
}

func TestForgedTokens(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	i := newIssuer(t, issuer.Options{URL: srv.URL})
	good := srv.Claims("us", nil)
	key, stranger := srv.Key(), issuertest.NewKey(t, jose.ES256)
	genuine := key.Sign(t, good, nil)
	parts := strings.Split(genuine, ".")
	same := stranger
	same.ID = key.ID
	nameless := stranger
	nameless.ID = ""
	payload := segment(good)

	attacks := map[string]string{
		"none":               segment(map[string]any{"alg": "none"}) + "." + payload + ".",
		"None":               segment(map[string]any{"alg": "None", "kid": key.ID}) + "." + payload + ".",
		"none signed":        segment(map[string]any{"alg": "none", "kid": key.ID}) + "." + payload + "." + parts[2],
		"no alg":             segment(map[string]any{"kid": key.ID}) + "." + payload + "." + parts[2],
		"no signature":       parts[0] + "." + parts[1] + ".",
		"other payload":      parts[0] + "." + segment(map[string]any{"iss": srv.URL, "sub": "admin", "aud": "us"}) + "." + parts[2],
		"other header":       segment(map[string]any{"alg": "ES256", "kid": key.ID, "x": 1}) + "." + parts[1] + "." + parts[2],
		"a stranger's key":   stranger.Sign(t, good, nil),
		"with our kid":       same.Sign(t, good, nil),
		"without kid":        nameless.Sign(t, good, nil),
		"key in the header":  stranger.Sign(t, good, map[jose.HeaderKey]any{"jwk": stranger.Public()}),
		"keys elsewhere":     stranger.Sign(t, good, map[jose.HeaderKey]any{"jku": srv.URL + "/mine"}),
		"kid is a path":      segment(map[string]any{"alg": "ES256", "kid": "../../etc/passwd"}) + "." + payload + "." + parts[2],
		"truncated":          genuine[:len(genuine)-2],
		"with more behind":   genuine + "A",
		"four parts":         genuine + "." + parts[2],
		"empty":              "",
		"dots":               "..",
		"as JSON":            fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, parts[1], parts[0], parts[2]),
		"encrypted":          "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d",
		"zero of ECDSA":      parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"nothing of ECDSA":   parts[0] + "." + parts[1] + ".AA",
		"another algorithm":  segment(map[string]any{"alg": "ES384", "kid": key.ID}) + "." + payload + "." + parts[2],
		"larger than 64 KiB": key.Sign(t, srv.Claims("us", map[string]any{"x": strings.Repeat("x", issuer.MaxToken)}), nil),
	}
	for n, secret := range publicKeys(t, key) {
		header := segment(map[string]any{"alg": "HS256", "kid": key.ID})
		attacks[fmt.Sprintf("HS256 with the public key %d", n)] = signHMAC(secret, header, payload)
	}
	for name, raw := range attacks {
		if claims, err := i.Verify(t.Context(), raw); !errors.Is(err, authn.ErrRefused) || claims != nil {
			t.Errorf("%s: %v, %v", name, claims, err)
		} else if raw != "" && strings.Contains(err.Error(), raw) {
			t.Errorf("%s: the error has the token in it", name)
		}
	}
	if _, err := i.Verify(t.Context(), genuine); err != nil {
		t.Errorf("the genuine one: %v", err)
	}
}

func TestWhatAGenuineTokenMustSay(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	i := newIssuer(t, issuer.Options{URL: srv.URL})
	now := time.Now()
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for _, c := range []struct {
		name    string
		claims  map[string]any
		refused bool
	}{
		{"as it is", nil, false},
		{"expired a moment ago", map[string]any{"exp": in(-10 * time.Second)}, false},
		{"expired", map[string]any{"exp": in(-time.Minute)}, true},
		{"never expires", map[string]any{"exp": nil}, true},
		{"expires at zero", map[string]any{"exp": 0}, true},
		{"expires at less", map[string]any{"exp": -1}, true},
		{"expires at a word", map[string]any{"exp": "tomorrow"}, true},
		{"expires at digits in a string", map[string]any{"exp": fmt.Sprint(in(time.Hour))}, true},
		{"expires beyond all times", map[string]any{"exp": 1e300}, true},
		{"expires in a fraction", map[string]any{"exp": float64(in(time.Hour)) + 0.5}, false},
		{"not yet, by a moment", map[string]any{"nbf": in(10 * time.Second)}, false},
		{"not yet", map[string]any{"nbf": in(time.Minute)}, true},
		{"not before a word", map[string]any{"nbf": "now"}, true},
		{"no nbf and iat", map[string]any{"nbf": nil, "iat": nil}, false},
		{"issued in the future", map[string]any{"iat": in(time.Minute)}, true},
		{"issued by another", map[string]any{"iss": "https://issuer.example"}, true},
		{"issued with a slash", map[string]any{"iss": srv.URL + "/"}, true},
		{"issued by a list", map[string]any{"iss": []string{srv.URL}}, true},
		{"issued by nobody", map[string]any{"iss": nil}, true},
	} {
		_, err := i.Verify(t.Context(), srv.Sign(t, srv.Claims("us", c.claims)))
		if c.refused && !errors.Is(err, authn.ErrRefused) || !c.refused && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	i := newIssuer(t, issuer.Options{URL: srv.URL})
	for _, c := range []struct {
		header  map[jose.HeaderKey]any
		refused bool
	}{
		{map[jose.HeaderKey]any{"typ": "JWT"}, false},
		{map[jose.HeaderKey]any{"typ": "JOSE"}, false},
		{map[jose.HeaderKey]any{"typ": "at+jwt"}, false},
		{map[jose.HeaderKey]any{"typ": "application/at+JWT"}, false},
		{map[jose.HeaderKey]any{"typ": "logout+jwt"}, true},
		{map[jose.HeaderKey]any{"typ": "dpop+jwt"}, true},
		{map[jose.HeaderKey]any{"typ": 7}, true},
		{map[jose.HeaderKey]any{"crit": []string{"exp"}, "exp": 7}, true},
		{map[jose.HeaderKey]any{"crit": []string{"b64"}, "b64": true}, true},
	} {
		_, err := i.Verify(t.Context(), srv.Key().Sign(t, srv.Claims("us", nil), c.header))
		if c.refused && !errors.Is(err, authn.ErrRefused) || !c.refused && err != nil {
			t.Errorf("%v: %v", c.header, err)
		}
	}
}

// raw signs a payload as it is.
func raw(t *testing.T, k issuertest.Key, payload string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.Algorithm, Key: k.Private},
		(&jose.SignerOptions{}).WithHeader("kid", k.ID))
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	s, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPayloadsThatAreNoObject(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	i := newIssuer(t, issuer.Options{URL: srv.URL})
	object := fmt.Sprintf(`{"iss":%q,"exp":%d}`, srv.URL, time.Now().Add(time.Minute).Unix())
	if _, err := i.Verify(t.Context(), raw(t, srv.Key(), object)); err != nil {
		t.Fatalf("an object: %v", err)
	}
	for _, payload := range []string{
		"", "null", "[]", `"x"`, "{", object + object, strings.Replace(object, "{", `{"iss":"x",`, 1), strings.Repeat("[", 10_000),
	} {
		if _, err := i.Verify(t.Context(), raw(t, srv.Key(), payload)); !errors.Is(err, authn.ErrRefused) {
			t.Errorf("%.60s: %v", payload, err)
		}
	}
}

func TestNumbersStayWhatTheyAre(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	claims, err := newIssuer(t, issuer.Options{URL: srv.URL}).Verify(t.Context(),
		srv.Sign(t, srv.Claims("us", map[string]any{"id": int64(9007199254740993), "half": 0.5})))
	if err != nil || claims["id"] != int64(9007199254740993) || claims["half"] != 0.5 {
		t.Fatalf("%v, %v", claims, err)
	}
}

func TestTrustDomain(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	i := newIssuer(t, issuer.Options{TrustDomain: "example.org", JWKSURL: srv.URL + "/keys"})
	for sub, ok := range map[string]bool{
		"spiffe://example.org/ns/ci/sa/build": true,
		"spiffe://example.org":                false,
		"spiffe://example.org.evil/x":         false,
		"spiffe://other.org/x":                false,
		"example.org/x":                       false,
		"":                                    false,
	} {
		_, err := i.Verify(t.Context(), srv.Sign(t, srv.Claims("us", map[string]any{"sub": sub, "iss": nil})))
		if ok != (err == nil) || !ok && !errors.Is(err, authn.ErrRefused) {
			t.Errorf("%q: %v", sub, err)
		}
	}
}

// symmetric is a key that must never verify anything.
func symmetric(secret []byte) map[string]any {
	return map[string]any{"kty": "oct", "alg": "HS256", "kid": "h", "k": base64.RawURLEncoding.EncodeToString(secret)}
}

func TestKeysThatArePassedOver(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	weak := weakKey(t)
	encryption, certificates := issuertest.NewKey(t, jose.ES256), issuertest.NewKey(t, jose.ES256)
	svid, pinned := issuertest.NewKey(t, jose.ES256), issuertest.NewKey(t, jose.RS256)
	use := func(k issuertest.Key, use string) jose.JSONWebKey {
		jwk := k.Public()
		jwk.Use = use
		return jwk
	}
	srv.Publish(symmetric([]byte("secret")), map[string]any{"kty": "AKP", "alg": "ML-DSA-44"}, "no key", 7,
		map[string]any{"kty": "OKP", "crv": "Ed448", "x": "AA"},
		weak.Public(), use(encryption, "enc"), use(certificates, "x509-svid"), use(svid, "jwt-svid"), pinned.Public(),
		jose.JSONWebKey{Key: encryption.Private, KeyID: "private"})
	i := newIssuer(t, issuer.Options{URL: srv.URL})
	claims := srv.Claims("us", nil)
	otherwise := pinned
	otherwise.Algorithm = jose.PS256
	for name, c := range map[string]struct {
		raw string
		ok  bool
	}{
		"the issuer's":    {srv.Sign(t, claims), true},
		"of SPIFFE":       {svid.Sign(t, claims, nil), true},
		"pinned":          {pinned.Sign(t, claims, nil), true},
		"otherwise":       {otherwise.Sign(t, claims, nil), false},
		"weak":            {weak.Sign(t, claims, nil), false},
		"for encryption":  {encryption.Sign(t, claims, nil), false},
		"for certificate": {certificates.Sign(t, claims, nil), false},
		"symmetric":       {signHMAC([]byte("secret"), segment(map[string]any{"alg": "HS256", "kid": "h"}), segment(claims)), false},
	} {
		if _, err := i.Verify(t.Context(), c.raw); c.ok != (err == nil) || !c.ok && !errors.Is(err, authn.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPeek(t *testing.T) {
	t.Parallel()
	srv := issuertest.New(t)
	stranger := issuertest.NewKey(t, jose.ES256)
	claims, ok := issuer.Peek(stranger.Sign(t, srv.Claims("us", nil), nil))
	if !ok || claims.String("iss") != srv.URL {
		t.Errorf("%v, %t", claims, ok)
	}
	for _, s := range []string{"", "secret", "ork_x", "..", "eyJ..", "eyJ.e30", "eyJ.!.x", "eyJ.bnVsbA.x", strings.Repeat("eyJ.", 20_000)} {
		if c, ok := issuer.Peek(s); ok {
			t.Errorf("%.40q says %v", s, c)
		}
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	c := issuer.Claims{"one": "a", "many": []any{"a", 7, "b"}, "number": int64(7), "aud": []any{"x", "y"}}
	if c.String("one") != "a" || c.String("many") != "" || c.String("none") != "" {
		t.Error("String")
	}
	if got := fmt.Sprint(c.Strings("one"), c.Strings("many"), c.Strings("number"), c.Strings("none")); got != "[a] [a b] [] []" {
		t.Errorf("Strings: %s", got)
	}
	if !c.IsFor("z", "y") || c.IsFor("z") || c.IsFor() || (issuer.Claims{}).IsFor("") || (issuer.Claims{"aud": "xy"}).IsFor("x") {
		t.Error("IsFor")
	}
	maps.Copy(c, issuer.Claims{"exp": int64(7)})
	if !c.Expiry().Equal(time.Unix(7, 0)) {
		t.Error("Expiry")
	}
}

// weakKey is an RSA key that's too short.
func weakKey(t *testing.T) issuertest.Key {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return issuertest.Key{ID: "weak", Algorithm: jose.RS256, Private: key}
}
