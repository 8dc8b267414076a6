package apikey

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/oci"
)

// Wanted says what a key is to be.
type Wanted struct {
	// Label is what its owner calls it, up to 100 bytes. Default: none.
	Label string

	// Scopes are what it's for. Default: all that its owner may do.
	Scopes []authz.Scope

	// Life is how long it's good. Default: as long as keys may be.
	Life time.Duration
}

const (
	maxLabel   = 100
	maxScopes  = 50
	maxPattern = 255
	minLife    = time.Minute
)

// Create makes a key that belongs to by, and returns it: there's no way to see it again.
//
// Who has signed in by a key may create only keys that are for no more, and no longer;
// they are revoked with it. Who has signed in by another credential that's limited, as
// by a token, may create none. Its errors are *oci.Error if they're about what was asked.
func (k *Keys) Create(ctx context.Context, by authz.Identity, want Wanted) (secret string, key Key, err error) {
	if by.IsAnonymous() {
		return "", Key{}, oci.Errorf(oci.Unauthorized, "an API key needs an owner: sign in")
	}
	if err := k.check(by, &want); err != nil {
		return "", Key{}, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	r := &record{
		Key: Key{
			ID: newID(by.Provider, by.ID), Owner: by.ID, Provider: by.Provider, Label: want.Label,
			Created: now, Expires: now.Add(want.Life),
		},
		Scopes: scopesOf(want.Scopes), Groups: by.Groups, Confirmed: now,
	}
	if err := k.bound(ctx, by, r); err != nil {
		return "", Key{}, err
	}
	if err := k.room(ctx, by, k.opts.MaxKeys-1); err != nil {
		return "", Key{}, err
	}
	secret = newKey(r.ID)
	r.Hash = hashed(secret)
	if err := k.save(ctx, r); err != nil {
		return "", Key{}, err
	}
	if err := k.mayStay(ctx, by, r); err != nil {
		return "", Key{}, errors.Join(err, k.remove(context.WithoutCancel(ctx), r))
	}
	k.opts.Observe(ctx, Event{Created, r.key(), by})
	return secret, r.key(), nil
}

// check returns what's wrong with what was asked for, and fills in what wasn't said.
func (k *Keys) check(by authz.Identity, want *Wanted) error {
	want.Label = strings.TrimSpace(want.Label)
	if len(want.Label) > maxLabel || strings.ContainsFunc(want.Label, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return badRequestf("label: want up to %d bytes of printable text", maxLabel)
	}
	most := k.opts.MaxLife
	if k.opts.Directory(by.Provider) == nil {
		most = k.opts.UncheckedLife
	}
	if want.Life == 0 {
		want.Life = most
	}
	if want.Life < minLife || want.Life > most {
		return badRequestf("an API key of yours is good for %v to %v", minLife, most)
	}
	if len(want.Scopes) > maxScopes {
		return badRequestf("more than %d scopes", maxScopes)
	}
	for _, s := range want.Scopes {
		if err := checkScope(s); err != nil {
			return err
		}
	}
	return nil
}

func checkScope(s authz.Scope) error {
	// What takes longer to match than "*" would do so at each use of the key.
	odd := func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`:{}[]\`, c) }
	if s.Repositories == "" || len(s.Repositories) > maxPattern || strings.ContainsFunc(s.Repositories, odd) {
		return badRequestf("repositories %q: want a name, or a pattern like team/**", s.Repositories)
	}
	if len(s.Actions) == 0 {
		return badRequestf("%s: no actions", s.Repositories)
	}
	for _, a := range s.Actions {
		if !slices.Contains(everything(), a) {
			return badRequestf("action %q: want pull, push, overwrite, delete or list", a)
		}
	}
	return nil
}

// bound keeps a new key within the credential by which it's created.
func (k *Keys) bound(ctx context.Context, by authz.Identity, r *record) error {
	if by.Limit == nil {
		return nil
	}
	parent, err := k.ownKey(ctx, by)
	if err != nil {
		return err
	}
	limit := parent.limit()
	if len(r.Scopes) == 0 && len(parent.Scopes) > 0 {
		return oci.Errorf(oci.Denied, "an API key that's limited creates none that isn't: say for which scopes")
	}
	for _, s := range r.Scopes {
		if !within(authz.Scope(s), limit) {
			return oci.Errorf(oci.Denied, "%s: the API key that creates this one hasn't all of it itself", s.Repositories)
		}
	}
	if r.Expires.After(parent.Expires) {
		return oci.Errorf(oci.Denied, "the API key that creates this one expires before it, at %s", parent.Expires.Format(time.RFC3339))
	}
	r.Parent = parent.ID
	return nil
}

// ownKey returns the key by which somebody has signed in.
func (k *Keys) ownKey(ctx context.Context, by authz.Identity) (*record, error) {
	claim, _ := by.Claims[Claim].(string)
	if !ID(claim).ok() {
		return nil, oci.Errorf(oci.Denied, "a token has nothing to do with API keys: sign in with a password or a session")
	}
	r, err := k.load(ctx, ID(claim))
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && (r.Owner != by.ID || r.Provider != by.Provider):
		return nil, oci.Errorf(oci.Unauthorized, "the API key was revoked")
	case err != nil:
		return nil, err
	case !slices.EqualFunc(r.limit(), by.Limit, equal): // it's a token that was got by the key
		return nil, oci.Errorf(oci.Denied, "a token has nothing to do with API keys: sign in with the key itself")
	}
	return r, nil
}

func equal(a, b authz.Scope) bool {
	return a.Repositories == b.Repositories && slices.Equal(a.Actions, b.Actions)
}

// room returns an error if the user has more than so many keys.
func (k *Keys) room(ctx context.Context, by authz.Identity, most int) error {
	own, err := k.List(ctx, by.Provider, by.ID)
	if err == nil && len(own) > most {
		err = oci.Errorf(oci.Denied, "%s has %d API keys, those included that are being made right now: revoke one", by.ID, len(own))
	}
	return err
}

// mayStay returns an error if a new key has to be taken back: several were made at once,
// of which the last one to look sees all others, or the key that has created this one
// was revoked meanwhile, by somebody who couldn't see it yet.
func (k *Keys) mayStay(ctx context.Context, by authz.Identity, r *record) error {
	if err := k.room(ctx, by, k.opts.MaxKeys); err != nil || r.Parent == "" {
		return err
	}
	_, err := k.load(ctx, r.Parent)
	if errors.Is(err, fs.ErrNotExist) {
		err = oci.Errorf(oci.Unauthorized, "the API key was revoked")
	}
	return err
}

// within reports whether all of s is in limit. It's careful: of two patterns it knows
// only in simple cases that one has all of the other.
func within(s authz.Scope, limit []authz.Scope) bool {
	for _, a := range s.Actions {
		if !slices.ContainsFunc(limit, func(l authz.Scope) bool {
			has := slices.Contains(l.Actions, a) || a == authz.List && slices.Contains(l.Actions, authz.Pull)
			return has && covers(l.Repositories, s.Repositories)
		}) {
			return false
		}
	}
	return true
}

// covers reports whether outer matches all that inner does: if it's the same, or all
// repositories, or all below a name with which inner begins.
func covers(outer, inner string) bool {
	if outer == "**" || outer == inner {
		return true
	}
	below, ok := strings.CutSuffix(outer, "/**")
	if !ok || strings.ContainsAny(below, `*?[]{}\`) {
		return false
	}
	return inner == below || strings.HasPrefix(inner, below+"/")
}

func badRequestf(format string, args ...any) error {
	return oci.WithStatus(http.StatusBadRequest, oci.Unsupported, format, args...)
}
