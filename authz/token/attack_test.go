package token_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/token"
)

// forger knows the keys of a registry.
type forger struct {
	Issuer string `json:"issuer"`
	Keys   []struct {
		ID    string `json:"id"`
		Seed  []byte `json:"seed"`
		Begin int64  `json:"begin"`
	} `json:"keys"`
}

func (w *world) forger() forger {
	w.Helper()
	data, _, err := w.opts.State.Load(w.Context(), "token/keys")
	if err != nil {
		w.Fatal(err)
	}
	var f forger
	if err := json.Unmarshal(data, &f); err != nil {
		w.Fatal(err)
	}
	return f
}

func (f forger) key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(f.Keys[0].Seed) }

func (f forger) head() string {
	return fmt.Sprintf(`{"alg":"EdDSA","kid":%q,"typ":"at+jwt"}`, f.Keys[0].ID)
}

// claims are good ones, with changes.
func (f forger) claims(changes map[string]any) string {
	c := map[string]any{
		"iss": f.Issuer, "aud": host, "sub": "alice", "p": "file", "l": []string{"r:alice"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(), "jti": "x",
	}
	maps.Copy(c, changes)
	data, _ := json.Marshal(c)
	return string(data)
}

var b64 = base64.RawURLEncoding

func sign(key ed25519.PrivateKey, head, claims string) string {
	signed := b64.EncodeToString([]byte(head)) + "." + b64.EncodeToString([]byte(claims))
	return signed + "." + b64.EncodeToString(ed25519.Sign(key, []byte(signed)))
}

func TestForgedClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	w.token("alice:secret")
	f := w.forger()
	w.accepted(w.s, sign(f.key(), f.head(), f.claims(nil))) // so what's below fails for what it says
	now := time.Now()
	for name, c := range map[string]map[string]any{
		"another audience":   {"aud": "other.example"},
		"no audience":        {"aud": ""},
		"several audiences":  {"aud": []string{host, "other.example"}},
		"another issuer":     {"iss": "x"},
		"no issuer":          {"iss": ""},
		"expired":            {"exp": now.Unix()},
		"expired long ago":   {"exp": now.Add(-time.Hour).Unix()},
		"no expiry":          {"exp": 0},
		"an expiry of words": {"exp": "never"},
		"from the future":    {"iat": now.Add(2 * time.Minute).Unix()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.in(t).refused(w.s, sign(f.key(), f.head(), f.claims(c)))
		})
	}
}

// in is the same world in another test.
func (w *world) in(t *testing.T) *world {
	there := *w
	there.T = t
	return &there
}

func TestForgedSignatures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	good := w.token("alice:secret", "repository:alice:pull")
	f := w.forger()
	public, _ := f.key().Public().(ed25519.PublicKey)
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	head, payload, signature := cut(good)
	id := f.Keys[0].ID
	encode := func(s string) string { return b64.EncodeToString([]byte(s)) }
	hs256 := func(key []byte) string {
		signed := encode(`{"alg":"HS256","kid":"`+id+`","typ":"JWT"}`) + "." + payload
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(signed))
		return signed + "." + b64.EncodeToString(mac.Sum(nil))
	}
	for name, raw := range map[string]string{
		"no signature":            head + "." + payload + ".",
		"alg none":                encode(`{"alg":"none","kid":"`+id+`"}`) + "." + payload + ".",
		"alg None":                encode(`{"alg":"None"}`) + "." + payload + ".",
		"alg none, signed":        encode(`{"alg":"none"}`) + "." + payload + "." + signature,
		"HS256 by the public key": hs256(public),
		"HS256 by nothing":        hs256(nil),
		"another key, our kid":    sign(other, f.head(), f.claims(nil)),
		"another key, its kid":    sign(other, strings.Replace(f.head(), id, "AAAAAAAA", 1), f.claims(nil)),
		"another key in the head": sign(other, `{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"`+b64.EncodeToString(other.Public().(ed25519.PublicKey))+`"},"typ":"at+jwt"}`, f.claims(nil)),
		"another key elsewhere":   sign(other, `{"alg":"EdDSA","jku":"https://evil.example/keys","typ":"at+jwt"}`, f.claims(nil)),
		"another order":           sign(f.key(), `{"kid":"`+id+`","alg":"EdDSA","typ":"at+jwt"}`, f.claims(nil)),
		"no kind":                 sign(f.key(), `{"alg":"EdDSA","kid":"`+id+`"}`, f.claims(nil)),
		"a refresh token":         sign(f.key(), strings.Replace(f.head(), "at+jwt", "refresh+jwt", 1), f.claims(nil)),
		"crit":                    sign(f.key(), `{"alg":"EdDSA","kid":"`+id+`","typ":"at+jwt","crit":["exp"]}`, f.claims(nil)),
		"changed claims":          head + "." + encode(f.claims(map[string]any{"sub": "root"})) + "." + signature,
		"another one's signature": head + "." + payload + "." + last(w.token("alice:secret")),
		"padded":                  good + "==",
		"a space":                 head + "." + payload + ". " + signature,
		"the same, otherwise":     otherwise(good),
		"no JSON":                 sign(f.key(), f.head(), "x"),
		"nothing":                 sign(f.key(), f.head(), ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.in(t).refused(w.s, raw)
		})
	}
	w.accepted(w.s, good)
}

func cut(raw string) (head, payload, signature string) {
	parts := strings.Split(raw, ".")
	return parts[0], parts[1], parts[2]
}

func last(raw string) string { return raw[strings.LastIndexByte(raw, '.')+1:] }

// otherwise has bits at its end that a decoder may ignore.
func otherwise(raw string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, raw[len(raw)-1])
	return raw[:len(raw)-1] + string(alphabet[i^1])
}

// TestForeignTokens: those of others are for other methods to know, or for nobody.
func TestForeignTokens(t *testing.T) {
	t.Parallel()
	w, elsewhere := newWorld(t, token.Options{}), newWorld(t, token.Options{})
	w.token("alice:secret")
	for name, raw := range map[string]string{
		"of another registry": elsewhere.token("alice:secret", "repository:alice:pull"),
		"of an OIDC issuer":   b64.EncodeToString([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + b64.EncodeToString([]byte(`{"iss":"https://token.actions.githubusercontent.com"}`)) + ".AAAA",
		"an API key":          "ork_abc",
		"no token":            "x",
		"nothing":             "",
		"dots":                "..",
		"huge":                strings.Repeat("a", 9<<10) + ".b.c",
		"five parts":          "a.b.c.d.e",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.in(t).foreign(w.s, raw)
		})
	}
	for _, header := range []string{"", "Bearer", "Basic eDp5", "Bearerx y.z.a"} {
		r := w.request(http.MethodGet, "/v2/", "", "Authorization", header)
		if _, found, err := w.s.Identify(r); found || err != nil {
			t.Errorf("%q: %t, %v", header, found, err)
		}
	}
}

// TestAnotherHost: a token is for the registry whose name it was got by.
func TestAnotherHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	raw := w.token("alice:secret", "repository:alice:pull")
	w.accepted(w.s, raw)
	r := w.request(http.MethodGet, "/v2/", "", "Authorization", "Bearer "+raw)
	r.Host = "other.example"
	if _, found, err := w.s.Identify(r); !found || err == nil {
		t.Errorf("%t, %v", found, err)
	}
	w.accepted(w.s, raw)
	elsewhere := newWorld(t, token.Options{State: new(keep.Memory)})
	elsewhere.token("alice:secret")
	elsewhere.foreign(elsewhere.s, raw)
}
