package apikey

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

// Claim is the claim of an Identity that says by which key it has signed in.
const Claim = "api_key"

var (
	_ authn.Source = (*Keys)(nil)
	_ authn.Method = Bearer{}
)

// Authenticate implements authn.Source: the password is a key, and user its owner.
func (k *Keys) Authenticate(ctx context.Context, user, password string) (authz.Identity, error) {
	who, err := k.verify(ctx, password)
	if err == nil && who.ID != user {
		return authz.Identity{}, refused("it's another user's")
	}
	return who, err
}

// Bearer is the Method of the header "Authorization: Bearer" with a key.
type Bearer struct{ Keys *Keys }

// Identify implements authn.Method.
func (b Bearer) Identify(r *http.Request) (who authz.Identity, found bool, err error) {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if key = strings.Trim(key, " "); !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(key, Prefix) {
		return authz.Identity{}, false, nil
	}
	who, err = b.Keys.verify(r.Context(), key)
	return who, true, err
}

// verify returns who signs in by the key, as of now.
func (k *Keys) verify(ctx context.Context, key string) (authz.Identity, error) {
	id, ok := parse(key)
	if !ok {
		return authz.Identity{}, refused("there's none like that")
	}
	r, err := k.recognize(ctx, id, key)
	if err != nil {
		return authz.Identity{}, err
	}
	return k.identity(ctx, r)
}

// recognize returns the record of a key. What was never seen to be one may be made up,
// and counts for authn.Limits if it is: anybody can make as many as they like, and each
// costs a question to the state.
func (k *Keys) recognize(ctx context.Context, id ID, key string) (r *record, err error) {
	find := func() (err error) {
		r, err = k.find(ctx, id)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return refused("it's unknown, or was revoked")
		case err == nil && !matches(r.Hash, key):
			return refused("it's another one")
		}
		return err
	}
	if last, ok := k.known.Get(id); k.isUnknown(id) || ok && matches(last.record.Hash, key) {
		err = find()
	} else {
		err = authn.LookUp(ctx, find)
	}
	return r, err
}

// isUnknown reports whether there's no such key, as of unknownFor ago or later.
func (k *Keys) isUnknown(id ID) bool {
	at, ok := k.unknown.Get(id)
	return ok && time.Since(at) < unknownFor
}

// identity is who has the key whose record it is.
func (k *Keys) identity(ctx context.Context, r *record) (authz.Identity, error) {
	now := time.Now()
	if r.over(now) {
		return authz.Identity{}, refused("it has expired")
	}
	if err := k.parentStands(ctx, r); err != nil {
		return authz.Identity{}, err
	}
	groups, err := k.ownersGroups(ctx, r)
	if err != nil {
		return authz.Identity{}, err
	}
	k.touch(ctx, r, now)
	return authz.Identity{
		ID: r.Owner, Provider: r.Provider, Groups: groups,
		Claims: map[string]any{Claim: string(r.ID)}, Limit: r.limit(),
	}, nil
}

// parentStands refuses a key if the one that has created it is gone: to revoke that
// takes several steps, of which the first counts.
func (k *Keys) parentStands(ctx context.Context, r *record) error {
	for r.Parent != "" {
		parent, err := k.find(ctx, r.Parent)
		if errors.Is(err, fs.ErrNotExist) {
			return refused("the one that has created it was revoked")
		}
		if err != nil {
			return err
		}
		r = parent
	}
	return nil
}

// Standing returns who as of now, or ErrRefused if the key by which it had signed in
// was revoked, or the account is gone. Of who has neither it's errors.ErrUnsupported.
func (k *Keys) Standing(ctx context.Context, who authz.Identity) (authz.Identity, error) {
	claim, byKey := who.Claims[Claim].(string)
	if !byKey {
		return k.account(ctx, who)
	}
	id := ID(claim)
	if !id.ok() {
		return authz.Identity{}, refused("there's none like that")
	}
	r, err := k.find(ctx, id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return authz.Identity{}, refused("it was revoked")
	case err != nil:
		return authz.Identity{}, err
	case r.Owner != who.ID || r.Provider != who.Provider:
		return authz.Identity{}, refused("it's another user's")
	}
	return k.identity(ctx, r)
}

// known is what the state has said of a key.
type known struct {
	record *record
	at     time.Time
}

// find returns a key's record as of freshFor ago or later.
func (k *Keys) find(ctx context.Context, id ID) (*record, error) {
	if k.isUnknown(id) {
		return nil, notThere(id)
	}
	if n, ok := k.known.Get(id); ok && time.Since(n.at) < freshFor {
		return n.record, nil
	}
	v, err, _ := k.asking.Do("key "+string(id), func() (any, error) {
		whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		at := time.Now()
		r, err := k.load(whole, id)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			k.gone(id, at)
			return nil, notThere(id)
		case err != nil:
			return nil, err
		}
		k.known.Add(id, &known{r, at})
		return r, nil
	})
	if err != nil {
		return nil, err
	}
	r, _ := v.(*record)
	return r, nil
}

// gone keeps in mind that there's no such key.
func (k *Keys) gone(id ID, at time.Time) {
	k.unknown.Add(id, at)
	k.known.Remove(id)
}

func notThere(id ID) error { return fmt.Errorf("key %s: %w", id, fs.ErrNotExist) }

// touch writes down now and then that a key is used and that its owner is there. It's
// no reason to refuse anybody if that fails, and isn't tried again soon.
func (k *Keys) touch(ctx context.Context, r *record, now time.Time) {
	if now.Sub(r.LastUsed) < touchEvery {
		return
	}
	if at, ok := k.touched.Get(r.ID); ok && now.Sub(at) < touchEvery/6 {
		return
	}
	k.touched.Add(r.ID, now)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	next := *r
	next.LastUsed = now.UTC().Truncate(time.Second)
	if o, ok := k.owners.Get(account{r.Provider, r.Owner}); ok && o.seen.After(r.Confirmed) {
		next.Confirmed, next.Groups = o.seen.UTC(), o.who.Groups
	}
	switch err := k.save(ctx, &next); {
	case err == nil:
		k.known.Add(r.ID, &known{&next, now})
	case errors.Is(err, keep.ErrChanged):
		k.known.Remove(r.ID)
	default:
		k.opts.Log.WarnContext(ctx, "when an API key was used last can't be written down", slog.Any("error", err))
	}
}

func refused(why string) error { return fmt.Errorf("%w: an API key: %s", authn.ErrRefused, why) }
