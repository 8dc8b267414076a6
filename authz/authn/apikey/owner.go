package apikey

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
)

// account is a user of a provider.
type account struct{ provider, user string }

// owner is what a source has said of an account.
type owner struct {
	who     authz.Identity // as of seen; zero if it was never seen
	seen    time.Time      // when the source last said that it's there
	err     error          // of the last time it was asked
	checked time.Time      // when that was
}

// retryAfter is when a source is asked again that couldn't say.
const retryAfter = 30 * time.Second

// fresh reports whether the source needn't be asked again.
func (o *owner) fresh(freshFor time.Duration) bool {
	if o.err != nil && !errors.Is(o.err, authn.ErrRefused) {
		freshFor = retryAfter
	}
	return time.Since(o.checked) < freshFor
}

// owner returns what its source says of an account, as of OwnersFreshFor ago or later;
// false if there's nobody to ask.
func (k *Keys) owner(ctx context.Context, a account) (*owner, bool) {
	d := k.opts.Directory(a.provider)
	if d == nil {
		return nil, false
	}
	last, ok := k.owners.Get(a)
	if !ok {
		last = new(owner)
	}
	if !last.fresh(k.opts.OwnersFreshFor) {
		asked := k.asking.DoChan("owner "+a.provider+"\x00"+a.user, func() (any, error) {
			now := lookUp(ctx, d, a.user, last)
			k.owners.Add(a, now)
			return now, nil
		})
		select {
		case now := <-asked:
			last, _ = now.Val.(*owner)
		case <-ctx.Done():
			return &owner{who: last.who, seen: last.seen, err: ctx.Err()}, true
		}
	}
	return last, !errors.Is(last.err, errors.ErrUnsupported)
}

func lookUp(ctx context.Context, d authn.Directory, user string, last *owner) *owner {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	now := &owner{who: last.who, seen: last.seen, checked: time.Now()}
	who, err := d.Lookup(ctx, user)
	if now.err = err; err == nil {
		now.who, now.seen = who, now.checked
	}
	return now
}

// ownersGroups returns the groups of a key's owner, who is there. While the source
// can't say, those that it last said count for Grace.
func (k *Keys) ownersGroups(ctx context.Context, r *record) ([]string, error) {
	o, ok := k.owner(ctx, account{r.Provider, r.Owner})
	switch {
	case !ok && r.Expires.Sub(r.Created) > k.opts.UncheckedLife: // there was somebody to ask when it was made
		return nil, refused("nobody can say any more whether its owner is there")
	case !ok:
		return r.Groups, nil
	case o.err == nil:
		return o.who.Groups, nil
	case errors.Is(o.err, authn.ErrRefused):
		return nil, refused("its owner's account is gone")
	}
	seen, groups := o.seen, o.who.Groups
	if r.Confirmed.After(seen) {
		seen, groups = r.Confirmed, r.Groups
	}
	if time.Since(seen) > k.opts.Grace || r.Orphaned.After(seen) {
		return nil, fmt.Errorf("whether %s is there still: %w", r.Owner, o.err)
	}
	return groups, nil
}

// account returns who as its source has it now.
func (k *Keys) account(ctx context.Context, who authz.Identity) (authz.Identity, error) {
	o, ok := k.owner(ctx, account{who.Provider, who.ID})
	if !ok {
		return authz.Identity{}, fmt.Errorf("accounts of %s: %w", who.Provider, errors.ErrUnsupported)
	}
	return o.who, o.err
}
