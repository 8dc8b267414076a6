package ociregistry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/internal/clientaddr"
	"github.com/caddy-oci/oci-registry/internal/option"
)

// Rate is how often something may be: so many times at once, and then once more after
// each of such times.
type Rate struct {
	// Burst is how many times at once. Required.
	Burst int `json:"burst,omitempty"`

	// Every is after how long there may be one more. Required.
	Every caddy.Duration `json:"every,omitempty"`
}

// RateLimit is how often clients may ask for anything, be it granted or not. What's too
// many is answered 429, with Retry-After. A reload isn't a fresh start, unless it changes
// the limit.
type RateLimit struct {
	// PerUser is for one user, wherever they are. Default: no limit.
	PerUser *Rate `json:"per_user,omitempty"`

	// PerAddress is for one address, which is a /64 of IPv6. Default: no limit.
	PerAddress *Rate `json:"per_address,omitempty"`
}

// LoginLimits are how often credentials may be wrong. What comes after that is answered
// 429, with Retry-After. A reload isn't a fresh start, unless it changes the limits.
type LoginLimits struct {
	// PerUser is for one name from one address. Default: 10, and one every 10s.
	PerUser *Rate `json:"per_user,omitempty"`

	// PerAddress is for one address, which is a /64 of IPv6. Default: 100, and one every 1s.
	PerAddress *Rate `json:"per_address,omitempty"`

	// Delay is how long the answer to wrong credentials is held back. Default: 1s.
	Delay caddy.Duration `json:"delay,omitempty"`
}

// rateLimit parses
//
//	rate_limit {
//		per_user BURST EVERY
//		per_address BURST EVERY
//	}
func rateLimit(to **RateLimit) option.Parser {
	return func(d *caddyfile.Dispenser) error {
		l := new(RateLimit)
		*to = l
		return option.Block(d, option.Set{"per_user": rate(&l.PerUser), "per_address": rate(&l.PerAddress)})
	}
}

// loginLimits parses
//
//	limits {
//		per_user BURST EVERY
//		per_address BURST EVERY
//		delay DURATION
//	}
func loginLimits(to **LoginLimits) option.Parser {
	return func(d *caddyfile.Dispenser) error {
		l := new(LoginLimits)
		*to = l
		return option.Block(d, option.Set{"per_user": rate(&l.PerUser), "per_address": rate(&l.PerAddress), "delay": option.Duration(&l.Delay)})
	}
}

// rate parses BURST EVERY.
func rate(to **Rate) option.Parser {
	return func(d *caddyfile.Dispenser) error {
		const want = "BURST EVERY, like 100 1s: 100 at once, and then one each second"
		name := d.Val()
		burst, err := option.Argument(d, want)
		if err != nil {
			return err
		}
		if !d.NextArg() {
			return d.Errf("%s %s: want %s %s", name, burst, name, want)
		}
		n, err := strconv.Atoi(burst)
		every, derr := caddy.ParseDuration(d.Val())
		r := &Rate{n, caddy.Duration(every)}
		if err != nil || derr != nil || r.check() != nil {
			return d.Errf("%s %s %s: want %s %s", name, burst, d.Val(), name, want)
		}
		*to = r
		return nil
	}
}

// check refuses what can't be meant. There may be none.
func (r *Rate) check() error {
	if r != nil && (r.Burst <= 0 || r.Every <= 0) {
		return fmt.Errorf("burst %d, every %v: want both above 0; leave the limit out for its default", r.Burst, time.Duration(r.Every))
	}
	return nil
}

// rate is it as package authn has it; zero if there's none.
func (r *Rate) rate() authn.Rate {
	if r == nil {
		return authn.Rate{}
	}
	return authn.Rate{Burst: r.Burst, Every: time.Duration(r.Every)}
}

// options are those of package authn. There may be none.
func (l *LoginLimits) options() authn.LimitOptions {
	o := authn.LimitOptions{Client: clientaddr.Of}
	if l != nil {
		o.PerUser, o.PerAddress, o.Delay = l.PerUser.rate(), l.PerAddress.rate(), time.Duration(l.Delay)
	}
	return o
}

// checkLimits refuses limits that can't be meant.
func (r *Registry) checkLimits() error {
	var rates []*Rate
	if l := r.RateLimit; l != nil {
		if l.PerUser == nil && l.PerAddress == nil {
			return errors.New("rate_limit limits nothing: want per_user BURST EVERY, per_address BURST EVERY or both")
		}
		rates = append(rates, l.PerUser, l.PerAddress)
	}
	if r.Auth != nil && r.Auth.Limits != nil {
		rates = append(rates, r.Auth.Limits.PerUser, r.Auth.Limits.PerAddress)
	}
	for _, one := range rates {
		if err := one.check(); err != nil {
			return err
		}
	}
	return nil
}

// ratePool has what was counted of requests, by registry and limit. It outlives
// configurations.
var ratePool = caddy.NewUsagePool()

// rates are what was counted of the requests to a registry; nil if that isn't limited.
// Addresses are counted before it's known who it is.
type rates struct{ users, addresses *authn.Rates }

// acquireRates takes a share in what was counted. Once everybody has released theirs it's
// forgotten.
func acquireRates(name string, limit *RateLimit) (shared *rates, release func()) {
	if limit == nil {
		return nil, func() {}
	}
	key := limitsKey(name, limit)
	all, _ := ratePool.LoadOrStore(key, &rates{
		users:     authn.NewRates(authn.RateOptions{PerIdentity: limit.PerUser.rate()}),
		addresses: authn.NewRates(authn.RateOptions{PerAddress: limit.PerAddress.rate()}),
	})
	shared, _ = all.(*rates)
	return shared, sync.OnceFunc(func() { _, _ = ratePool.Delete(key) }) // there's nothing to be closed
}

// limitsKey is what's counted for the limits of a registry is known by.
func limitsKey(name string, limits any) string {
	text, _ := json.Marshal(limits) // numbers can be written
	return name + " " + string(text)
}

// address counts a request, of whoever it is. Its error is for the client.
func (l *rates) address(r *http.Request) error {
	if l == nil {
		return nil
	}
	return l.addresses.Allow(authz.Identity{}, clientaddr.Of(r))
}

// user counts a request of who. Its error is for the client.
func (l *rates) user(who authz.Identity) error {
	if l == nil {
		return nil
	}
	return l.users.Allow(who, netip.Addr{})
}
