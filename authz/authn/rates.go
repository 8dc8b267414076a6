package authn

import (
	"net/netip"
	"sync"
	"time"

	"github.com/caddy-oci/oci-registry/authz"
)

// RateOptions configure Rates.
type RateOptions struct {
	// PerIdentity is how often one user may ask, wherever they are. Default: no limit.
	PerIdentity Rate

	// PerAddress is how often anybody may ask from one address, which is a /64 of
	// IPv6. An office is one address, too. Default: no limit.
	PerAddress Rate

	// Max is how many users and how many addresses are counted; the ones that were
	// longest quiet are forgotten. Default: 16,384.
	Max int
}

// Rates limit how often somebody may ask for something, be it granted or not. They are
// safe for concurrent use.
type Rates struct {
	mu         sync.Mutex
	identities *buckets[identity] // nil without a limit
	addresses  *buckets[netip.Addr]
}

type identity struct{ provider, id string }

// NewRates returns Rates that have counted nothing yet.
func NewRates(opts RateOptions) *Rates {
	if opts.Max <= 0 {
		opts.Max = maxBuckets
	}
	r := &Rates{}
	if opts.PerIdentity != (Rate{}) {
		r.identities = newBuckets[identity](opts.PerIdentity, opts.Max)
	}
	if opts.PerAddress != (Rate{}) {
		r.addresses = newBuckets[netip.Addr](opts.PerAddress, opts.Max)
	}
	return r
}

// Allow counts a request of who from client. If it's one too many, the error is an
// *oci.Error with oci.TooManyRequests and RetryAfter, and it isn't counted.
func (r *Rates) Allow(who authz.Identity, client netip.Addr) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, id, address := time.Now(), identity{who.Provider, who.ID}, customer(client)
	byName, byAddress := r.identities != nil && !who.IsAnonymous(), r.addresses != nil
	var wait time.Duration
	if byName {
		wait = r.identities.wait(id, now)
	}
	if byAddress {
		wait = max(wait, r.addresses.wait(address, now))
	}
	if wait > 0 {
		return tooMany(wait, "slow down")
	}
	if byName {
		r.identities.take(id, now)
	}
	if byAddress {
		r.addresses.take(address, now)
	}
	return nil
}
