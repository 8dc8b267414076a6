// Package apikey has API keys: passwords for machines, that a user creates, limits and
// revokes without telling anybody the user's own.
//
// A key is accepted as the password of its owner, and as a bearer token. It's as good
// as its owner's account is now: with the groups of now, and not at all once the account
// is gone. Only a hash of it is kept, in the registry's own state, which all replicas
// share; what one revokes no other accepts for longer than 2 seconds.
package apikey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/keep"
)

// Options configure Keys. State is required.
type Options struct {
	// State is where what's known of the keys is. All replicas share it.
	State keep.Store

	// Directory returns the accounts of a provider; nil if it has none. Keys of users
	// whose provider has none can't end with an account: they end when they expire.
	// Default: there are none.
	Directory func(provider string) authn.Directory

	// MaxLife is how long a key may be good, and how long one is that doesn't say.
	// Default: 365 days.
	MaxLife time.Duration

	// UncheckedLife is MaxLife for users whose provider has no accounts to look at: what
	// they have signed in with may be good for minutes. Default: 24 hours, or MaxLife if
	// that's less.
	UncheckedLife time.Duration

	// MaxKeys is how many keys a user may have, those that have expired included. Of
	// several that are made at once, at more than one replica perhaps, fewer may be made.
	// Default: 50.
	MaxKeys int

	// OwnersFreshFor is how old the knowledge of an account may be. Default: 5 minutes.
	OwnersFreshFor time.Duration

	// Grace is how long keys go on while their owners' source can't say. Default: 1 hour.
	Grace time.Duration

	// WarnBefore is how long before a key expires Check tells of it. Default: 14 days.
	WarnBefore time.Duration

	// Observe is told what has happened to keys. Default: nobody is.
	Observe func(context.Context, Event)

	// Log gets what went wrong on our side. Default: discarded.
	Log *slog.Logger
}

// Event is something that has happened to a key.
type Event struct {
	Kind EventKind
	Key  Key            // without anything secret
	By   authz.Identity // who did it; zero if the registry did
}

// EventKind says what has happened.
type EventKind string

// The kinds of events.
const (
	Created  EventKind = "created"
	Revoked  EventKind = "revoked"
	Expiring EventKind = "expiring" // it will have expired soon; once for each key
	Orphaned EventKind = "orphaned" // its owner's account is gone
	Adopted  EventKind = "adopted"  // it's there again
	Removed  EventKind = "removed"  // it has expired long ago
)

const (
	// freshFor is how old the knowledge of a key may be.
	freshFor = 2 * time.Second

	// unknownFor is for how long a key isn't looked for again that isn't there. None is
	// ever made that somebody has looked for before.
	unknownFor = time.Minute

	// touchEvery is how often it's written down that a key is used, and that its owner
	// is there.
	touchEvery = time.Hour

	// expiredFor is how long a key is listed that has expired.
	expiredFor = 30 * 24 * time.Hour

	// patience is how long one question to the state or a source may take.
	patience = 10 * time.Second

	remembered = 4096
)

func (o Options) withDefaults() (Options, error) {
	if o.State == nil {
		return o, errors.New("apikey: State is required")
	}
	setDefault(&o.MaxLife, 365*24*time.Hour)
	setDefault(&o.UncheckedLife, min(24*time.Hour, o.MaxLife))
	setDefault(&o.OwnersFreshFor, 5*time.Minute)
	setDefault(&o.Grace, time.Hour)
	setDefault(&o.WarnBefore, 14*24*time.Hour)
	if o.MaxKeys == 0 {
		o.MaxKeys = 50
	}
	if o.Directory == nil {
		o.Directory = func(string) authn.Directory { return nil }
	}
	if o.Observe == nil {
		o.Observe = func(context.Context, Event) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func setDefault(d *time.Duration, to time.Duration) {
	if *d == 0 {
		*d = to
	}
}

// Key is what is known of a key, the key itself excepted. Times are in UTC; one that's
// zero hasn't come yet.
type Key struct {
	ID       ID            `json:"id"`
	Owner    string        `json:"owner"`
	Provider string        `json:"provider"` // that knows the owner
	Label    string        `json:"label"`
	Scopes   []authz.Scope `json:"-"` // empty: all that the owner may do
	Created  time.Time     `json:"created"`
	Expires  time.Time     `json:"expires"`
	LastUsed time.Time     `json:"last_used,omitzero"` // to the hour or so

	// Parent is the key by which it was created, and with which it's revoked.
	Parent ID `json:"parent,omitempty"`
}

// record is how a key is kept.
type record struct {
	Key

	Hash   []byte  `json:"hash"`
	Scopes []scope `json:"scopes,omitempty"`

	// Groups are those of the owner at Confirmed, when the account was last seen at its
	// source. Orphaned is since when it's known to be gone.
	Groups    []string  `json:"groups,omitempty"`
	Confirmed time.Time `json:"confirmed"`
	Orphaned  time.Time `json:"orphaned,omitzero"`
	Warned    bool      `json:"warned,omitempty"` // that it expires

	version string
}

// scope is how an authz.Scope is written.
type scope struct {
	Repositories string         `json:"repositories"`
	Actions      []authz.Action `json:"actions"`
}

func scopesOf(in []authz.Scope) []scope {
	out := make([]scope, len(in))
	for i, s := range in {
		out[i] = scope(s)
	}
	return out
}

func (r *record) key() Key {
	k := r.Key
	for _, s := range r.Scopes {
		k.Scopes = append(k.Scopes, authz.Scope(s))
	}
	return k
}

// limit is never nil: by that it's seen that somebody has signed in by less than all rights.
func (r *record) limit() []authz.Scope {
	if len(r.Scopes) == 0 {
		return []authz.Scope{{Repositories: "**", Actions: everything()}}
	}
	return r.key().Scopes
}

func everything() []authz.Action {
	return []authz.Action{authz.Pull, authz.Push, authz.Overwrite, authz.Delete, authz.List}
}

func (r *record) over(now time.Time) bool { return !now.Before(r.Expires) }

// Keys are all the API keys of a registry. Only New makes them. They are safe for
// concurrent use.
type Keys struct {
	opts    Options
	known   *lru.Cache[ID, *known]
	unknown *lru.Cache[ID, time.Time] // since when; apart, since anybody can add to it
	touched *lru.Cache[ID, time.Time] // when it was last tried
	owners  *lru.Cache[account, *owner]
	asking  singleflight.Group // by key or account
}

// New returns the keys that are in opts.State.
func New(opts Options) (*Keys, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	k := &Keys{opts: opts}
	k.known, _ = lru.New[ID, *known](remembered) // it fails for a size that isn't positive
	k.unknown, _ = lru.New[ID, time.Time](remembered)
	k.touched, _ = lru.New[ID, time.Time](remembered)
	k.owners, _ = lru.New[account, *owner](remembered)
	return k, nil
}

// load returns a key's record, or an error that is fs.ErrNotExist.
func (k *Keys) load(ctx context.Context, id ID) (*record, error) {
	data, version, err := k.opts.State.Load(ctx, id.at())
	if err != nil {
		return nil, err
	}
	r := &record{version: version}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", id.at(), err)
	}
	return r, nil
}

// save replaces a key's record if nobody has since it was loaded.
func (k *Keys) save(ctx context.Context, r *record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	r.version, err = k.opts.State.Save(ctx, r.ID.at(), data, r.version)
	return err
}
