package apikey

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

// List returns the keys of a user, those that have expired lately included, by ID.
func (k *Keys) List(ctx context.Context, provider, user string) ([]Key, error) {
	return k.list(ctx, root+"/"+ownerWord(provider, user), func(r *record) bool {
		return r.Owner == user && r.Provider == provider
	})
}

// All returns the keys of all users. It reads each of them.
func (k *Keys) All(ctx context.Context) ([]Key, error) {
	return k.list(ctx, root, func(*record) bool { return true })
}

func (k *Keys) list(ctx context.Context, prefix string, wanted func(*record) bool) ([]Key, error) {
	keys := []Key{}
	err := k.each(ctx, prefix, func(r *record) error {
		if wanted(r) {
			keys = append(keys, r.key())
		}
		return nil
	})
	return keys, err
}

// each calls do with each record that is there. Of errors that do returns it goes on.
func (k *Keys) each(ctx context.Context, prefix string, do func(*record) error) error {
	var errs []error
	for at, err := range k.opts.State.List(ctx, prefix) {
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		id := ID(strings.ReplaceAll(strings.TrimPrefix(at, root+"/"), "/", ""))
		if !id.ok() {
			continue
		}
		r, err := k.load(ctx, id)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it was revoked since
		case err != nil:
			errs = append(errs, err)
		default:
			errs = append(errs, do(r))
		}
	}
	return errors.Join(errs...)
}

// Find returns what is known of a key, or an error that is fs.ErrNotExist.
func (k *Keys) Find(ctx context.Context, id ID) (Key, error) {
	if !id.ok() {
		return Key{}, fs.ErrNotExist
	}
	r, err := k.load(ctx, id)
	if err != nil {
		return Key{}, err
	}
	return r.key(), nil
}

// Revoke ends a key, and those that were created by it. No replica accepts them for
// longer than 2 seconds. What isn't there is fs.ErrNotExist. Whether by may do so is
// the caller's to know.
func (k *Keys) Revoke(ctx context.Context, by authz.Identity, id ID) error {
	if !id.ok() {
		return fs.ErrNotExist
	}
	r, err := k.load(ctx, id)
	if err != nil {
		return err
	}
	if err := k.remove(ctx, r); err != nil {
		return err
	}
	k.opts.Observe(ctx, Event{Revoked, r.key(), by})
	own, err := k.List(ctx, r.Provider, r.Owner)
	for _, child := range own {
		if child.Parent != id {
			continue
		}
		if rerr := k.Revoke(ctx, by, child.ID); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// remove removes a record, whatever has become of it since it was loaded.
func (k *Keys) remove(ctx context.Context, r *record) error {
	for {
		err := k.opts.State.Delete(ctx, r.ID.at(), r.version)
		if err == nil {
			k.gone(r.ID, time.Now())
		}
		if !errors.Is(err, keep.ErrChanged) {
			return err
		}
		if r, err = k.load(ctx, r.ID); err != nil {
			return err
		}
	}
}

// RevokeAll ends all keys of a user, and returns how many there were.
func (k *Keys) RevokeAll(ctx context.Context, by authz.Identity, provider, user string) (int, error) {
	own, err := k.List(ctx, provider, user)
	n := 0
	for _, key := range own {
		switch rerr := k.Revoke(ctx, by, key.ID); {
		case rerr == nil, errors.Is(rerr, fs.ErrNotExist): // with its parent
			n++
		default:
			err = errors.Join(err, rerr)
		}
	}
	return n, err
}

// Check looks after the keys: it asks whether their owners are there still, tells of
// keys that expire soon, and removes those that have expired long ago. It's for a
// schedule, hourly or so, and may be run by several replicas at once.
func (k *Keys) Check(ctx context.Context) error {
	return k.each(ctx, root, func(r *record) error {
		now := time.Now().UTC()
		if now.Sub(r.Expires) > expiredFor {
			return k.settle(ctx, r, Removed, k.remove)
		}
		if r.over(now) {
			return nil
		}
		err := k.checkOwner(ctx, r, now)
		if r.Expires.Sub(now) <= k.opts.WarnBefore && !r.Warned {
			r.Warned = true
			err = errors.Join(err, k.settle(ctx, r, Expiring, k.save))
		}
		return err
	})
}

// checkOwner writes down what has become of a key's owner, if that's news.
func (k *Keys) checkOwner(ctx context.Context, r *record, now time.Time) error {
	o, ok := k.owner(ctx, account{r.Provider, r.Owner})
	switch {
	case !ok:
		return nil
	case errors.Is(o.err, authn.ErrRefused) && r.Orphaned.IsZero():
		r.Orphaned = now
		return k.settle(ctx, r, Orphaned, k.save)
	case o.err == nil && !r.Orphaned.IsZero():
		r.Orphaned, r.Confirmed, r.Groups = time.Time{}, o.seen.UTC(), o.who.Groups
		return k.settle(ctx, r, Adopted, k.save)
	case o.err == nil && o.seen.Sub(r.Confirmed) >= touchEvery:
		r.Confirmed, r.Groups = o.seen.UTC(), o.who.Groups
		return k.settle(ctx, r, "", k.save)
	case errors.Is(o.err, authn.ErrRefused):
		return nil
	}
	return o.err
}

// settle changes a record, and tells of it if it was this process that did. Who comes
// too late leaves it for the next time.
func (k *Keys) settle(ctx context.Context, r *record, kind EventKind, do func(context.Context, *record) error) error {
	err := do(ctx, r)
	if errors.Is(err, keep.ErrChanged) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && kind != "" {
		k.opts.Observe(ctx, Event{kind, r.key(), authz.Identity{}})
	}
	return err
}
