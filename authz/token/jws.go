package token

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn"
)

// maxToken is how long a token of ours may be, in bytes.
const maxToken = 8 << 10

// skew is how far the clocks of two replicas may be apart.
const skew = time.Minute

// errForeign is what verify returns for what isn't a token of this registry at all.
var errForeign = errors.New("no token of this registry")

// strict takes only what it would make itself, so a token is one string.
var strict = base64.RawURLEncoding.Strict()

// sign makes a token of claims, to which it adds the issuer.
func (s *keySet) sign(of kind, c claims, now time.Time) (string, error) {
	c.Issuer = s.issuer
	payload, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("the claims of a token: %w", err)
	}
	k := s.signer(now)
	signed := k.head(of) + "." + strict.EncodeToString(payload)
	return signed + "." + strict.EncodeToString(ed25519.Sign(k.private, []byte(signed))), nil
}

// verify returns the claims of a token of this registry that is good for service now.
// errForeign if it's another one's, ErrRefused if it isn't good.
func (s *Service) verify(ctx context.Context, raw string, of kind, service string) (claims, error) {
	head, payload, signature, ok := parts(raw)
	if !ok {
		return claims{}, errForeign
	}
	set, err := s.ring.current(ctx)
	if err != nil {
		return claims{}, err
	}
	k := set.byHead[head]
	if k == nil {
		if !set.meant(head, payload) {
			return claims{}, errForeign
		}
		if set = s.ring.another(ctx); set != nil {
			k = set.byHead[head]
		}
	}
	switch {
	case k == nil:
		return claims{}, refusedf("its key isn't known, or another algorithm's")
	case head != k.head(of):
		return claims{}, refusedf("it's of another kind")
	case !k.verifies(raw[:len(raw)-len(signature)-1], signature):
		return claims{}, refusedf("its signature is wrong")
	}
	return set.read(payload, service)
}

// parts are the three of a token.
func parts(raw string) (head, payload, signature string, ok bool) {
	if len(raw) > maxToken || strings.Count(raw, ".") != 2 {
		return "", "", "", false
	}
	head, rest, _ := strings.Cut(raw, ".")
	payload, signature, _ = strings.Cut(rest, ".")
	return head, payload, signature, true
}

// meant reports whether what nobody has verified says that it's of this registry.
func (s *keySet) meant(head, payload string) bool {
	var h struct {
		KeyID string `json:"kid"`
	}
	var p struct {
		Issuer string `json:"iss"`
	}
	if data, err := base64.RawURLEncoding.DecodeString(head); err == nil && json.Unmarshal(data, &h) == nil && s.byID[h.KeyID] != nil {
		return true
	}
	data, err := base64.RawURLEncoding.DecodeString(payload)
	return err == nil && json.Unmarshal(data, &p) == nil && p.Issuer == s.issuer
}

func (k *signingKey) verifies(signed, signature string) bool {
	sig, err := strict.DecodeString(signature)
	return err == nil && ed25519.Verify(k.public, []byte(signed), sig)
}

// read returns the claims of a token whose signature is right.
func (s *keySet) read(payload, service string) (claims, error) {
	var c claims
	data, err := strict.DecodeString(payload)
	if err != nil || json.Unmarshal(data, &c) != nil {
		return claims{}, refusedf("it can't be read")
	}
	switch now := time.Now(); {
	case c.Issuer != s.issuer:
		return claims{}, refusedf("it's another registry's")
	case c.Audience != service:
		return claims{}, refusedf("it isn't for %q", service)
	case c.over(now):
		return claims{}, refusedf("it has expired")
	case time.Unix(c.Issued, 0).After(now.Add(skew)):
		return claims{}, refusedf("it's from the future")
	}
	return c, nil
}

func refusedf(format string, args ...any) error {
	return fmt.Errorf("%w: a token: %s", authn.ErrRefused, fmt.Sprintf(format, args...))
}
