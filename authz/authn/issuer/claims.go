package issuer

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"
)

// Claims are what a token says. Whole numbers are int64, others float64.
type Claims map[string]any

// LooksLikeToken reports whether s could be a signed JWT, at a glance.
func LooksLikeToken(s string) bool {
	return strings.HasPrefix(s, "eyJ") && strings.Count(s, ".") == 2
}

// Peek returns what a token says, true or not: nothing has been verified. It is for
// finding out whose token it may be.
func Peek(raw string) (Claims, bool) {
	if len(raw) > MaxToken || !LooksLikeToken(raw) {
		return nil, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil {
		return nil, false
	}
	claims, err := parseClaims(payload)
	return claims, err == nil
}

// parseClaims refuses what two parsers could understand differently: names that
// come twice, or something behind the object.
func parseClaims(payload []byte) (Claims, error) {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.SetNumberType(json.UnmarshalIntOrFloat)
	var claims map[string]any
	if err := dec.Decode(&claims); err != nil || claims == nil || dec.More() {
		return nil, refuse("the token's claims aren't a JSON object")
	}
	return claims, nil
}

// String returns a claim that's a string, or "".
func (c Claims) String(name string) string {
	s, _ := c[name].(string)
	return s
}

// Strings returns a claim that's a string or a list of them.
func (c Claims) Strings(name string) []string {
	switch v := c[name].(type) {
	case string:
		return []string{v}
	case []any:
		all := make([]string, 0, len(v))
		for _, e := range v {
			if s, ok := e.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}

// IsFor reports whether the token is for one of the audiences.
func (c Claims) IsFor(audiences ...string) bool {
	return slices.ContainsFunc(c.Strings("aud"), func(s string) bool { return slices.Contains(audiences, s) })
}

// Expiry returns when the token ends to be valid. Verify has checked that it's there.
func (c Claims) Expiry() time.Time {
	t, _ := c.instant("exp")
	return t
}

// lastInstant is the end of the year 9999.
const lastInstant = 253402300799

// instant returns a claim that's a time, and whether it's there.
func (c Claims) instant(name string) (time.Time, bool) {
	var seconds int64
	switch v := c[name].(type) {
	case int64:
		seconds = v
	case float64:
		if v < 0 || v > lastInstant {
			return time.Time{}, false
		}
		seconds = int64(v)
	}
	if seconds <= 0 || seconds > lastInstant {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0), true
}

// checkTime refuses a token that isn't valid at a time, give or take the Leeway.
func (c Claims) checkTime(now time.Time) error {
	expiry, ok := c.instant("exp")
	if !ok {
		return refuse("the token doesn't say when it expires")
	}
	if !now.Before(expiry.Add(Leeway)) {
		return refuse("the token has expired at %s", expiry.UTC().Format(time.RFC3339))
	}
	for _, name := range []string{"nbf", "iat"} {
		if _, ok := c[name]; !ok {
			continue
		}
		if t, ok := c.instant(name); !ok || now.Add(Leeway).Before(t) {
			return refuse("the token isn't valid yet (%s)", name)
		}
	}
	return nil
}
