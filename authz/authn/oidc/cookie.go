package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/authz/authn"
)

// maxCookie is the size of the largest value of a cookie, in bytes: browsers keep
// 4096 together with its name.
const maxCookie = 3800

// seal returns v in a form that unseal knows again, if it's for the same purpose.
func (l *Login) seal(ctx context.Context, purpose string, v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	key, signature, err := l.config.Keys.Sign(ctx, l.message(purpose, data))
	if err != nil {
		return "", fmt.Errorf("sign a cookie: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return key + "." + encode(data) + "." + encode(signature), nil
}

// unseal refuses what this registry hasn't sealed for this purpose.
func (l *Login) unseal(ctx context.Context, purpose, value string, v any) error {
	key, rest, _ := strings.Cut(value, ".")
	payload, sig, ok := strings.Cut(rest, ".")
	if !ok || len(value) > maxCookie {
		return refuse("the cookie isn't one of ours")
	}
	decode := base64.RawURLEncoding.Strict().DecodeString
	data, err := decode(payload)
	if err != nil {
		return refuse("the cookie isn't one of ours")
	}
	signature, err := decode(sig)
	if err != nil {
		return refuse("the cookie isn't one of ours")
	}
	ok, err = l.config.Keys.Verify(ctx, key, l.message(purpose, data), signature)
	if err != nil {
		return fmt.Errorf("verify a cookie: %w", err)
	}
	if !ok {
		return refuse("the cookie isn't signed with a key of this registry")
	}
	if err := json.Unmarshal(data, v); err != nil {
		return refuse("the cookie isn't one of ours")
	}
	return nil
}

// message is what is signed. A cookie of one purpose, or one registry, is nothing to another.
func (l *Login) message(purpose string, data []byte) []byte {
	return fmt.Appendf(nil, "oci-registry %s %q %s", purpose, l.config.Registry, data)
}

// cookie returns the only cookie of a name, or "".
//
// A browser sends two if another site of the same domain has put one there.
func cookie(r *http.Request, name string) (string, error) {
	switch all := r.CookiesNamed(name); len(all) {
	case 0:
		return "", nil
	case 1:
		return all[0].Value, nil
	}
	return "", refuse("more than one cookie of the same name")
}

// setCookie gives the browser a cookie, or takes it away if the value is empty.
func (l *Login) setCookie(w http.ResponseWriter, r *http.Request, name, value string, age time.Duration) {
	scheme, _ := l.config.Origin(r)
	c := &http.Cookie{ //nolint:gosec // Secure where the site is
		Name: name, Value: value, Path: "/", MaxAge: int(age / time.Second),
		HttpOnly: true, Secure: scheme == "https", SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// cookieName has the registry in it: several can be on one host, whose ports and
// paths cookies don't tell apart. By the prefix browsers refuse one that another
// host has set, or plain HTTP.
func (l *Login) cookieName(r *http.Request, purpose string) string {
	name := "oci_" + purpose + "_" + l.tag
	if scheme, _ := l.config.Origin(r); scheme == "https" {
		return "__Host-" + name
	}
	return name
}

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", authn.ErrRefused, fmt.Errorf(format, args...))
}
