package workload

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn/issuer"
)

const (
	maxVerified      = 4096
	maxVerifiedToken = 16 << 10 // bytes; a larger one is verified each time
)

// verify finds out whose token it is, and until when.
func (t trust) verify(ctx context.Context, raw string) (authz.Identity, time.Time, error) {
	claims, err := t.issuer.Verify(ctx, raw)
	if err != nil {
		return authz.Identity{}, time.Time{}, err
	}
	if !claims.IsFor(t.audiences...) {
		return authz.Identity{}, time.Time{}, refuse("the token is for %q, want one for %q", claims.Strings("aud"), t.audiences)
	}
	who, err := t.mapping.identity(ctx, claims)
	if err == nil {
		err = checkNames(who)
	}
	if err != nil {
		return authz.Identity{}, time.Time{}, err
	}
	return who, claims.Expiry(), nil
}

// verified remembers whose tokens are, by a hash that's worth nothing to others.
type verified struct {
	secret []byte
	tokens *lru.Cache[[sha256.Size]byte, verifiedToken]
}

type verifiedToken struct {
	who     authz.Identity
	expiry  time.Time
	issuer  *issuer.Issuer
	version uint64 // of the issuer's keys
}

func newVerified() (*verified, error) {
	tokens, err := lru.New[[sha256.Size]byte, verifiedToken](maxVerified)
	v := &verified{secret: make([]byte, sha256.Size), tokens: tokens}
	_, _ = rand.Read(v.secret) // never fails
	return v, err
}

func (v *verified) key(raw string) (key [sha256.Size]byte) {
	h := hmac.New(sha256.New, v.secret)
	h.Write([]byte(raw))
	h.Sum(key[:0])
	return key
}

// get returns whose a token is, if it has been verified with the keys of now and
// hasn't expired since.
func (v *verified) get(ctx context.Context, key [sha256.Size]byte) (authz.Identity, bool) {
	t, ok := v.tokens.Get(key)
	if !ok {
		return authz.Identity{}, false
	}
	if !time.Now().Before(t.expiry.Add(issuer.Leeway)) || t.issuer.Version(ctx) != t.version {
		v.tokens.Remove(key)
		return authz.Identity{}, false
	}
	return t.who, true
}

func (v *verified) add(key [sha256.Size]byte, size int, t verifiedToken) {
	if size <= maxVerifiedToken {
		v.tokens.Add(key, t)
	}
}
